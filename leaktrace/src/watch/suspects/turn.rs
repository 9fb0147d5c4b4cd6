//! Owns whose turn it is to get probes: half of the places are for who grows fastest, half for who has grown for longest.
//! Must not know how probes are put in.
//!
//! On a host that compiles all day there is always somebody who grows faster than a leak does, and ends
//! minutes later. None of these keeps growing for as long as a leak.

use rustc_hash::FxHashMap;

use super::{PROBED_MAX, State, Suspect, Suspects};
use crate::watch::survey::Seen;

/// Places for those who grow fastest; the others are for those who have grown for longest.
const FOR_SPEED_MAX: usize = PROBED_MAX / 2;

/// Since when each process keeps growing.
#[derive(Clone, Debug, Default)]
pub(super) struct Growing(FxHashMap<u32, (u64, u64)>);

impl Growing {
    /// Takes in who grows at `now_ns`.
    pub(super) fn note(&mut self, ranked: &[Seen], now_ns: u64) {
        let before = std::mem::take(&mut self.0);
        let growing = ranked.iter().take_while(|it| it.trend.is_some());
        self.0 = growing
            .map(|seen| {
                let since = before.get(&seen.pid);
                let since = since.filter(|(start, _)| *start == seen.start_ticks);
                (
                    seen.pid,
                    (seen.start_ticks, since.map_or(now_ns, |it| it.1)),
                )
            })
            .collect();
    }

    fn since_ns(&self, pid: u32) -> u64 {
        self.0.get(&pid).map_or(u64::MAX, |it| it.1)
    }
}

impl Suspects {
    /// Who is to get probes next, and whether for growing fast; `None` where nobody is due or no place is left.
    pub(super) fn next_due<'s>(&self, ranked: &'s [Seen], now_ns: u64) -> Option<(&'s Seen, bool)> {
        let has_place =
            |it: &&Suspect| matches!(it.state, State::Probed { .. } | State::Prepared { .. });
        let placed = self.by_pid.values().filter(has_place);
        let (fast, long): (Vec<_>, Vec<_>) = placed.partition(|it| it.is_for_speed);
        let mut due = ranked
            .iter()
            .take_while(|it| it.trend.is_some())
            .filter(|seen| {
                self.by_pid.get(&seen.pid).is_none_or(|it| match it.state {
                    State::Left { until_ns, .. } => now_ns >= until_ns,
                    _ => false,
                })
            });
        if fast.len() < FOR_SPEED_MAX {
            return due.next().map(|seen| (seen, true));
        }
        if long.len() < PROBED_MAX - FOR_SPEED_MAX {
            return due
                .min_by_key(|seen| self.growing.since_ns(seen.pid))
                .map(|seen| (seen, false));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::resident::Memory,
        watch::{lives::Restarts, trend::Trend},
    };

    fn seen(pid: u32, start_ticks: u64, is_growing: bool) -> Seen {
        Seen {
            pid,
            start_ticks,
            memory: Memory::default(),
            trend: is_growing.then_some(Trend {
                bytes_per_second: 1.0,
                growth_bytes: 1.0,
                span_seconds: 1.0,
            }),
            is_told: true,
            restarts: Restarts::default(),
        }
    }

    /// It counts from when growth began, anew where it had stopped, and anew for another process of the same pid.
    #[test]
    fn who_grows_is_known_since_when() {
        let mut growing = Growing::default();
        growing.note(&[seen(1, 10, true), seen(2, 20, false)], 5);
        growing.note(&[seen(1, 10, true), seen(2, 20, true)], 6);
        assert_eq!((growing.since_ns(1), growing.since_ns(2)), (5, 6));
        growing.note(&[seen(1, 11, true), seen(2, 20, false)], 7);
        assert_eq!((growing.since_ns(1), growing.since_ns(2)), (7, u64::MAX));
        growing.note(&[seen(2, 20, true)], 8);
        assert_eq!((growing.since_ns(1), growing.since_ns(2)), (u64::MAX, 8));
    }
}
