//! Owns the verdict on sites of a process that was looked at in windows: from what survives of each, and from
//! how fast the process grows.
//! Must not know how windows are made.
//!
//! Between windows nobody sees what is freed, so survivors alone prove nothing: an entry of a session
//! lives longer than any window is followed. But what the process keeps, it grows by. So survivors count only
//! of a process that keeps growing, and only where they are about as much as it grows by: where they are far
//! more, most of them will be freed, and it cannot be told which.

use std::collections::BTreeMap;

use super::{
    Judgement, SURVIVOR_EXCESS_MAX, SURVIVOR_FREED_MAX, SURVIVOR_PART_MIN, SURVIVOR_SAMPLES_MIN,
    SURVIVOR_SHARE_MIN, WINDOWS_MIN,
};
use crate::report::model::Verdict;

/// What survived of a site's, or of all sites' windows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Survivors {
    /// Estimated bytes.
    pub bytes: u64,
    /// Blocks that were recorded and live.
    pub samples: u64,
    /// In how many windows they were made.
    pub windows: u64,
    /// How many were watched between windows, and how many of these were freed.
    pub watched: u64,
    /// The latter.
    pub freed: u64,
}

/// How a process was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WindowsSeen {
    /// How often.
    pub count: u64,
    /// For how long allocations were recorded, in seconds.
    pub seconds: f64,
    /// How fast its memory keeps growing; 0 where it does not.
    pub process_bytes_per_second: f64,
}

/// Judges a site, by what survived of it and of all.
#[must_use]
pub fn judge_windows(site: Survivors, all: Survivors, seen: WindowsSeen) -> Judgement {
    let share = if all.bytes > 0 {
        site.bytes as f64 / all.bytes as f64
    } else {
        0.0
    };
    let growth = seen.process_bytes_per_second;
    let flow = if seen.seconds > 0.0 {
        all.bytes as f64 / seen.seconds
    } else {
        0.0
    };
    let is_explained = flow <= SURVIVOR_EXCESS_MAX * growth && flow >= SURVIVOR_PART_MIN * growth;
    let is_evident = site.windows >= WINDOWS_MIN && site.samples >= SURVIVOR_SAMPLES_MIN;
    let is_freed = site.freed > 0 && site.freed as f64 >= SURVIVOR_FREED_MAX * site.watched as f64;
    let is_growing =
        growth > 0.0 && is_explained && is_evident && share >= SURVIVOR_SHARE_MIN && !is_freed;
    let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
    Judgement {
        verdict: if is_growing {
            Verdict::Growing
        } else {
            Verdict::Young
        },
        growth_bytes_per_second: (growth > 0.0).then(|| round(share * growth)),
        evidence: BTreeMap::from([
            ("survivors_watched", site.watched as f64),
            ("survivors_freed", site.freed as f64),
            ("windows", seen.count as f64),
            ("windows_with_survivors", site.windows as f64),
            ("survivor_samples", site.samples as f64),
            ("survivor_bytes", site.bytes as f64),
            ("survivor_share", round(share)),
            ("survivor_bytes_per_second", round(flow)),
            ("process_bytes_per_second", round(growth)),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that grows by 100 KB a second, looked at for a tenth of a second in five windows.
    const SEEN: WindowsSeen = WindowsSeen {
        count: 5,
        seconds: 0.1,
        process_bytes_per_second: 100_000.0,
    };

    fn survivors(bytes: u64, samples: u64, windows: u64) -> Survivors {
        Survivors {
            bytes,
            samples,
            windows,
            ..Survivors::default()
        }
    }

    fn verdict(site: Survivors, all: Survivors, seen: WindowsSeen) -> Verdict {
        judge_windows(site, all, seen).verdict
    }

    /// Survivors of several windows, about as many as the process grows by, are a leak, at its rate; also
    /// where the program runs ten times slower in windows.
    #[test]
    fn what_survives_of_what_grows_is_a_leak() {
        let leak = survivors(9_000, 70, 5);
        let all = survivors(10_000, 78, 5);
        let judgement = judge_windows(leak, all, SEEN);
        assert_eq!(judgement.verdict, Verdict::Growing);
        assert_eq!(judgement.growth_bytes_per_second, Some(90_000.0));
        let slowed = survivors(1_000, 8, 4);
        assert_eq!(verdict(slowed, slowed, SEEN), Verdict::Growing);
        let rest = survivors(1_000, 8, 1);
        assert_eq!(verdict(rest, all, SEEN), Verdict::Young, "one window");
    }

    /// Too few, of one window, of a process that does not grow, or too small a part of all, are none.
    #[test]
    fn little_proves_nothing() {
        let all = survivors(10_000, 80, 5);
        let growing = |site| verdict(site, all, SEEN) == Verdict::Growing;
        assert!(!growing(survivors(9_000, 5, 5)));
        assert!(!growing(survivors(9_000, 70, 2)));
        assert!(!growing(survivors(900, 70, 5)));
        let calm = WindowsSeen {
            process_bytes_per_second: 0.0,
            ..SEEN
        };
        assert_eq!(verdict(all, all, calm), Verdict::Young);
        assert_eq!(verdict(all, all, WindowsSeen::default()), Verdict::Young);
        assert_eq!(
            verdict(Survivors::default(), Survivors::default(), SEEN),
            Verdict::Young
        );
    }

    /// A site whose survivors are freed after all, as watching some of them tells, keeps nothing; one of many does not
    /// acquit it.
    #[test]
    fn what_is_freed_after_all_is_none() {
        let of = |watched, freed| Survivors {
            watched,
            freed,
            ..survivors(9_000, 70, 5)
        };
        let verdict = |site| verdict(site, survivors(10_000, 80, 5), SEEN);
        assert_eq!(verdict(of(4, 0)), Verdict::Growing);
        assert_eq!(verdict(of(4, 1)), Verdict::Growing);
        assert_eq!(verdict(of(4, 2)), Verdict::Young);
        assert_eq!(verdict(of(1, 1)), Verdict::Young);
    }

    /// Where survivors are many times what the process grows by, most of them are freed later, and no site
    /// can be blamed.
    #[test]
    fn sessions_are_not_blamed() {
        let sessions = survivors(100_000, 500, 5);
        let leak = survivors(10_000, 80, 5);
        let all = survivors(110_000, 580, 5);
        assert_eq!(verdict(sessions, all, SEEN), Verdict::Young);
        assert_eq!(verdict(leak, all, SEEN), Verdict::Young);
    }
}
