//! Owns the survivors of windows that are watched by the processor, so that their end is noticed when no probe is in.
//! Must not know how it watches, or what survivors prove.
//!
//! glibc links free blocks through their first words: a free writes there, and nothing else of the allocator's does while
//! a block lives. So a write to the first word from the allocator's own code is the block's end. A block that the program
//! itself writes to that often is left out.

use std::{fs::File, ops::Range};

use leaktrace_common::cookie::Family;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Tracer;
use crate::{
    allocators::Allocator,
    examine::freeing::freeing_code,
    host::maps::Mapping,
    ledger::{ProcessKey, ProcessLedger},
    watchpoints::{POINTS_MAX, Watchpoints},
};

/// Blocks of one site that are watched at once: others have a turn too.
const OF_SITE_MAX: usize = 2;

/// What is watched of one process.
pub(super) struct Watched {
    points: Watchpoints,
    /// Where its allocator's code is that frees.
    code: Vec<Range<u64>>,
    /// Blocks that are watched, and their sites.
    blocks: FxHashMap<u64, usize>,
    /// Blocks that the program itself writes to.
    busy: FxHashSet<u64>,
    /// By site, how many were watched, and how many of these were freed.
    outcomes: FxHashMap<usize, (u64, u64)>,
    /// Why none are, where that is so.
    why_not: Option<String>,
}

impl Watched {
    /// How many of these sites' survivors were watched, and how many of them were freed.
    pub(super) fn outcome(&self, sites: &[u32]) -> (u64, u64) {
        let outcomes = sites
            .iter()
            .filter_map(|it| self.outcomes.get(&(*it as usize)));
        outcomes.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    }

    /// Why its survivors are not watched.
    pub(super) fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }
}

impl Tracer {
    /// Watches survivors of a process whose window has just ended.
    pub(super) fn watch_survivors(&mut self, tgid: u32) {
        self.look_at_survivors(tgid);
        let Some(key) = self.ledger.key(tgid) else {
            return;
        };
        if !self.requested.watched.contains_key(&key) {
            let code = self.freeing_code(tgid);
            let why_not = code.as_ref().err().map(|why| (*why).to_owned());
            let watched = Watched {
                points: Watchpoints::new(tgid),
                code: code.unwrap_or_default(),
                blocks: FxHashMap::default(),
                busy: FxHashSet::default(),
                outcomes: FxHashMap::default(),
                why_not,
            };
            self.requested.watched.insert(key, watched);
        }
        let Self {
            requested, ledger, ..
        } = self;
        let (Some(watched), Some(process)) = (requested.watched.get_mut(&key), ledger.get(key))
        else {
            return;
        };
        if watched.why_not.is_none() {
            watched.choose(process);
            let addresses: Vec<u64> = watched.blocks.keys().copied().collect();
            if let Err(error) = watched.points.set(&addresses) {
                watched.why_not = Some(format!("the kernel does not watch them: {error}"));
            }
        }
    }

    /// Takes in which survivors were freed since the last look.
    pub fn look_at_survivors(&mut self, tgid: u32) {
        let key = self.ledger.key(tgid);
        let Some(watched) = key.and_then(|key| self.requested.watched.get_mut(&key)) else {
            return;
        };
        for write in watched.points.take() {
            let is_free = |code: &Range<u64>| code.contains(&write.code_address);
            if !watched.code.iter().any(is_free) {
                watched.busy.insert(write.address);
                watched.blocks.remove(&write.address);
            } else if let Some(site) = watched.blocks.remove(&write.address) {
                watched.outcomes.entry(site).or_default().1 += 1;
                self.ledger
                    .apply_lost_free(tgid, write.address, write.time_ns);
            }
        }
    }

    /// Where the code is that writes to the first word of a block when it is freed.
    fn freeing_code(&mut self, tgid: u32) -> Result<Vec<Range<u64>>, &'static str> {
        let mut found = None;
        for mapping in self.file_mappings(tgid) {
            let module = self.context.modules.resolve(tgid, &mapping);
            for allocator in self.attachments.allocators(module) {
                match allocator.family {
                    Family::Glibc => {
                        // The allocator of the C library alone; its loader has one that is hardly used.
                        if found.is_none() {
                            let file = self.context.modules.get(module).file.as_ref();
                            found = file.and_then(|file| in_process(&mapping, file, allocator));
                        }
                    }
                    Family::Cpp => {}
                    _ => {
                        return Err(
                            "only of glibc's allocator it is known that a free writes into the block",
                        );
                    }
                }
            }
        }
        found.ok_or("its allocator's own code is not known")
    }
}

/// The code of a mapped file's allocator that frees, by its addresses in the process.
fn in_process(mapping: &Mapping, file: &File, allocator: &Allocator) -> Option<Vec<Range<u64>>> {
    let code = freeing_code(file, allocator)?;
    let at = |offset: u64| (mapping.start + offset).saturating_sub(mapping.file_offset);
    let ranges = code.into_iter().map(|it| at(it.start)..at(it.end));
    Some(ranges.collect())
}

impl Watched {
    /// Keeps those that live, and takes as many more as there is room for: the newest, as the oldest have survived
    /// for long already.
    fn choose(&mut self, process: &ProcessLedger) {
        let recorded: FxHashMap<u64, (usize, u64)> = process.recorded().collect();
        self.blocks
            .retain(|address, _| recorded.contains_key(address));
        let mut of_site: FxHashMap<usize, usize> = FxHashMap::default();
        for site in self.blocks.values() {
            *of_site.entry(*site).or_default() += 1;
        }
        let mut others: Vec<(u64, usize, u64)> = recorded
            .into_iter()
            .filter(|(address, _)| {
                !self.blocks.contains_key(address) && !self.busy.contains(address)
            })
            .map(|(address, (site, born_us))| (born_us, site, address))
            .collect();
        others.sort_unstable_by(|one, other| other.cmp(one));
        for (_, site, address) in others {
            if self.blocks.len() >= POINTS_MAX {
                break;
            }
            let count = of_site.entry(site).or_default();
            if *count < OF_SITE_MAX {
                *count += 1;
                self.blocks.insert(address, site);
                self.outcomes.entry(site).or_default().0 += 1;
            }
        }
    }
}

/// What is watched, by process.
pub(super) type WatchedByKey = FxHashMap<ProcessKey, Watched>;
