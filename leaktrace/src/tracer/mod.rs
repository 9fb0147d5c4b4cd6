//! Owns the running trace: it takes events in, keeps what they need beside them, and attaches.
//! Must not know options, signals, or how a report is written.

mod assemble;
mod assemble_go;
mod attach;
mod attach_command;
mod attach_go;
mod by_request;
mod context;
mod coverage;
mod goroutines;
mod govern;
mod judging;
mod keeping;
mod oracle;
mod profile;
mod selectors;
mod shedding;
mod windowed;
mod without;

use std::{collections::BTreeMap, io, time::Duration};

use anyhow::Context as _;
use leaktrace_common::{counter::Counter, policy::Policy};
use rustc_hash::FxHashSet;

use crate::{
    allocators::ReturnProbes,
    attachments::Attachments,
    config::Targets,
    decode::Event,
    go_watch::GoWatch,
    host::{clock::Clock, maps::Mapping, memory},
    ledger::Ledger,
    probes::{Probes, Scope, Settings},
    source::{BATCH, Source},
    symbolize::Symbolizer,
    unwinding::Unwinding,
};
use context::Context;
use without::{Without, watch_mappings};

/// How long the beginning of a trace waits for unwind tables. What is not ready by then is walked by
/// frame pointers until it is.
const TABLES_PATIENCE: Duration = Duration::from_secs(5);

/// How long a process that executed a new image waits for the unwind tables of what it maps.
const IMAGE_PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that the smallest record takes in the ring: a free and the ring's own header of 8.
const RECORD_BYTES_MIN: usize = size_of::<leaktrace_common::event::Free>() + 8;

/// What is to be done about a process once the batch that told of it is taken in.
enum Todo {
    /// It was made by another.
    Forked { parent: u32, child: u32 },
    /// It executed a new image.
    Executed { tgid: u32 },
    /// It ended.
    Exited { tgid: u32 },
    /// It begins to execute a new image, of which nothing is mapped yet.
    Imaged { tgid: u32 },
    /// It maps a file, which may hold an allocator.
    Mapped { tgid: u32, mapping: Mapping },
}

/// What live blocks may take of our memory where nobody said: a quarter of what is left, of the host or of our control
/// group, so that a trace never is what brings a host down.
fn our_share_of_memory() -> u64 {
    memory::left_bytes(std::process::id()).map_or(u64::MAX, |left| left / 4)
}

/// Says that mappings cannot be listened to.
fn tell_unheard(error: &anyhow::Error) {
    eprintln!("leaktrace: new mappings are found by looking only: {error:#}");
}

/// The running trace.
pub struct Tracer {
    targets: Targets,
    probes: Probes,
    attachments: Attachments,
    go: attach_go::GoAttachments,
    go_watch: GoWatch,
    /// What is recorded of those that have no policy of their own; `None` where all is, of all.
    policy: Option<Policy>,
    /// What is to be told to the probes of recorded blocks.
    keeping: keeping::Keeping,
    budget: govern::Budget,
    source: Source,
    /// Batches that surely empty a ring that nobody fills meanwhile.
    ring_batches: usize,
    deferred_frees_seen: u64,
    ledger: Ledger,
    courses: judging::Courses,
    context: Context,
    symbolizer: Symbolizer,
    unwinding: Unwinding,
    clock: Clock,
    todo: Vec<Todo>,
    /// Children that were attached to while they waited at their birth, until the record of it
    /// comes.
    born: FxHashSet<u32>,
    /// Whether new images are held until all of them is mapped and probed.
    holds_images: bool,
    /// Processes whose new image is held, or is about to be.
    entering: FxHashSet<u32>,
    /// Processes that are traced if their container turns out to be meant.
    undecided: Vec<u32>,
    /// Processes that are added one by one.
    requested: by_request::Requested,
    /// Losses of the agent's own, by name.
    lost: BTreeMap<&'static str, u64>,
    /// Losses of the whole host that were reported already.
    reported_lost: BTreeMap<&'static str, u64>,
    ended_count: usize,
    began_ns: u64,
}

impl Tracer {
    /// Loads the probes and starts to listen; nobody is traced yet.
    ///
    /// # Errors
    ///
    /// When the kernel or the privileges do not allow it.
    pub fn new(targets: Targets, settings: &Settings) -> anyhow::Result<Self> {
        let clock = Clock::anchor().context("failed to read the clocks")?;
        // Before anything else, so that no mapping falls between this and the snapshots.
        let without = Without::default();
        let mapping_watch =
            (!targets.is_by_request).then(|| watch_mappings(without.clone(), false));
        let mut probes = Probes::load(settings)?;
        // Only now: who may not trace at all is told that, in one line.
        let mapping_watch = mapping_watch.and_then(|it| it.inspect_err(tell_unheard).ok());
        let source = Source::new(probes.take_ring()?).context("failed to watch the ring")?;
        Ok(Self {
            targets,
            probes,
            attachments: Attachments::new(ReturnProbes::on_this_kernel()),
            go: attach_go::GoAttachments::default(),
            go_watch: GoWatch::spawn()?,
            policy: settings.is_governed.then_some(settings.policy),
            keeping: keeping::Keeping::default(),
            budget: govern::Budget::default(),
            source,
            ring_batches: settings.ring_bytes as usize / RECORD_BYTES_MIN / BATCH + 1,
            deferred_frees_seen: 0,
            ledger: Ledger::within(our_share_of_memory()),
            courses: judging::Courses::new(settings),
            context: Context::new(mapping_watch, without),
            symbolizer: Symbolizer::spawn()?,
            unwinding: Unwinding::new()?,
            clock,
            todo: Vec::new(),
            born: FxHashSet::default(),
            holds_images: false,
            entering: FxHashSet::default(),
            undecided: Vec::new(),
            requested: by_request::Requested::default(),
            lost: BTreeMap::new(),
            reported_lost: BTreeMap::new(),
            ended_count: 0,
            began_ns: Clock::now_boot_ns(),
        })
    }

    /// Has live blocks take no more than so many bytes of our memory; before anybody is traced.
    pub fn keep_within(&mut self, memory_bytes: u64) {
        self.ledger = Ledger::within(memory_bytes);
    }

    /// Waits until the probes call or something is mapped.
    ///
    /// # Errors
    ///
    /// When the kernel can no longer be listened to.
    pub async fn wait(&self) -> io::Result<()> {
        tokio::select! {
            called = self.source.wait() => called,
            () = self.context.wait_for_mapping() => Ok(()),
        }
    }

    /// Takes in everything that waits and acts on it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub fn drain(&mut self) -> anyhow::Result<()> {
        // Frees that found no room are fetched before the ring is read to its end: then every
        // block that they free is known when they are applied.
        let now_ns = Clock::now_boot_ns();
        let late_frees = self.take_late_frees()?;
        self.drain_map_events();
        // No more than the ring held at its beginning: on a host that allocates faster than this
        // reads it has no end, and signals and reports want their turn.
        for _ in 0..self.ring_batches {
            if !self.drain_ring() {
                break;
            }
            // A full ring takes a while, in which a storm would go on unnoticed.
            self.govern(Clock::now_boot_ns())?;
        }
        self.drain_map_events();
        for (tgid, address, time_ns) in late_frees {
            self.ledger.apply_lost_free(tgid, address, time_ns);
        }
        self.tell_kept()?;
        self.do_todo();
        self.take_profiles();
        // Every record up to then is taken in, so the mappings of that time may come about.
        self.context.spaces.advance(now_ns);
        self.publish_code()?;
        self.shed_ended();
        self.forget_strangers();
        self.look_at_courses(now_ns);
        self.govern(Clock::now_boot_ns())
    }

    /// Tells the probes what traced processes map, where that or what is known of it changed.
    fn publish_code(&mut self) -> anyhow::Result<()> {
        let mut changed = self.context.spaces.take_changed();
        changed.extend(self.unwinding.take_tables(&mut self.probes)?);
        self.publish(changed)
    }

    fn publish(&mut self, tgids: FxHashSet<u32>) -> anyhow::Result<()> {
        for tgid in tgids {
            let is_live = |key| {
                self.ledger
                    .get(key)
                    .is_some_and(|it| it.exited_ns().is_none())
            };
            if !self.ledger.key(tgid).is_some_and(is_live) {
                continue;
            }
            let Context {
                spaces, modules, ..
            } = &mut self.context;
            if let Some(mappings) = spaces.get(tgid) {
                self.unwinding
                    .publish(&mut self.probes, modules, tgid, mappings)?;
            }
        }
        Ok(())
    }

    /// Waits until the tables of everything that is mapped now are in place.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    fn settle_code(&mut self) -> anyhow::Result<()> {
        self.publish_code()?;
        let waited = self.unwinding.settle(&mut self.probes, TABLES_PATIENCE)?;
        self.publish(waited)
    }

    /// Makes all that a process maps known to the probes, while it waits for that.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read or write its maps.
    pub fn settle_process(&mut self, tgid: u32) -> anyhow::Result<()> {
        if !self.targets.is_host() {
            // Before its first instruction, so that nothing of it is late. One that cannot be traced
            // is told in the report.
            let _ = self.attach_go(tgid, Scope::Process(tgid));
        }
        // Who it is and what it mapped may still lie in the rings.
        self.drain()?;
        self.context.snapshot(tgid);
        self.attach_entered(tgid);
        self.publish_code()?;
        let waited = self
            .unwinding
            .settle_process(&mut self.probes, tgid, IMAGE_PATIENCE)?;
        self.publish(waited)
    }

    fn take_late_frees(&mut self) -> anyhow::Result<Vec<(u32, u64, u64)>> {
        let deferred = self.probes.deferred_frees()?;
        if deferred == self.deferred_frees_seen {
            return Ok(Vec::new());
        }
        self.deferred_frees_seen = deferred;
        self.probes.take_lost_frees()
    }

    /// Takes in what was mapped; where records of it were lost, everyone is looked at again.
    fn drain_map_events(&mut self) {
        if self.context.take_mappings() {
            for tgid in self.tgids() {
                self.context.snapshot(tgid);
            }
        }
        let mapped = std::mem::take(&mut self.context.mapped_files);
        let todo = |(tgid, mapping)| match mapping {
            Some(mapping) => Todo::Mapped { tgid, mapping },
            None => Todo::Imaged { tgid },
        };
        self.todo.extend(mapped.into_iter().map(todo));
    }

    fn drain_ring(&mut self) -> bool {
        let Self {
            source,
            ledger,
            context,
            todo,
            ended_count,
            keeping,
            ..
        } = self;
        source.drain(|event| match &event {
            Event::Alloc(_)
            | Event::Sample { .. }
            | Event::GoAlloc { .. }
            | Event::GoSweep(_)
            | Event::GoCycle { .. }
            | Event::Free { .. }
            | Event::ReallocBegin { .. }
            | Event::ReallocEnd { .. } => ledger.apply(&event),
            Event::Stack {
                tgid,
                id,
                frames,
                end,
                time_ns,
            } => {
                context.resolve(*tgid, *id, frames, *end, *time_ns);
            }
            Event::Oracle(record) => context.pass_on(record),
            Event::Fork {
                tgid,
                child_tgid,
                uid,
                time_ns,
                ..
            } => {
                ledger.apply(&event);
                if ledger.key(*tgid).is_some()
                    && let Some(key) = ledger.key(*child_tgid)
                {
                    keeping.forked(*child_tgid);
                    context
                        .roster
                        .note(key, *child_tgid, Some(*time_ns), Some(*uid));
                    todo.push(Todo::Forked {
                        parent: *tgid,
                        child: *child_tgid,
                    });
                }
            }
            Event::Exec(image) => {
                keeping.ends(ledger, image.tgid);
                ledger.apply(&event);
                context.modules.forget_process(image.tgid);
                if let Some(key) = ledger.key(image.tgid) {
                    let born_ns = ledger.get(key).and_then(|process| process.born_ns());
                    context.roster.note_image(key, image, born_ns);
                }
                todo.push(Todo::Executed { tgid: image.tgid });
            }
            Event::Exit(image) => {
                ledger.apply(&event);
                *ended_count += 1;
                todo.push(Todo::Exited { tgid: image.tgid });
            }
        })
    }

    fn tgids(&self) -> Vec<u32> {
        let keys = self.ledger.keys();
        keys.into_iter()
            .filter_map(|key| Some(self.ledger.get(key)?.tgid()))
            .collect()
    }

    /// Counters of loss by process, 0 standing for the host.
    fn losses(&self) -> anyhow::Result<BTreeMap<u32, Vec<(Counter, u64)>>> {
        let mut by_process: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (tgid, counter, count) in self.probes.losses()? {
            by_process.entry(tgid).or_default().push((counter, count));
        }
        Ok(by_process)
    }
}
