//! Owns the hint by what way a growing process gets its memory, and how fast, since it was first seen to grow.
//! Must not know who grows.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::survey::Seen;
use crate::host::fresh_memory::FreshMemory;

/// Processes of whom an earlier figure is kept; others have no hint.
const KEPT_MAX: usize = 256;

/// The first figures of each process that grows: its start, when, and what it had.
#[derive(Default)]
pub struct Fresh(FxHashMap<u32, (u64, u64, FreshMemory)>);

impl Fresh {
    /// A clause on a process that grows, at `now_ns`; `None` at the first time, and where it is gone.
    pub fn hint(&mut self, seen: &Seen, now_ns: u64) -> Option<String> {
        let now = FreshMemory::read(seen.pid).ok()?;
        let first = self.0.get(&seen.pid);
        match first.filter(|(start_ticks, ..)| *start_ticks == seen.start_ticks) {
            Some((_, at_ns, before)) => {
                let passed = Duration::from_nanos(now_ns.saturating_sub(*at_ns));
                Some(words(*before, now, passed))
            }
            None => {
                if self.0.len() < KEPT_MAX || self.0.contains_key(&seen.pid) {
                    self.0.insert(seen.pid, (seen.start_ticks, now_ns, now));
                }
                None
            }
        }
    }

    /// Forgets those that grow no more.
    pub fn keep(&mut self, ranked: &[Seen]) {
        let growing = ranked.iter().take_while(|it| it.trend.is_some());
        let growing: rustc_hash::FxHashSet<u32> = growing.map(|it| it.pid).collect();
        self.0.retain(|pid, _| growing.contains(pid));
    }
}

fn words(before: FreshMemory, now: FreshMemory, passed: Duration) -> String {
    let kib = |before: u64, now: u64| (i128::from(now) - i128::from(before)) / 1024;
    let faults = now.fault_count.saturating_sub(before.fault_count);
    format!(
        "a hint: in {:.0} s its heap (brk) grew by {} KiB and its other mappings (mmap) by {} KiB, and it touched \
         {:.0} pages a second for the first time",
        passed.as_secs_f64(),
        kib(before.heap_bytes, now.heap_bytes),
        kib(before.mapped_bytes, now.mapped_bytes),
        faults as f64 / passed.as_secs_f64().max(1.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::process;

    /// The second look tells what came since the first; another process of the same pid begins anew.
    #[test]
    fn the_second_look_tells() {
        let pid = std::process::id();
        let mut fresh = Fresh::default();
        let seen = Seen {
            pid,
            start_ticks: process::start_ticks(pid).unwrap(),
            memory: crate::host::resident::Memory::default(),
            trend: None,
            is_told: false,
            restarts: crate::watch::lives::Restarts::default(),
        };
        assert_eq!(fresh.hint(&seen, 0), None);
        let told = fresh.hint(&seen, 60_000_000_000).unwrap();
        assert!(
            told.starts_with("a hint: in 60 s its heap (brk) grew by "),
            "{told}"
        );
        let other = Seen {
            start_ticks: 1,
            ..seen
        };
        assert_eq!(fresh.hint(&other, 1), None);
        fresh.keep(&[]);
        assert_eq!(fresh.hint(&other, 1), None);
    }
}
