//! Owns who is alive: processes by identity, and through them their blocks.
//! Must not know how events were decoded, what stacks mean or what time it is.

mod block;
mod cohorts;
mod estimate;
mod go;
mod process;
mod profiled;
mod site;

use rustc_hash::FxHashMap;

use crate::decode::Event;
pub use cohorts::{Cohorts, Units};
pub use estimate::Estimate;
pub use go::GoBlockFound;
pub use process::{Anomalies, ProcessLedger};
pub use profiled::ProfiledSite;
pub use site::{AGE_CLASSES_SECONDS, SiteAges, SiteTotals};

/// A process from its creation to its end. Unlike a pid it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey(u32);

/// Every traced process and what it holds.
#[derive(Debug, Default)]
pub struct Ledger {
    processes: FxHashMap<ProcessKey, ProcessLedger>,
    current: FxHashMap<u32, ProcessKey>,
    next_key: u32,
    /// Events taken in.
    pub event_count: u64,
}

impl Ledger {
    /// Takes in one event, in the order of the ring.
    pub fn apply(&mut self, event: &Event) {
        self.event_count += 1;
        match *event {
            Event::Alloc(alloc) => self.of(alloc.tgid).allocate(alloc, 0),
            Event::Sample {
                alloc,
                sample_bytes,
            } => self.of(alloc.tgid).allocate(alloc, sample_bytes),
            Event::GoAlloc {
                alloc,
                is_tiny,
                sample_bytes,
            } => self
                .of(alloc.tgid)
                .allocate_go(alloc, is_tiny, sample_bytes),
            Event::GoSweep(ref sweep) => self.of(sweep.tgid).sweep_go(sweep),
            Event::GoCycle { tgid, time_ns } => self.of(tgid).begin_go_cycle(time_ns),
            Event::Free { tgid, address } => self.of(tgid).free(address),
            Event::ReallocBegin { tgid, tid, address } => self.of(tgid).begin_resize(tid, address),
            Event::ReallocEnd {
                tid,
                old_address,
                is_followed,
                new,
            } => {
                self.of(new.tgid)
                    .end_resize(tid, old_address, new, is_followed);
            }
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
                if let Some(process) = self.get_mut_by_tgid(image.tgid) {
                    process.exec(image.time_ns);
                }
            }
            Event::Exit(image) => {
                if let Some(process) = self.get_mut_by_tgid(image.tgid) {
                    process.exit(image.time_ns);
                }
            }
            Event::Stack { .. } | Event::Oracle(_) => {}
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
            process.free_if_older(address, time_ns);
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
            process.give_up_blocks();
        }
    }

    /// Drops a process and all that it holds: to be called for one that ended and was reported.
    pub fn forget(&mut self, key: ProcessKey) {
        if let Some(process) = self.processes.remove(&key)
            && self.current.get(&process.tgid()) == Some(&key)
        {
            self.current.remove(&process.tgid());
        }
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
