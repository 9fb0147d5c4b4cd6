//! Owns what is known of a course, and when: what a collection of Go's finds alive was alive when it began,
//! however much later it is looked at, and nothing is known of what came after.
//! Must not know what a course is judged to be.

use super::Point;

/// Survivors at a time for which they are known.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Up to which birth, in seconds.
    pub time_s: f64,
    /// Bytes of survivors.
    pub bytes: f64,
    /// Survivors.
    pub count: f64,
}

/// One point for each horizon, as it was when that was new.
pub fn by_horizon(horizons: impl Iterator<Item = f64>, points: &[Point]) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::with_capacity(points.len());
    for (time_s, point) in horizons.zip(points) {
        if known.last().is_none_or(|last| last.time_s < time_s) {
            known.push(Known {
                time_s,
                bytes: point.old_bytes as f64,
                count: point.old_count as f64,
            });
        }
    }
    known
}

/// The course at the times when it was looked at, as far as it is known. Between two collections it went
/// straight from one to the other: what survives the second was made over all the time between them.
pub fn over_time(times: &[f64], known: &[Known]) -> (Vec<f64>, Vec<Known>) {
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return (Vec::new(), Vec::new());
    };
    let times = times.iter().copied();
    let times: Vec<f64> = times
        .filter(|it| (first.time_s..=last.time_s).contains(it))
        .collect();
    let at = |time_s: &f64| {
        let next = known.partition_point(|it| it.time_s < *time_s);
        let (before, next) = (known[next.saturating_sub(1)], known[next]);
        let span = next.time_s - before.time_s;
        let share = if span > 0.0 {
            (time_s - before.time_s) / span
        } else {
            1.0
        };
        Known {
            time_s: *time_s,
            bytes: before.bytes + share * (next.bytes - before.bytes),
            count: before.count + share * (next.count - before.count),
        }
    };
    let points = times.iter().map(at).collect();
    (times, points)
}
