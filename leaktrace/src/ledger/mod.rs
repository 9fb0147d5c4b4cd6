//! Owns who is alive: processes by identity, and through them their blocks.
//! Must not know how events were decoded, what stacks mean or what time it is.

mod block;
mod cohorts;
mod estimate;
mod go;
mod process;
mod profiled;
mod restack;
mod site;

use rustc_hash::FxHashMap;

use crate::decode::Event;
pub use cohorts::{Cohorts, Units};
pub use estimate::Estimate;
pub use go::GoBlockFound;
pub use process::{Anomalies, ProcessLedger};
pub use profiled::ProfiledSite;
pub use restack::Restack;
pub use site::{AGE_CLASSES_SECONDS, SiteAges, SiteTotals};

/// What a live block takes at worst, but for the moment when its table doubles; see `block`.
const BLOCK_BYTES: u64 = 64;

/// A process from its creation to its end. Unlike a pid it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey(u32);

/// Every traced process and what it holds.
#[derive(Debug, Default)]
pub struct Ledger {
    processes: FxHashMap<ProcessKey, ProcessLedger>,
    current: FxHashMap<u32, ProcessKey>,
    next_key: u32,
    room: Room,
    /// Events taken in.
    pub event_count: u64,
}

/// How many live blocks all processes together may have here: what they hold is theirs to decide, and our memory is not.
#[derive(Clone, Copy, Debug)]
struct Room {
    taken: usize,
    most: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            taken: 0,
            most: usize::MAX,
        }
    }
}

impl Room {
    fn has(&self, more: usize) -> bool {
        self.taken.saturating_add(more) <= self.most
    }

    fn change(&mut self, before: usize, after: usize) {
        self.taken = (self.taken + after).saturating_sub(before);
    }
}

impl Ledger {
    /// A ledger whose live blocks take no more than about so many bytes; what finds no room is counted and not
    /// followed.
    #[must_use]
    pub fn within(memory_bytes: u64) -> Self {
        let most = memory_bytes / BLOCK_BYTES;
        Self {
            room: Room {
                taken: 0,
                most: usize::try_from(most).unwrap_or(usize::MAX),
            },
            ..Self::default()
        }
    }

    /// Takes in one event, in the order of the ring.
    pub fn apply(&mut self, event: &Event) {
        self.event_count += 1;
        match *event {
            Event::Alloc(alloc) => self.with(alloc.tgid, |it, has_room| {
                it.allocate(alloc, 0, has_room);
            }),
            Event::Sample {
                alloc,
                sample_bytes,
            } => self.with(alloc.tgid, |it, has_room| {
                it.allocate(alloc, sample_bytes, has_room);
            }),
            Event::GoAlloc {
                alloc,
                is_tiny,
                sample_bytes,
            } => self.with(alloc.tgid, |it, has_room| {
                it.allocate_go(alloc, is_tiny, sample_bytes, has_room);
            }),
            Event::GoSweep(ref sweep) => self.with(sweep.tgid, |it, _| it.sweep_go(sweep)),
            Event::GoCycle { tgid, time_ns } => self.of(tgid).begin_go_cycle(time_ns),
            Event::Free { tgid, address } => self.with(tgid, |it, _| it.free(address)),
            Event::ReallocBegin { tgid, tid, address } => {
                self.with(tgid, |it, _| it.begin_resize(tid, address));
            }
            Event::ReallocEnd {
                tid,
                old_address,
                is_followed,
                new,
            } => self.with(new.tgid, |it, has_room| {
                it.end_resize(tid, (old_address, new), is_followed, has_room);
            }),
            Event::Fork {
                tgid,
                child_tgid,
                time_ns,
                shares_memory,
                ..
            } => {
                self.fork(tgid, child_tgid, time_ns, shares_memory);
            }
            Event::Exec(image) => {
                if self.key(image.tgid).is_some() {
                    self.with(image.tgid, |it, _| it.exec(image.time_ns));
                }
            }
            Event::Exit(image) => {
                if let Some(process) = self.get_mut_by_tgid(image.tgid) {
                    process.exit(image.time_ns);
                }
            }
            Event::Stack { .. } | Event::EarlyStack(_) | Event::Oracle(_) => {}
        }
    }

    /// A free that found no room in the ring, made at `time_ns`. To be called once every event
    /// up to then was taken in. Children that were forked after it inherited its absence.
    pub fn apply_lost_free(&mut self, tgid: u32, address: u64, time_ns: u64) {
        let Some(&key) = self.current.get(&tgid) else {
            return;
        };
        let mut waiting = vec![key];
        while let Some(key) = waiting.pop() {
            let Some(process) = self.processes.get_mut(&key) else {
                continue;
            };
            let before = process.live_count();
            process.free_if_older(address, time_ns);
            self.room.change(before, process.live_count());
            let later = |child: &&(ProcessKey, u64)| child.1 > time_ns;
            waiting.extend(process.children().iter().filter(later).map(|child| child.0));
        }
    }

    /// Follows a process that was found running at `now_ns`. One that allocates is followed
    /// without it.
    pub fn watch(&mut self, tgid: u32, now_ns: u64) -> ProcessKey {
        if let Some(key) = self.current.get(&tgid) {
            return *key;
        }
        self.insert(tgid, ProcessLedger::found_at(tgid, now_ns))
    }

    /// The process that has this pid now.
    #[must_use]
    pub fn key(&self, tgid: u32) -> Option<ProcessKey> {
        self.current.get(&tgid).copied()
    }

    /// A process.
    #[must_use]
    pub fn get(&self, key: ProcessKey) -> Option<&ProcessLedger> {
        self.processes.get(&key)
    }

    /// All processes, in the order in which they were first seen.
    #[must_use]
    pub fn keys(&self) -> Vec<ProcessKey> {
        let mut keys: Vec<_> = self.processes.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Gives up all that a process holds: nobody saw what it gave back meanwhile.
    pub fn give_up_blocks(&mut self, key: ProcessKey) {
        if let Some(process) = self.processes.get_mut(&key) {
            let before = process.live_count();
            process.give_up_blocks();
            self.room.change(before, process.live_count());
        }
    }

    /// Drops a process and all that it holds: to be called for one that ended and was reported.
    pub fn forget(&mut self, key: ProcessKey) {
        if let Some(process) = self.processes.remove(&key) {
            self.room.change(process.live_count(), 0);
            if self.current.get(&process.tgid()) == Some(&key) {
                self.current.remove(&process.tgid());
            }
        }
    }

    /// Has a process do something to its blocks, told whether there is room for one more.
    fn with(&mut self, tgid: u32, act: impl FnOnce(&mut ProcessLedger, bool)) {
        let has_room = self.room.has(1);
        let process = self.of(tgid);
        let before = process.live_count();
        act(process, has_room);
        let after = process.live_count();
        self.room.change(before, after);
    }

    fn of(&mut self, tgid: u32) -> &mut ProcessLedger {
        let key = self.watch(tgid, 0);
        self.processes
            .entry(key)
            .or_insert_with(|| ProcessLedger::found_at(tgid, 0))
    }

    fn get_mut_by_tgid(&mut self, tgid: u32) -> Option<&mut ProcessLedger> {
        let key = self.current.get(&tgid)?;
        self.processes.get_mut(key)
    }

    fn insert(&mut self, tgid: u32, process: ProcessLedger) -> ProcessKey {
        let key = ProcessKey(self.next_key);
        self.next_key += 1;
        self.room.change(0, process.live_count());
        self.processes.insert(key, process);
        self.current.insert(tgid, key);
        key
    }

    /// A child has what its parent had. One that shares its parent's memory has nothing of its
    /// own: it executes something else next, and until then its parent waits.
    fn fork(&mut self, tgid: u32, child_tgid: u32, time_ns: u64, shares_memory: bool) {
        if let Some(namesake) = self.get_mut_by_tgid(child_tgid) {
            if namesake.was_found_after(time_ns) {
                // The record of its making was still on its way when it was found running.
                namesake.set_born(time_ns);
                return;
            }
            // Whoever had this pid before is gone; it stays here until it was reported.
            namesake.exit(time_ns);
        }
        self.current.remove(&child_tgid);
        let Some(parent) = self.current.get(&tgid).copied() else {
            return;
        };
        let child = match self.processes.get(&parent) {
            Some(parent) if !shares_memory && !self.room.has(parent.live_count()) => {
                ProcessLedger::made_without(parent.live_count(), child_tgid, time_ns)
            }
            Some(parent) if !shares_memory => parent.forked(child_tgid, time_ns),
            _ => ProcessLedger::made_at(child_tgid, time_ns),
        };
        let child = self.insert(child_tgid, child);
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.add_child(child, time_ns);
        }
    }
}

#[cfg(test)]
mod tests;
