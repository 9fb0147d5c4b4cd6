//! Owns the question whether a series of memory figures keeps growing, and how fast.
//! Must not know whose figures they are, nor any clock.
//!
//! Figures of programs jump and warm up, so the test is the one of ranks by which sites are judged. A leak
//! may begin after days of calm, so it is asked of the latest figures alone as well, and then the last of
//! them must still rise like the whole.

use std::collections::VecDeque;

use crate::judge::{CONFIDENCE_MIN, mann_kendall, theil_sen};

/// Figures kept of one series. When they are more, every second of the older half goes, so that the
/// series spans ever more time in the same room.
const POINTS_MAX: usize = 48;

/// How many of the latest figures are looked at by themselves; fewer than the first tell nothing.
const WINDOWS: [usize; 3] = [9, 18, POINTS_MAX];

/// Growth below this is not worth a look.
const GROWTH_MIN_BYTES: f64 = 1_048_576.0;

/// At so many points it must be higher than ever before: a few jumps are no trend.
const RISES_MIN: usize = 4;

/// The part of the slope of the whole that the latest half must have.
const RECENT_PART: f64 = 0.4;

/// A series of figures of one process.
#[derive(Clone, Debug, Default)]
pub struct Series {
    points: VecDeque<(f32, u32)>,
}

/// How a series rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// The median slope of its latest half.
    pub bytes_per_second: f64,
    /// How much it rose in all.
    pub growth_bytes: f64,
    /// In how many seconds.
    pub span_seconds: f64,
}

impl Series {
    /// Adds a figure at a time, in seconds since any fixed moment.
    pub fn push(&mut self, seconds: f64, bytes: u64) {
        if self.points.len() >= POINTS_MAX {
            let mut index = 0;
            let half = POINTS_MAX / 2;
            self.points.retain(|_| {
                index += 1;
                index > half || index % 2 == 1
            });
        }
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        // 24 bits of mantissa tell tenths of a second for 19 days, and whole ones for half a year.
        self.points.push_back((seconds as f32, kib));
    }

    /// The figures: seconds and KiB.
    pub fn points(&self) -> impl Iterator<Item = (f32, u32)> {
        self.points.iter().copied()
    }

    /// A series of figures that were remembered; what is not in order is left out.
    #[must_use]
    pub fn of(points: &[(f32, u32)]) -> Self {
        let from = points.len().saturating_sub(POINTS_MAX);
        let mut series = Self::default();
        for point in points.get(from..).unwrap_or_default() {
            if point.0.is_finite() && series.points.back().is_none_or(|last| last.0 < point.0) {
                series.points.push_back(*point);
            }
        }
        series
    }

    /// How it rises so far, of one that is expected to: from its first figures on, whatever came between.
    #[must_use]
    pub fn rise_from(&self, first_bytes: u64) -> Option<Trend> {
        let (first, last) = (self.points.front()?, self.points.back()?);
        let from_bytes = (f64::from(first.1) * 1024.0).max(first_bytes as f64);
        let growth_bytes = f64::from(last.1) * 1024.0 - from_bytes;
        let span_seconds = f64::from(last.0 - first.0);
        (growth_bytes >= GROWTH_MIN_BYTES && span_seconds > 0.0).then_some(Trend {
            bytes_per_second: growth_bytes / span_seconds,
            growth_bytes,
            span_seconds,
        })
    }

    /// Whether there are enough figures to tell anything.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.points.len() >= WINDOWS[0]
    }

    /// How it rises; `None` where it does not keep rising.
    #[must_use]
    pub fn trend(&self) -> Option<Trend> {
        WINDOWS.iter().find_map(|window| self.trend_of(*window))
    }

    fn latest(&self, window: usize) -> (Vec<f64>, Vec<f64>) {
        let from = self.points.len().saturating_sub(window);
        let points = self.points.range(from..);
        points
            .map(|(at, kib)| (f64::from(*at), f64::from(*kib) * 1024.0))
            .unzip()
    }

    fn trend_of(&self, window: usize) -> Option<Trend> {
        let from = self.points.len().saturating_sub(window);
        let (first, last) = (self.points.get(from)?, self.points.back()?);
        let growth_bytes = (f64::from(last.1) - f64::from(first.1)) * 1024.0;
        // Nearly every process ends here.
        if !self.is_told() || growth_bytes < GROWTH_MIN_BYTES {
            return None;
        }
        let (times, values) = self.latest(window);
        let mut highest = values[0];
        let rises = values.iter().filter(|value| {
            let is_higher = **value > highest;
            highest = value.max(highest);
            is_higher
        });
        if rises.count() < RISES_MIN || mann_kendall(&times, &values)?.confidence < CONFIDENCE_MIN {
            return None;
        }
        let half = times.len() / 2;
        let whole = theil_sen(&times, &values);
        let recent = theil_sen(&times[half..], &values[half..]);
        (recent >= RECENT_PART * whole && whole > 0.0).then_some(Trend {
            bytes_per_second: recent,
            growth_bytes,
            span_seconds: f64::from(last.0 - first.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series with a figure every five seconds.
    fn series(count: u32, bytes: impl Fn(f64) -> f64) -> Series {
        let mut series = Series::default();
        for index in 0..count {
            let at = f64::from(index) * 5.0;
            series.push(1_000.0 + at, bytes(at) as u64);
        }
        series
    }

    const MIB: f64 = 1_048_576.0;

    /// A leak of 100 KiB/s is seen within 45 seconds, with its rate, also with noise and jumps.
    #[test]
    fn a_leak_is_seen() {
        let leak = series(10, |at| 30.0 * MIB + at * 102_400.0);
        let trend = leak.trend().unwrap();
        assert!(
            (trend.bytes_per_second - 102_400.0).abs() < 2_000.0,
            "{trend:?}"
        );
        // A saw of a quarter of a megabyte on it, as of requests that come and go.
        let saw = series(14, |at| {
            30.0 * MIB + at * 102_400.0 + (at / 5.0 % 2.0) * MIB / 4.0
        });
        let trend = saw.trend().unwrap();
        assert!(
            (trend.bytes_per_second - 102_400.0).abs() < 20_000.0,
            "{trend:?}"
        );
        // A slow one, that takes an hour for what the other does in a minute.
        let slow = series(720, |at| 30.0 * MIB + at * 2_000.0);
        assert!((slow.trend().unwrap().bytes_per_second - 2_000.0).abs() < 200.0);
        assert_eq!(
            series(100, |at| 30.0 * MIB + at * 200.0).trend(),
            None,
            "not enough yet"
        );
    }

    /// A leak that begins after a day of calm is seen as soon as one that was there from the start.
    #[test]
    fn a_late_leak_is_seen() {
        let calm = 17_280;
        for later in [5, 9] {
            let late = series(calm + later, |at| {
                30.0 * MIB + (at - f64::from(calm) * 5.0).max(0.0) * 102_400.0
            });
            assert_eq!(late.trend().is_some(), later == 9, "{later} points later");
        }
    }

    /// One that warms up, levels off, goes up and down, or has jumped once, is none.
    #[test]
    fn others_are_not() {
        let warm = series(20, |at| MIB * (100.0 * (1.0 - (-at / 10.0).exp())));
        assert_eq!(warm.trend(), None);
        let full = series(20, |at| MIB * at.min(40.0));
        assert_eq!(full.trend(), None);
        let wave = series(40, |at| MIB * (50.0 + 10.0 * (at / 20.0).sin()));
        assert_eq!(wave.trend(), None);
        let jump = series(20, |at| if at < 50.0 { 10.0 * MIB } else { 90.0 * MIB });
        assert_eq!(jump.trend(), None);
        let jumps = series(20, |at| MIB * (at / 35.0).floor());
        assert_eq!(jumps.trend(), None);
        assert_eq!(series(50, |_| 80.0 * MIB).trend(), None);
        assert_eq!(series(8, |at| MIB * at).trend(), None, "too few");
        assert_eq!(Series::default().trend(), None);
    }

    /// One that is expected to rise is believed as soon as it has, by as much as it has.
    #[test]
    fn what_is_expected_is_believed_early() {
        let rising = series(4, |at| MIB * (10.0 + at));
        assert_eq!(rising.trend(), None);
        let trend = rising.rise_from(MIB as u64).unwrap();
        assert_eq!((trend.growth_bytes, trend.span_seconds), (15.0 * MIB, 15.0));
        assert_eq!(rising.rise_from(25 << 20), None);
        assert_eq!(series(4, |_| MIB).rise_from(0), None);
        assert_eq!(Series::default().rise_from(0), None);
    }

    /// However long it runs, a series takes the same room and spans it all.
    #[test]
    fn series_are_thinned() {
        let long = series(5_000, |at| at * 1_000.0);
        assert!(long.points.len() <= POINTS_MAX);
        let trend = long.trend().unwrap();
        assert!(trend.span_seconds > 1_000.0, "{trend:?}");
        assert!(
            (trend.bytes_per_second - 1_000.0).abs() < 100.0,
            "{trend:?}"
        );
    }
}
