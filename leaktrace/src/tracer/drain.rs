//! Owns taking in what the rings hold: how far, for how long, and what is done once it is.
//! Must not know what the records do to the blocks.
//!
//! Frees that found no room in the ring are fetched before a round and applied at its end, when every record that was in
//! the ring at its beginning has been taken in: then each block that they free is known. A round may take longer than
//! anyone can wait, so it can be left and gone on with.

use std::time::{Duration, Instant};

use super::{Todo, Tracer};
use crate::{decode::Event, host::clock::Clock};

/// How long taking in goes on while signals, deadlines and reports wait for their turn.
const TURN: Duration = Duration::from_millis(100);

/// How long a report waits for what is in the ring: a whole one of 16 MiB takes a second.
const ALL_PATIENCE: Duration = Duration::from_secs(10);

/// Everything that was in the ring at one time, being taken in.
struct Round {
    began_ns: u64,
    /// Frees that found no room in the ring: process, address and time.
    late_frees: Vec<(u32, u64, u64)>,
    /// What may be left of it in the ring.
    unread_bytes: usize,
}

/// How far the ring was taken in.
pub struct Drain {
    ring_bytes: usize,
    /// As many were put aside when they were last fetched.
    pub(super) deferred_frees_seen: u64,
    round: Option<Round>,
    /// Whether the last report had to be made before everything was taken in.
    pub is_behind: bool,
}

impl Drain {
    /// Nothing of a ring of this size was taken in.
    pub fn of(ring_bytes: u32) -> Self {
        Self {
            ring_bytes: ring_bytes as usize,
            deferred_frees_seen: 0,
            round: None,
            is_behind: false,
        }
    }
}

impl Tracer {
    /// Takes in what waits and acts on it, for a tenth of a second at most.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub fn drain_some(&mut self) -> anyhow::Result<()> {
        let until_ns = self.round(Instant::now() + TURN)?;
        self.act(until_ns)
    }

    /// Takes in everything that waits and acts on it. Where that takes too long, `is_behind` tells that there is more.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ALL_PATIENCE;
        // One that began before does not know of frees that were put aside since.
        let was_within = self.drain.round.is_some();
        let mut until_ns = self.round(deadline)?;
        if until_ns.is_some() && was_within {
            until_ns = self.round(deadline)?;
        }
        self.drain.is_behind = until_ns.is_none();
        self.act(until_ns)
    }

    /// Goes on with a round, or with a new one; where it is done, up to when every record is taken in.
    fn round(&mut self, deadline: Instant) -> anyhow::Result<Option<u64>> {
        let mut round = match self.drain.round.take() {
            Some(round) => round,
            None => Round {
                began_ns: Clock::now_boot_ns(),
                late_frees: self.take_late_frees()?,
                unread_bytes: self.drain.ring_bytes,
            },
        };
        self.drain_map_events();
        while round.unread_bytes > 0 {
            match self.drain_ring() {
                Some(bytes) => round.unread_bytes = round.unread_bytes.saturating_sub(bytes),
                None => round.unread_bytes = 0,
            }
            // A full ring takes a while, in which a storm would go on unnoticed.
            self.govern(Clock::now_boot_ns())?;
            self.early.take();
            if Instant::now() >= deadline {
                break;
            }
        }
        self.early.take();
        self.drain_map_events();
        if round.unread_bytes > 0 {
            self.drain.round = Some(round);
            return Ok(None);
        }
        for (tgid, address, time_ns) in round.late_frees {
            self.ledger.apply_lost_free(tgid, address, time_ns);
        }
        Ok(Some(round.began_ns))
    }

    /// Acts on what was taken in: every record up to a time, where that is known.
    fn act(&mut self, until_ns: Option<u64>) -> anyhow::Result<()> {
        self.tell_kept()?;
        self.do_todo();
        self.take_profiles();
        if let Some(until_ns) = until_ns {
            // The mappings of that time may come about.
            self.context.spaces.advance(until_ns);
        }
        self.publish_code()?;
        self.walk_early(until_ns);
        self.shed_ended();
        self.forget_strangers();
        let now_ns = Clock::now_boot_ns();
        self.look_at_courses(now_ns);
        self.govern(now_ns)
    }

    fn take_late_frees(&mut self) -> anyhow::Result<Vec<(u32, u64, u64)>> {
        let deferred = self.probes.deferred_frees()?;
        if deferred == self.drain.deferred_frees_seen {
            return Ok(Vec::new());
        }
        self.drain.deferred_frees_seen = deferred;
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

    /// Takes in some of what the ring holds; how many of its bytes that were, `None` where it is empty now.
    fn drain_ring(&mut self) -> Option<usize> {
        let Self {
            source,
            ledger,
            context,
            todo,
            ended_count,
            keeping,
            early,
            unwinding,
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
            // They come by a ring of their own.
            Event::EarlyStack(_) => {}
            Event::Fork {
                tgid,
                child_tgid,
                uid,
                time_ns,
                ..
            } => {
                early.walk_last(ledger, context, unwinding, *child_tgid);
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
}
