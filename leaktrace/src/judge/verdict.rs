//! Owns the verdict on one course and the figures behind it.
//! Must not know whose course it is.

use std::collections::BTreeMap;

use super::{
    CONFIDENCE_MIN, GROWTH_BYTES_MIN, LEVELLING_SHARE, OBSERVED_SECONDS_MIN, Point,
    REPLACEMENT_FACTOR, RISES_MIN, WARM_UP_SHARE,
    known::{self, Known},
    releases::{self, Releases},
    trend::{POINTS_MIN, mann_kendall, slope_error, theil_sen},
};
use crate::report::model::Verdict;

/// What else bears on a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Circumstances {
    /// Frees a second, of late and by the whole process, that no live block was found for: of blocks
    /// that are older than the trace, or lost on their way. Each may have made room for one that was
    /// seen, so that what looks like growth may be replacement.
    pub untraced_frees_per_second: f64,
}

/// A verdict with what it rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Leak or cache.
    pub verdict: Verdict,
    /// How fast survivors rise of late, in bytes a second; `None` where it is too early to tell.
    pub growth_bytes_per_second: Option<f64>,
    /// By name; the schema of the stream explains each.
    pub evidence: BTreeMap<&'static str, f64>,
}

/// Judges a course: for each point its time, up to which birth it was known then what survives, both in
/// seconds, and how it stood.
#[must_use]
pub fn judge(
    times_s: &[f64],
    horizons_s: &[f64],
    points: &[Point],
    circumstances: Circumstances,
) -> Judgement {
    let begin = first_sign(points);
    let points = &points[begin..];
    // Nothing was seen before the first look.
    let first_s = times_s.first().copied().unwrap_or(0.0);
    let horizons = horizons_s[begin..].iter().map(|it| it.max(first_s));
    let known = known::by_horizon(horizons, points);
    let (times, over_time) = known::over_time(times_s, &known);
    let ends = known.last().zip(known.first());
    let observed_s = ends.map_or(0.0, |(last, first)| last.time_s - first.time_s);
    let mut judgement = Judgement::default();
    let evidence = &mut judgement.evidence;
    evidence.insert("observed_seconds", round(observed_s));
    if observed_s < OBSERVED_SECONDS_MIN || times.len() < POINTS_MIN {
        return judgement;
    }
    if rise(points).is_none() {
        // It cannot be growing, and most sites are so: their trend is not worth the work.
        judge_level(points, observed_s, &mut judgement);
        return judgement;
    }
    let course = Course::new(&times, &over_time, &known, points);
    evidence.insert("survivor_bytes", course.level);
    evidence.insert("growth_bytes", course.growth());
    evidence.insert("trend_confidence", course.confidence);
    evidence.insert("bytes_per_second", round(course.slope));
    evidence.insert("early_bytes_per_second", round(course.early_slope));
    evidence.insert("late_bytes_per_second", round(course.late_slope));
    evidence.insert("releases", course.releases.troughs.len() as f64);
    evidence.insert("looks", course.looks as f64);
    let mut verdict = course.verdict();
    if verdict == Verdict::Young {
        return judgement;
    }
    judgement.growth_bytes_per_second = Some(round(course.growth_rate()));
    if verdict == Verdict::Growing && circumstances.untraced_frees_per_second > 0.0 {
        let frees = circumstances.untraced_frees_per_second;
        evidence.insert("untraced_frees_per_second", round(frees));
        if course.count_slope < REPLACEMENT_FACTOR * frees {
            verdict = Verdict::Young;
        }
    }
    judgement.verdict = verdict;
    judgement
}

impl Judgement {
    /// Adds how long what is left of the memory lasts at the present rate, if it is growing.
    pub fn set_memory_left(&mut self, left_bytes: u64) {
        if self.verdict != Verdict::Growing {
            return;
        }
        let left = left_bytes as f64;
        self.evidence.insert("memory_left_bytes", left);
        if let Some(rate) = self.growth_bytes_per_second.filter(|rate| *rate > 0.0) {
            self.evidence
                .insert("seconds_to_exhaustion", (left / rate).round());
        }
    }
}

/// Judges a course that has not risen.
fn judge_level(points: &[Point], observed_s: f64, judgement: &mut Judgement) {
    let level = points.last().map_or(0, |it| it.old_bytes) as f64;
    let origin = points.first().map_or(0, |it| it.old_bytes) as f64;
    judgement.evidence.insert("survivor_bytes", level);
    judgement.evidence.insert("growth_bytes", level - origin);
    judgement.growth_bytes_per_second = Some(round((level - origin).min(0.0) / observed_s));
    judgement.verdict = Verdict::Stable;
}

/// By how many bytes survivors are above their lowest, where that could make a leak: so that a closer
/// look is worth it.
#[must_use]
pub fn rise(points: &[Point]) -> Option<u64> {
    let lowest = points.iter().map(|it| it.old_bytes).min()?;
    let rise = points.last()?.old_bytes - lowest;
    (rise as f64 >= GROWTH_BYTES_MIN).then_some(rise)
}

/// The last point before anything lived: what was observed begins with a site's first allocation.
fn first_sign(points: &[Point]) -> usize {
    let lives = |point: &Point| point.live_bytes > 0 || point.old_count > 0;
    points.iter().position(lives).unwrap_or(0).saturating_sub(1)
}

/// To a thousandth: finer digits would only be noise in a diff of two lines.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// A course of survivors, taken apart.
struct Course {
    /// Survivors now.
    level: f64,
    /// At the beginning, warm-up included.
    origin: f64,
    /// At the end of the warm-up.
    settled: f64,
    confidence: f64,
    slope: f64,
    early_slope: f64,
    late_slope: f64,
    /// For how long it was so.
    late_s: f64,
    /// By how much all that is live rose and fell meanwhile.
    late_live_range: f64,
    /// Standard error of the difference of the two.
    slopes_error: f64,
    /// Objects a second.
    count_slope: f64,
    /// At how many points survivors were more than ever before.
    rises: usize,
    /// How often it was known what survives.
    looks: usize,
    /// Points since the last release.
    since_release: usize,
    releases: Releases,
}

impl Course {
    fn new(times: &[f64], points: &[Known], known: &[Known], looks: &[Point]) -> Self {
        let values: Vec<f64> = points.iter().map(|it| it.bytes).collect();
        let counts: Vec<f64> = points.iter().map(|it| it.count).collect();
        let start = warm_up_end(times);
        let (late_times, late_values) = (&times[start..], &values[start..]);
        let settled = late_values.first().copied().unwrap_or(0.0);
        let settled_s = late_times.first().copied().unwrap_or(0.0);
        let third = late_values.len().div_ceil(3).max(2);
        let last = late_values.len().saturating_sub(third);
        let first = third.min(late_values.len());
        let trend = mann_kendall(late_times, late_values);
        let releases = releases::find(&values);
        Self {
            level: values.last().copied().unwrap_or(0.0),
            origin: values.first().copied().unwrap_or(0.0),
            settled,
            confidence: trend.map_or(0.0, |trend| trend.confidence),
            slope: theil_sen(late_times, late_values),
            early_slope: part_slope(&late_times[..first], &late_values[..first]),
            late_slope: part_slope(&late_times[last..], &late_values[last..]),
            late_s: span(&late_times[last..]),
            late_live_range: live_range(looks),
            slopes_error: slope_error(&late_times[last..], &late_values[last..]) * 2_f64.sqrt(),
            count_slope: theil_sen(late_times, &counts[start..]),
            rises: rises(known, settled_s, settled),
            looks: known.len(),
            since_release: values.len() - releases.last,
            releases,
        }
    }

    fn growth(&self) -> f64 {
        self.level - self.settled
    }

    /// Bytes a second at which it goes on.
    fn growth_rate(&self) -> f64 {
        if self.is_sawtooth() {
            return 0.0;
        }
        // Steps that lie far apart leave most of the pairs flat.
        if self.slope == 0.0 {
            self.late_slope
        } else {
            self.slope
        }
    }

    fn verdict(&self) -> Verdict {
        if self.is_sawtooth() {
            return if self.has_rising_troughs() {
                Verdict::Growing
            } else {
                Verdict::Stable
            };
        }
        if self.is_rising() {
            return Verdict::Growing;
        }
        // Two collections of Go's tell that something came, and nothing of whether more comes.
        if self.looks <= RISES_MIN && self.growth() >= GROWTH_BYTES_MIN {
            return Verdict::Young;
        }
        // Most of what is there came while it was watched, and no more comes.
        let rise = self.level - self.origin;
        if rise >= 0.5 * self.level && rise > 0.0 {
            Verdict::Saturating
        } else {
            Verdict::Stable
        }
    }

    fn is_rising(&self) -> bool {
        self.confidence >= CONFIDENCE_MIN
            && self.growth() >= GROWTH_BYTES_MIN
            && self.rises >= RISES_MIN
            && !self.is_levelling()
    }

    /// Whether it rises much slower than it did, and that is no chance; or only survivors rise and not what is live: then it
    /// is replaced more slowly, as where a full cache is asked less.
    fn is_levelling(&self) -> bool {
        let missing = LEVELLING_SHARE * self.early_slope - self.late_slope;
        let is_slower = missing > 0.0 && missing >= 2.0 * self.slopes_error;
        is_slower || self.late_live_range < LEVELLING_SHARE * self.late_slope * self.late_s
    }

    /// Whether it was given back before, and has not gone beyond that since.
    fn is_sawtooth(&self) -> bool {
        if self.releases.troughs.is_empty() {
            return false;
        }
        let is_overdue = self.since_release > 2 * self.releases.longest;
        !(is_overdue && self.level > self.releases.peak)
    }

    /// Each release leaves more than the one before.
    fn has_rising_troughs(&self) -> bool {
        let troughs = &self.releases.troughs;
        let (Some(first), Some(last)) = (troughs.first(), troughs.last()) else {
            return false;
        };
        troughs.len() > RISES_MIN
            && self.confidence >= CONFIDENCE_MIN
            && troughs.windows(2).all(|pair| pair[0] < pair[1])
            && last - first >= GROWTH_BYTES_MIN
            && last - first >= 0.25 * (self.releases.peak - last)
    }
}

fn warm_up_end(times: &[f64]) -> usize {
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return 0;
    };
    let end = first + WARM_UP_SHARE * (last - first);
    times.iter().position(|time| *time >= end).unwrap_or(0)
}

fn span(values: &[f64]) -> f64 {
    values
        .last()
        .zip(values.first())
        .map_or(0.0, |(b, a)| b - a)
}

/// From the least to the most that was live, in the last third of the looks, which is more than that of the course without its
/// warm-up.
fn live_range(looks: &[Point]) -> f64 {
    let late = &looks[looks.len() - looks.len().div_ceil(3)..];
    let live = late.iter().map(|it| it.live_bytes);
    let most = live.clone().max().unwrap_or(0);
    (most - live.min().unwrap_or(0)) as f64
}

/// The slope of a part: the robust one, or where survivors come in few large steps, which leave most
/// pairs of points flat, that from the first to the last point.
fn part_slope(times: &[f64], values: &[f64]) -> f64 {
    let slope = theil_sen(times, values);
    let seconds = span(times);
    if slope == 0.0 && seconds > 0.0 {
        span(values) / seconds
    } else {
        slope
    }
}

/// How often the course was known to be higher than ever before, since it stood so at a time.
fn rises(known: &[Known], from_s: f64, level: f64) -> usize {
    let mut highest = level;
    let mut count = 0;
    for point in known.iter().filter(|it| it.time_s >= from_s) {
        if point.bytes > highest {
            count += 1;
            highest = point.bytes;
        }
    }
    count
}

#[cfg(test)]
mod tests;
