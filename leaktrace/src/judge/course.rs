//! Owns how a process and its sites went over time, in a bounded number of points.
//! Must not know what time it is, nor what the course is judged to be.

use leaktrace_common::call::Call;
use rustc_hash::FxHashMap;

use super::SURVIVOR_SECONDS;
use crate::ledger::ProcessLedger;

/// Points of a course: enough for a trend test, and 3 KiB a site.
pub const POINTS_MAX: usize = 128;

/// Sites of one process that have a course. A site is given one when something of it has survived,
/// and loses it when nothing has; beyond this number a site has none, and no verdict.
pub const SITES_MAX: usize = 2_048;

/// How a site, or a whole process, stood at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Live bytes.
    pub live_bytes: u64,
    /// Of those, the bytes of survivors: what was born before the horizon of its time.
    pub old_bytes: u64,
    /// Survivors.
    pub old_count: u64,
}

impl Point {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            live_bytes: self.live_bytes.saturating_add(other.live_bytes),
            old_bytes: self.old_bytes.saturating_add(other.old_bytes),
            old_count: self.old_count.saturating_add(other.old_count),
        }
    }
}

/// The course of one process. All of its sites are looked at at the same times, so that courses can
/// be added up. When it is full every other point goes, and points come half as often: it always
/// covers all the time.
#[derive(Clone, Debug, Default)]
pub struct ProcessCourse {
    times_s: Vec<f64>,
    /// Until when Go's collections had judged, by then.
    go_horizons_s: Vec<f64>,
    total: Vec<Point>,
    /// Frees of blocks older than the trace, up to each time.
    untraced_frees: Vec<u64>,
    /// By number; a shorter one began later and was zero before.
    sites: FxHashMap<u32, Vec<Point>>,
    /// One of so many looks becomes a point.
    stride: u32,
    skipped: u32,
    /// Sites that found no room for a course.
    refused_count: u64,
    /// What the ledger had been through at the last look: another image, blocks given up.
    past: (u32, u64),
}

impl ProcessCourse {
    /// Takes a look at a process. A course begins anew where its ledger has: after an `exec`, and
    /// where blocks had to be given up.
    pub fn observe(&mut self, process: &ProcessLedger, now_ns: u64) {
        let past = (process.image_count(), process.anomalies().blocks_unfollowed);
        if past != self.past {
            *self = Self {
                past,
                refused_count: self.refused_count,
                ..Self::default()
            };
        }
        let now_us = now_ns / 1_000;
        let horizon_us = now_us.saturating_sub(SURVIVOR_SECONDS * 1_000_000);
        let go_horizon_us = horizon_us.min(process.go_judged_until_us(now_us));
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        if self.times_s.len() == POINTS_MAX {
            self.halve();
        }
        let before = self.times_s.len();
        self.times_s.push(now_ns as f64 / 1e9);
        self.go_horizons_s.push(go_horizon_us as f64 / 1e6);
        self.untraced_frees.push(process.anomalies().frees_untraced);
        let mut total = Point::default();
        for (number, site) in process.sites().iter().enumerate() {
            if site.live_count() == 0 && !self.sites.contains_key(&(number as u32)) {
                continue;
            }
            let old = site.born_before(match site.call {
                Some(Call::Mallocgc) => go_horizon_us,
                _ => horizon_us,
            });
            let point = Point {
                live_bytes: site.live_bytes(),
                old_bytes: old.bytes,
                old_count: old.count,
            };
            total = total.plus(point);
            // There are far fewer sites than numbers.
            let number = number as u32;
            if let Some(course) = self.sites.get_mut(&number) {
                course.push(point);
            } else if old.count > 0 {
                self.begin(number, before, point);
            }
        }
        self.total.push(total);
    }

    fn begin(&mut self, number: u32, before: usize, point: Point) {
        if self.sites.len() >= SITES_MAX {
            let has_survivors = |course: &[Point]| course.last().is_some_and(|it| it.old_count > 0);
            self.sites.retain(|_, course| has_survivors(course));
        }
        if self.sites.len() >= SITES_MAX {
            self.refused_count += 1;
            return;
        }
        // One point of zero tells that it began here.
        let mut course = Vec::with_capacity(4);
        course.extend((before > 0).then(Point::default));
        course.push(point);
        self.sites.insert(number, course);
    }

    /// Every point's time, in seconds on the clock of the ledger.
    #[must_use]
    pub fn times_s(&self) -> &[f64] {
        &self.times_s
    }

    /// Up to which birth it was known, at each point, what survives: Go's collections tell that now and
    /// then, for others it is always known.
    #[must_use]
    pub fn horizons_s(&self, is_go: bool) -> &[f64] {
        if is_go {
            &self.go_horizons_s
        } else {
            &self.times_s
        }
    }

    /// The whole process's points.
    #[must_use]
    pub fn total(&self) -> &[Point] {
        &self.total
    }

    /// Frees a second of blocks older than the trace, in the last third of the course.
    #[must_use]
    pub fn untraced_frees_per_second(&self) -> f64 {
        let late = self.times_s.len() * 2 / 3;
        let rate = |from: usize| {
            let seconds = self.times_s.last()? - self.times_s.get(from)?;
            let frees = self.untraced_frees.last()? - self.untraced_frees.get(from)?;
            (seconds > 0.0).then(|| frees as f64 / seconds)
        };
        rate(late).unwrap_or(0.0)
    }

    /// Sites that found no room for a course.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.refused_count
    }

    /// The points of several sites added up, one for each time; `None` where none has a course.
    #[must_use]
    pub fn sum(&self, numbers: &[u32]) -> Option<Vec<Point>> {
        let mut sum: Option<Vec<Point>> = None;
        for course in numbers.iter().filter_map(|number| self.sites.get(number)) {
            let sum = sum.get_or_insert_with(|| vec![Point::default(); self.times_s.len()]);
            let began = sum.len() - course.len().min(sum.len());
            for (sum, point) in sum[began..].iter_mut().zip(course) {
                *sum = sum.plus(*point);
            }
        }
        sum
    }

    /// Every other point goes, the youngest stays.
    fn halve(&mut self) {
        fn keep<T: Copy>(points: &mut Vec<T>) {
            let odd = points.len() % 2;
            let mut index = 0;
            points.retain(|_| {
                index += 1;
                index % 2 == odd
            });
        }
        keep(&mut self.times_s);
        keep(&mut self.go_horizons_s);
        keep(&mut self.total);
        keep(&mut self.untraced_frees);
        self.sites.values_mut().for_each(keep);
        self.stride = self.stride.max(1) * 2;
    }
}

#[cfg(test)]
mod tests {
    use leaktrace_common::call::Call;

    use super::*;
    use crate::{
        decode::{Alloc, Event},
        ledger::Ledger,
    };

    const SECOND: u64 = 1_000_000_000;

    fn alloc(address: u64, size: u64, stack: u64, time_ns: u64) -> Event {
        Event::Alloc(Alloc {
            tgid: 1,
            call: Call::Malloc,
            family: None,
            address,
            size,
            stack,
            time_ns,
        })
    }

    /// However long it runs, a course has at most so many points, covers all the time, and points of
    /// different sites belong to the same times.
    #[test]
    fn a_course_is_bounded() {
        let mut ledger = Ledger::default();
        let mut course = ProcessCourse::default();
        for second in 1..=5_000 {
            ledger.apply(&alloc(second, 10, 1, second * SECOND));
            if second >= 3_000 {
                ledger.apply(&alloc(second << 32, 7, 2, second * SECOND));
            }
            let process = ledger.get(ledger.key(1).unwrap()).unwrap();
            course.observe(process, second * SECOND);
        }
        let times = course.times_s();
        assert!((POINTS_MAX / 2..=POINTS_MAX).contains(&times.len()));
        assert!(
            times[0] < 130.0 && *times.last().unwrap() > 4_900.0,
            "{times:?}"
        );
        assert!(times.is_sorted());
        let both = course.sum(&[0, 1]).unwrap();
        for (time, (sum, total)) in times.iter().zip(both.iter().zip(course.total())) {
            assert_eq!(sum, total, "at {time}");
        }
        let late = course.sum(&[1]).unwrap();
        let began = late.iter().position(|it| it.old_bytes > 0).unwrap();
        assert!(
            (2_900.0..3_400.0).contains(&times[began]),
            "{}",
            times[began]
        );
        assert_eq!(course.sum(&[7]), None);
    }

    /// What is freed soon has no course.
    #[test]
    fn churn_has_no_course() {
        let mut ledger = Ledger::default();
        let mut course = ProcessCourse::default();
        for second in 1..100 {
            ledger.apply(&alloc(second, 10, 1, second * SECOND));
            ledger.apply(&Event::Free {
                tgid: 1,
                address: second,
            });
            let process = ledger.get(ledger.key(1).unwrap()).unwrap();
            course.observe(process, second * SECOND);
        }
        assert_eq!(course.sum(&[0]), None);
        assert_eq!(course.times_s().len(), 99);
    }
}
