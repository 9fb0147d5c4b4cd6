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
mod drain;
mod early;
mod go_by_request;
mod goroutines;
mod govern;
mod judging;
mod keeping;
mod oracle;
mod profile;
mod selectors;
mod shedding;
mod survivors;
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
    go_watch::{self, GoWatch},
    host::{clock::Clock, maps::Mapping, memory},
    ledger::Ledger,
    probes::{Probes, Scope, Settings},
    source::Source,
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

/// As much live blocks take of our memory where processes come and go for months: four million of them.
const BLOCKS_BY_REQUEST_BYTES_MAX: u64 = 256 << 20;

/// What live blocks may take of our memory where nobody said: a quarter of what is left, of the host or of our control
/// group, so that a trace never is what brings a host down.
fn our_share_of_memory(targets: &Targets) -> u64 {
    let share = memory::left_bytes(std::process::id()).map_or(u64::MAX, |left| left / 4);
    match targets.is_by_request {
        true => share.min(BLOCKS_BY_REQUEST_BYTES_MAX),
        false => share,
    }
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
    drain: drain::Drain,
    early: early::Early,
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
        let go_watch = GoWatch::spawn(match targets.is_by_request {
            true => go_watch::TABLES_BY_REQUEST_BYTES_MAX,
            false => go_watch::TABLES_BYTES_MAX,
        })?;
        let early_ring = probes.take_early_ring()?;
        Ok(Self {
            ledger: Ledger::within(our_share_of_memory(&targets)),
            targets,
            probes,
            attachments: Attachments::new(ReturnProbes::on_this_kernel()),
            go: attach_go::GoAttachments::default(),
            go_watch,
            policy: settings.is_governed.then_some(settings.policy),
            keeping: keeping::Keeping::default(),
            budget: govern::Budget::default(),
            source,
            drain: drain::Drain::of(settings.ring_bytes),
            early: early::Early::new(early_ring)?,
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
            called = self.early.wait() => called,
            () = self.context.wait_for_mapping() => Ok(()),
        }
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
