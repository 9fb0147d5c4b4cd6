//! Owns what a Go program's own memory profile tells of its heap: how many objects, by stack and size, were
//! sampled and freed.
//! Must not know where the profile lies.
//!
//! The profile counts and knows no addresses, so it does not tell which object died: the oldest is taken to be it.
//! Then what is live of a site has, on the whole, the age that objects reach there.

use std::collections::VecDeque;

use leaktrace_common::call::Call;
use rustc_hash::FxHashMap;

use super::{
    Ledger, ProcessLedger,
    go::{GoBlock, slot_bytes},
};
use crate::decode::Alloc;

/// Where the addresses begin that stand for blocks without one: no process maps anything there.
const ADDRESSES: u64 = 1 << 62;

/// Each has its place of 8 bytes.
const ADDRESS_STEP: u64 = 8;

/// Objects of one stack and size, as the profile counts them since the program began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfiledSite {
    /// What tells it from others in the profile.
    pub key: u64,
    /// Its stack's id.
    pub stack: u64,
    /// The size of each object.
    pub object_bytes: u64,
    /// Objects sampled.
    pub alloc_count: u64,
    /// Of those, how many were freed.
    pub free_count: u64,
    /// How many are live that a collection has let live.
    pub judged_count: u64,
}

/// What the profile said the last time.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiled {
    known: FxHashMap<u64, Known>,
    next: u64,
    read_ns: u64,
    judged_allocs: u64,
}

#[derive(Clone, Debug, Default)]
struct Known {
    number: u32,
    /// Of each object, as its slot has.
    size_bytes: u64,
    alloc_count: u64,
    free_count: u64,
    /// Live ones, the oldest first.
    live: VecDeque<u64>,
}

impl Ledger {
    /// Takes in a process's own profile, which samples once in so many bytes. `published` is how many objects
    /// it has sampled up to its last collection.
    pub fn take_profile(
        &mut self,
        tgid: u32,
        sites: &[ProfiledSite],
        sample_bytes: u64,
        published: u64,
        time_ns: u64,
    ) {
        if let Some(key) = self.key(tgid)
            && let Some(process) = self.processes.get_mut(&key)
        {
            process.take_profile(sites, sample_bytes, published, time_ns);
        }
    }
}

impl ProcessLedger {
    /// Whether its Go heap is known by its own profile.
    #[must_use]
    pub fn is_profiled(&self) -> bool {
        self.profiled.read_ns != 0
    }

    /// The number of the site that the profile has by this key, and how many objects and bytes each of its sampled
    /// objects stands for.
    #[must_use]
    pub fn profiled_site(&self, key: u64) -> Option<(u32, u64, u64)> {
        let known = self.profiled.known.get(&key)?;
        let estimate = &self.sites.get(known.number as usize)?.estimate;
        let (count, bytes) = estimate.units(known.size_bytes);
        let (count, bytes) = (estimate.whole(count), estimate.whole(bytes));
        Some((known.number, count, bytes))
    }

    fn take_profile(
        &mut self,
        sites: &[ProfiledSite],
        sample_bytes: u64,
        published: u64,
        time_ns: u64,
    ) {
        let mut profiled = std::mem::take(&mut self.profiled);
        // What is published rises when a collection has ended.
        if profiled.read_ns != 0 && published != profiled.judged_allocs {
            self.go.begin_cycle(profiled.read_ns / 1_000);
        }
        for site in sites {
            self.take_site(&mut profiled, site, sample_bytes, time_ns);
        }
        (profiled.read_ns, profiled.judged_allocs) = (time_ns, published);
        self.profiled = profiled;
    }

    fn take_site(
        &mut self,
        profiled: &mut Profiled,
        site: &ProfiledSite,
        sample_bytes: u64,
        time_ns: u64,
    ) {
        let alloc = Alloc {
            tgid: self.tgid(),
            call: Call::Mallocgc,
            family: None,
            address: 0,
            size: site.object_bytes,
            stack: site.stack,
            time_ns,
        };
        if !profiled.known.contains_key(&site.key) {
            let number = self.site_number(&alloc, sample_bytes);
            // Only what lives now is of interest of what was before.
            let dead = site.alloc_count.min(site.free_count);
            let known = Known {
                number,
                size_bytes: slot_bytes(site.object_bytes),
                alloc_count: if profiled.read_ns == 0 { dead } else { 0 },
                free_count: if profiled.read_ns == 0 { dead } else { 0 },
                live: VecDeque::new(),
            };
            profiled.known.insert(site.key, known);
        }
        let Some(known) = profiled.known.get_mut(&site.key) else {
            return;
        };
        let (size, time_us) = (slot_bytes(site.object_bytes), time_ns / 1_000);
        let born = site.alloc_count.saturating_sub(known.alloc_count);
        let died = site.free_count.saturating_sub(known.free_count);
        known.alloc_count = known.alloc_count.max(site.alloc_count);
        known.free_count = known.free_count.max(site.free_count);
        let of_known = died.min(known.live.len() as u64);
        for address in known.live.drain(..of_known as usize) {
            if let Some(block) = self.go.take(address) {
                self.bury(block);
            }
        }
        // What came and went between two looks.
        let passed = born.min(died - of_known);
        if let Some(totals) = self.sites.get_mut(known.number as usize) {
            for _ in 0..passed {
                totals.add_allocated(size, time_us);
                totals.add_freed(size, time_us);
            }
            for _ in passed..born {
                totals.add_allocated(size, time_us);
            }
        }
        for _ in passed..born {
            let address = ADDRESSES + profiled.next * ADDRESS_STEP;
            profiled.next += 1;
            let block = GoBlock::new(address, size, time_us, known.number);
            self.go.put(address, block);
            known.live.push_back(address);
        }
        let judged = usize::try_from(site.judged_count).unwrap_or(usize::MAX);
        for address in known.live.iter().take(judged) {
            self.go.judge(*address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SiteAges;

    const SECOND: u64 = 1_000_000_000;

    fn site(key: u64, [alloc_count, free_count, judged_count]: [u64; 3]) -> ProfiledSite {
        ProfiledSite {
            key,
            stack: key,
            object_bytes: 1_024,
            alloc_count,
            free_count,
            judged_count,
        }
    }

    fn looked(ledger: &Ledger, now_s: u64) -> (SiteAges, u64, u64) {
        let process = ledger.get(ledger.key(7).unwrap()).unwrap();
        let ages = process.ages(now_s * SECOND, 0).swap_remove(0);
        let totals = &process.sites()[0];
        (ages, totals.live_count(), totals.allocated_count)
    }

    /// Counts come out as the profile has them, scaled; what lived before the trace is live, what died before is
    /// nowhere; and of those that die, the oldest go first.
    #[test]
    fn a_profile_becomes_blocks() {
        let mut ledger = Ledger::default();
        ledger.watch(7, SECOND);
        // Every object is sampled, so that each stands for itself.
        ledger.take_profile(7, &[site(1, [10, 4, 2])], 1, 10, 10 * SECOND);
        let (ages, live, allocated) = looked(&ledger, 11);
        assert_eq!((live, allocated), (6, 6));
        assert_eq!(ages.not_yet_collected_bytes, 4 * 1_024);
        ledger.take_profile(7, &[site(1, [13, 9, 4])], 1, 13, 20 * SECOND);
        let (ages, live, allocated) = looked(&ledger, 21);
        assert_eq!((live, allocated), (4, 9));
        assert_eq!(ages.oldest_us, 11_000_000);
        assert_eq!(ages.not_yet_collected_bytes, 0);
        // More die than were known: some came and went between two looks.
        ledger.take_profile(7, &[site(1, [23, 23, 0])], 1, 23, 30 * SECOND);
        assert_eq!(looked(&ledger, 31).1, 0);
        let process = ledger.get(ledger.key(7).unwrap()).unwrap();
        assert!(process.is_profiled() && process.gc_cycles() == 2);
    }

    /// An object of 1 KiB that was sampled once in 512 KiB stands for about 512.
    #[test]
    fn profiles_are_scaled() {
        let mut ledger = Ledger::default();
        ledger.watch(7, SECOND);
        ledger.take_profile(7, &[site(1, [10, 0, 10])], 512 << 10, 10, 10 * SECOND);
        let (_, live, _) = looked(&ledger, 11);
        assert_eq!(live, 5_125);
    }
}
