//! Owns the answer: leak or cache, from how survivors went over time.
//! Must not know the kernel, files, clocks or runtimes; time comes in as an argument.
//!
//! Judged are survivors, not live bytes: what was born some seconds ago (in Go: before the last
//! collection) and is still there. Churn has none, however much it is, so that a slow leak stands out
//! from it. A course of survivors that rises without end is a leak; one that rose and levels off is a
//! cache that has filled; one that falls back again and again is a buffer that is emptied.
//!
//! All thresholds are here, and are the same for every allocator:

mod course;
mod known;
mod releases;
#[cfg(test)]
mod samples;
mod trend;
mod verdict;
mod windows;

pub use course::{POINTS_MAX, Point, ProcessCourse, SITES_MAX};
pub use trend::{Trend, mann_kendall, theil_sen};
pub use verdict::{Circumstances, Judgement, judge, rise};
pub use windows::{Survivors, WindowsSeen, judge_windows};

/// No verdict before a site was watched for so long, in seconds.
pub const OBSERVED_SECONDS_MIN: f64 = 15.0;

/// Age at which an object is a survivor, in seconds: most churn is gone long before.
pub const SURVIVOR_SECONDS: u64 = 3;

/// This part at the beginning of what was observed is warm-up and does not count.
pub const WARM_UP_SHARE: f64 = 0.2;

/// How sure it must be that survivors rise, by the trend test.
pub const CONFIDENCE_MIN: f64 = 0.999;

/// A rise that in the last third is slower than this share of what it was in the first levels off, if
/// noise does not explain it.
pub const LEVELLING_SHARE: f64 = 0.5;

/// A fall by this share of the highest level since the last one is a release.
pub const RELEASE_SHARE: f64 = 0.3;

/// Survivors must have risen at so many different times: one large block is no trend. Where it was known no more often
/// what survives, as of a Go program that seldom collects, there is no verdict on what rises.
pub const RISES_MIN: usize = 3;

/// A site must gain this many times as many objects as are freed of those that are older than the trace,
/// lest what comes only replaces what goes.
pub const REPLACEMENT_FACTOR: f64 = 1.5;

/// What rises by less than this many bytes in all that was observed is not called a leak.
pub const GROWTH_BYTES_MIN: f64 = 1024.0;

/// A site that is looked at in windows has survivors of so many of them, at least, if it is a leak.
pub const WINDOWS_MIN: u64 = 3;

/// So many survivors of it were recorded.
pub const SURVIVOR_SAMPLES_MIN: u64 = 6;

/// Of the survivors of all sites it has this share.
pub const SURVIVOR_SHARE_MIN: f64 = 0.1;

/// Where so large a share of a site's survivors that were watched was freed after all, it keeps nothing.
pub const SURVIVOR_FREED_MAX: f64 = 0.5;

/// Survivors that would make the process grow so many times as fast as it does will mostly be freed yet.
pub const SURVIVOR_EXCESS_MAX: f64 = 4.0;

/// Survivors that explain less than this share of the growth are not its cause. In windows a program that
/// is all allocations runs several times slower, and leaks less.
pub const SURVIVOR_PART_MIN: f64 = 0.04;
