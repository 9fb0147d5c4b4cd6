//! Owns the way from a process's ledger to its figures and top sites, before anything is named.
//! Must not know the kernel, files or clocks; time comes in as an argument.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leaktrace_common::{call::Call, cookie::Family};
use rustc_hash::FxHashMap;

use crate::{
    judge::{Circumstances, Judgement, Point, ProcessCourse, judge, rise},
    ledger::{AGE_CLASSES_SECONDS, ProcessLedger, SiteAges, SiteTotals},
    report::model::{AgeBucket, Counts, Course, Verdict},
    stacks::{Stack, Stacks},
};

/// Sites of one process that are judged beyond those that are listed: those that rose the most. A
/// verdict takes about a fifth of a millisecond.
const JUDGED_MAX: usize = 64;

/// What a process's sites are judged by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grounds<'a> {
    /// How they went over time, where that was looked at.
    pub course: Option<&'a ProcessCourse>,
    /// What else bears on it.
    pub circumstances: Circumstances,
}

/// What a report is to show of each process.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// What counts as long-lived.
    pub min_age: Duration,
    /// Sites listed of each process.
    pub top: usize,
}

/// One site, its stack not named yet.
#[derive(Clone, Debug)]
pub struct SiteSummary {
    /// The stack; `None` where its record was lost.
    pub stack: Option<Arc<Stack>>,
    /// The function that was called, of several the first.
    pub call: Option<Call>,
    /// Whose function that is.
    pub family: Option<Family>,
    /// The figures.
    pub counts: Counts,
    /// How old what is live is.
    pub ages: SiteAges,
    /// Leak or cache.
    pub judgement: Judgement,
    /// Its live bytes over time, of those that are listed; in seconds on the clock of the ledger.
    pub course: Option<Course>,
    /// Its numbers in the ledger: a child has one stack under several.
    numbers: Vec<u32>,
    /// When its first block was made, in seconds since boot.
    began_s: f64,
}

impl SiteSummary {
    /// Its numbers in the ledger.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    fn is_of_go(&self) -> bool {
        self.call == Some(Call::Mallocgc)
    }
}

/// One process, its sites not named yet.
#[derive(Clone, Debug, Default)]
pub struct ProcessSummary {
    /// The figures over all sites.
    pub counts: Counts,
    /// The top sites.
    pub sites: Vec<SiteSummary>,
    /// Variance of the estimate of live bytes; 0 where it is none.
    pub live_bytes_variance: f64,
    /// The largest mean distance between samples; 0 where every block was recorded.
    pub sample_bytes: u64,
    /// What collections have said of all objects, where there are some of Go's heap.
    pub go_ages: SiteAges,
    /// How many sites have live objects.
    pub site_count: u64,
    /// Leak or cache: a process grows if one of its sites does.
    pub judgement: Judgement,
}

/// Adds up a process at `now_ns`, judges it and picks its top sites: first those that grow, then those
/// with the most long-lived bytes, or, of a process that ended, with the most bytes that it never gave
/// back.
#[must_use]
pub fn summarize(
    process: &ProcessLedger,
    stacks: &Stacks,
    now_ns: u64,
    view: View,
    grounds: Grounds<'_>,
) -> ProcessSummary {
    let min_age_us = u64::try_from(view.min_age.as_micros()).unwrap_or(u64::MAX);
    let ages = process.ages(now_ns, min_age_us);
    let mut summary = ProcessSummary::default();
    let mut sites: Vec<SiteSummary> = Vec::new();
    // A child's stacks have other ids than those that it inherited, though they are the same.
    let mut by_stack: FxHashMap<Option<Arc<Stack>>, usize> = FxHashMap::default();
    for (number, (totals, ages)) in process.sites().iter().zip(&ages).enumerate() {
        add(&mut summary.counts, totals, ages);
        if totals.call == Some(Call::Mallocgc) {
            merge(&mut summary.go_ages, ages);
        }
        summary.live_bytes_variance += ages.live_bytes_variance;
        summary.sample_bytes = summary.sample_bytes.max(totals.estimate.sample_bytes);
        let stack = stacks.get(totals.stack).cloned();
        let index = *by_stack.entry(stack.clone()).or_insert_with(|| {
            let call = totals.call;
            sites.push(SiteSummary {
                stack,
                call,
                family: totals.family,
                counts: Counts::default(),
                ages: SiteAges::default(),
                judgement: Judgement::default(),
                course: None,
                numbers: Vec::new(),
                began_s: f64::INFINITY,
            });
            sites.len() - 1
        });
        // There are far fewer than 2^32.
        sites[index].numbers.push(number as u32);
        if let Some(born_us) = totals.cohorts.first_birth_us() {
            sites[index].began_s = sites[index].began_s.min(born_us as f64 / 1e6);
        }
        add(&mut sites[index].counts, totals, ages);
        merge(&mut sites[index].ages, ages);
    }
    summary.site_count = sites
        .iter()
        .filter(|site| site.counts.live_count > 0)
        .count() as u64;
    summary.judgement = judge_risen(&mut sites, grounds);
    let has_exited = process.exited_ns().is_some();
    let is_growing = |site: &SiteSummary| site.judgement.verdict == Verdict::Growing;
    sites.retain(|site| {
        let counts = &site.counts;
        is_growing(site) || counts.long_lived_count > 0 || (has_exited && counts.live_count > 0)
    });
    sites.sort_by_key(|site| {
        let counts = site.counts;
        let weight = if has_exited {
            counts.live_bytes
        } else {
            counts.long_lived_bytes
        };
        std::cmp::Reverse((is_growing(site), weight, counts.live_count))
    });
    sites.truncate(view.top);
    judge_listed(&mut sites, grounds);
    summary.sites = sites;
    summary
}

/// Judges the process, and of its sites those that rose, the steepest first.
fn judge_risen(sites: &mut [SiteSummary], grounds: Grounds<'_>) -> Judgement {
    let Some(course) = grounds.course else {
        return Judgement::default();
    };
    let times = course.times_s();
    let horizons = course.horizons_s(sites.iter().any(SiteSummary::is_of_go));
    let mut whole = judge(times, horizons, course.total(), grounds.circumstances);
    let mut risen: Vec<(u64, usize, Vec<Point>)> = sites
        .iter()
        .enumerate()
        .filter_map(|(index, site)| {
            let points = course.sum(&site.numbers)?;
            Some((rise(&points)?, index, points))
        })
        .collect();
    risen.sort_by_key(|(rise, ..)| std::cmp::Reverse(*rise));
    for (_, index, points) in risen.iter().take(JUDGED_MAX) {
        let horizons = course.horizons_s(sites[*index].is_of_go());
        let judgement = judge(times, horizons, points, grounds.circumstances);
        if judgement.verdict == Verdict::Growing {
            whole.verdict = Verdict::Growing;
        }
        sites[*index].judgement = judgement;
    }
    whole
}

/// Gives the listed sites their courses, and a judgement to those that have none yet.
fn judge_listed(sites: &mut [SiteSummary], grounds: Grounds<'_>) {
    let Some(course) = grounds.course else {
        return;
    };
    for site in sites {
        let times = course.times_s();
        let horizons = course.horizons_s(site.is_of_go());
        let points = course.sum(&site.numbers);
        if site.judgement.evidence.is_empty() {
            site.judgement = match &points {
                Some(points) => judge(times, horizons, points, grounds.circumstances),
                None => {
                    // Nothing of it ever survived.
                    let began = times.partition_point(|time| *time < site.began_s);
                    let (times, horizons) = (&times[began..], &horizons[began..]);
                    let points = vec![Point::default(); times.len()];
                    judge(times, horizons, &points, grounds.circumstances)
                }
            };
        }
        site.course = points.map(|points| {
            // It was not followed until something of it survived.
            let lives = |point: &Point| *point != Point::default();
            let begin = points.iter().position(lives).unwrap_or(0);
            Course {
                seconds: times[begin..].to_vec(),
                bytes: points[begin..].iter().map(|it| it.live_bytes).collect(),
            }
        });
    }
}

fn add(counts: &mut Counts, totals: &SiteTotals, ages: &SiteAges) {
    counts.live_bytes += totals.live_bytes();
    counts.live_count += totals.live_count();
    counts.long_lived_bytes += ages.long_lived_bytes;
    counts.long_lived_count += ages.long_lived_count;
    counts.allocated_bytes += totals.allocated_bytes;
    counts.allocated_count += totals.allocated_count;
    counts.freed_bytes += totals.freed_bytes;
    counts.freed_count += totals.freed_count;
}

fn merge(into: &mut SiteAges, ages: &SiteAges) {
    into.long_lived_count += ages.long_lived_count;
    into.long_lived_bytes += ages.long_lived_bytes;
    into.oldest_us = into.oldest_us.max(ages.oldest_us);
    into.gc_cycles_survived = into.gc_cycles_survived.max(ages.gc_cycles_survived);
    into.not_yet_collected_bytes += ages.not_yet_collected_bytes;
    into.live_bytes_variance += ages.live_bytes_variance;
    for (into, class) in into.classes.iter_mut().zip(&ages.classes) {
        into.0 += class.0;
        into.1 += class.1;
    }
}

/// The classes of ages that hold anything up to the oldest, as the report tells them.
#[must_use]
pub fn age_histogram(ages: &SiteAges) -> Vec<AgeBucket> {
    let ends = AGE_CLASSES_SECONDS.iter().copied().map(Some).chain([None]);
    ends.zip(&ages.classes)
        .map(|(below_seconds, (count, bytes))| AgeBucket {
            below_seconds,
            count: *count,
            bytes: *bytes,
        })
        .collect()
}

/// The counters of a process that rose, and whether its totals are wrong for them.
#[must_use]
pub fn losses(
    counted: impl Iterator<Item = (leaktrace_common::counter::Counter, u64)>,
) -> (BTreeMap<&'static str, u64>, bool) {
    let mut lost = BTreeMap::new();
    let mut is_lossy = false;
    for (counter, count) in counted.filter(|(_, count)| *count > 0) {
        *lost.entry(counter.name()).or_default() += count;
        is_lossy |= counter.makes_totals_wrong();
    }
    (lost, is_lossy)
}

#[cfg(test)]
mod tests {
    use leaktrace_common::event::StackEnd;

    use super::*;
    use crate::{
        decode::{Alloc, Event},
        ledger::Ledger,
        stacks::Place,
    };

    fn alloc(tgid: u32, address: u64, size: u64, stack: u64, time_s: u64) -> Event {
        let time_ns = time_s * 1_000_000_000;
        Event::Alloc(Alloc {
            tgid,
            call: Call::Malloc,
            family: Some(Family::Glibc),
            address,
            size,
            stack,
            time_ns,
        })
    }

    fn stack(address: u64) -> Stack {
        Stack {
            places: vec![Place::Unmapped { address }],
            end: StackEnd::Root,
        }
    }

    /// Sites of one stack under two ids are one site, and the largest come first.
    #[test]
    fn equal_stacks_are_one_site() {
        let mut stacks = Stacks::default();
        stacks.insert(1, stack(0x10));
        stacks.insert(2, stack(0x10));
        stacks.insert(3, stack(0x20));
        let mut ledger = Ledger::default();
        for event in [
            alloc(1, 8, 10, 1, 0),
            alloc(1, 16, 20, 2, 0),
            alloc(1, 24, 100, 3, 0),
            alloc(1, 32, 1, 3, 9),
        ] {
            ledger.apply(&event);
        }
        let process = ledger.get(ledger.key(1).unwrap()).unwrap();
        let ten = Duration::from_secs(10);
        let show = |now_s: u64, top| {
            let view = View { min_age: ten, top };
            summarize(
                process,
                &stacks,
                now_s * 1_000_000_000,
                view,
                Grounds::default(),
            )
        };
        let summary = show(10, 10);
        let figures: Vec<_> = summary
            .sites
            .iter()
            .map(|site| {
                (
                    site.counts.long_lived_bytes,
                    site.counts.live_bytes,
                    site.counts.live_count,
                )
            })
            .collect();
        assert_eq!(figures, [(100, 101, 2), (30, 30, 2)]);
        assert_eq!(
            (summary.counts.live_bytes, summary.counts.long_lived_bytes),
            (131, 130)
        );
        assert_eq!(show(10, 1).sites.len(), 1);
        assert_eq!(show(9, 9).sites.len(), 0);
    }

    /// What a process leaves at its end is listed whatever its age.
    #[test]
    fn what_an_ended_process_leaves_is_listed() {
        let mut ledger = Ledger::default();
        ledger.apply(&alloc(1, 8, 10, 1, 0));
        let image = crate::decode::Image {
            tgid: 1,
            time_ns: 5,
            uid: 0,
            comm: [0; 16],
        };
        ledger.apply(&Event::Exit(image));
        let process = ledger.get(ledger.key(1).unwrap()).unwrap();
        let view = View {
            min_age: Duration::from_secs(10),
            top: 10,
        };
        let summary = summarize(process, &Stacks::default(), 10, view, Grounds::default());
        assert_eq!(summary.sites.len(), 1);
        assert_eq!(summary.counts.long_lived_bytes, 0);
    }
}
