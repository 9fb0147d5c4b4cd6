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

/// Growth that takes no place: what is told as 0 KiB/s, less than 44 MB a day. Beside looks that follow fast there is always
/// somebody whose memory rises by as little.
const PLACE_MIN_BYTES_PER_SECOND: f64 = 512.0;

/// Those that keep growing by so much that it is worth a place, in the order in which they come.
fn worth_a_place(ranked: &[Seen]) -> impl Iterator<Item = &Seen> {
    ranked
        .iter()
        .take_while(|it| it.trend.is_some())
        .filter(|it| it.bytes_per_second() >= PLACE_MIN_BYTES_PER_SECOND)
}

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
        let mut due = worth_a_place(ranked).filter(|seen| {
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

    /// One that grows by next to nothing keeps no other from a place, however long it has grown.
    #[test]
    fn who_hardly_grows_gets_no_place() {
        let rising = |pid, bytes_per_second| {
            let mut seen = seen(pid, 10, true);
            seen.trend.as_mut().unwrap().bytes_per_second = bytes_per_second;
            seen
        };
        let ranked = [
            rising(1, 100_000.0),
            rising(2, 600.0),
            rising(3, 400.0),
            rising(4, 0.0),
            seen(5, 10, false),
        ];
        let pids: Vec<u32> = worth_a_place(&ranked).map(|it| it.pid).collect();
        assert_eq!(pids, [1, 2]);
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
