//! Owns looking at how processes go over time, and what their verdicts rest on.
//! Must not know how a verdict is reached.

use std::time::Duration;

use leaktrace_common::counter::Counter;
use rustc_hash::FxHashMap;

use super::{Tracer, assemble::Losses};
use crate::{
    host::{clock::Clock, memory},
    judge::{Circumstances, Judgement, ProcessCourse},
    ledger::{ProcessKey, ProcessLedger},
    probes::Settings,
    report::model::Verdict,
    summary::{Grounds, ProcessSummary},
};

/// How often processes are looked at; a full course covers a minute at this pace, then longer.
const PAUSE: Duration = Duration::from_millis(500);

/// Looking takes one in so many nanoseconds of the agent's time at most: where there are very many
/// sites, it is done less often.
const PAUSE_PER_LOOK: u64 = 50;

/// The courses of all processes.
pub(super) struct Courses {
    by_process: FxHashMap<ProcessKey, ProcessCourse>,
    /// Whether every block of every size is recorded.
    has_all_blocks: bool,
    next_look_ns: u64,
    /// Sites without a course of processes that are forgotten.
    refused_before: u64,
}

impl Courses {
    /// No process was looked at yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let has_all_sizes = settings.min_size == 0 && settings.max_size == u64::MAX;
        Self {
            by_process: FxHashMap::default(),
            has_all_blocks: has_all_sizes && settings.policy.sample_bytes == 0,
            next_look_ns: 0,
            refused_before: 0,
        }
    }

    /// Its process is gone.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        if let Some(course) = self.by_process.remove(&key) {
            self.refused_before += course.refused_count();
        }
    }

    /// Sites that found no room for a course, and so have no verdict.
    pub(super) fn refused_count(&self) -> u64 {
        let now = self.by_process.values().map(ProcessCourse::refused_count);
        self.refused_before + now.sum::<u64>()
    }
}

impl Tracer {
    /// Looks at every live process, when it is time to.
    pub(super) fn look_at_courses(&mut self, now_ns: u64) {
        if now_ns < self.courses.next_look_ns {
            return;
        }
        let began_ns = Clock::now_boot_ns();
        for key in self.ledger.keys() {
            if let Some(process) = self.ledger.get(key)
                && process.exited_ns().is_none()
            {
                let course = self.courses.by_process.entry(key).or_default();
                course.observe(process, now_ns);
            }
        }
        let ended_ns = Clock::now_boot_ns();
        let pause_ns = PAUSE_PER_LOOK * ended_ns.saturating_sub(began_ns);
        self.courses.next_look_ns = ended_ns + pause_ns.max(PAUSE.as_nanos() as u64);
    }

    /// What the sites of a process are judged by.
    pub(super) fn grounds(
        &self,
        key: ProcessKey,
        process: &ProcessLedger,
        losses: &Losses,
    ) -> Grounds<'_> {
        let course = self.courses.by_process.get(&key);
        let untraced = match course {
            // Where only some blocks are recorded, frees of others are no sign of older ones.
            Some(course) if process.was_found_running() && self.courses.has_all_blocks => {
                course.untraced_frees_per_second()
            }
            _ => 0.0,
        };
        let lost = losses.get(&process.tgid()).into_iter().flatten();
        let lost = lost.filter(|(counter, _)| *counter == Counter::FreesLost);
        let lost: u64 = lost.map(|(_, count)| *count).sum();
        let span = course.and_then(|it| it.times_s().last().zip(it.times_s().first()));
        let lost = match span {
            Some((last, first)) if last > first => lost as f64 / (last - first),
            _ => 0.0,
        };
        Grounds {
            course,
            circumstances: Circumstances {
                untraced_frees_per_second: untraced + lost,
            },
        }
    }
}

/// Tells those that grow how long memory lasts.
pub(super) fn set_memory_left(process: &ProcessLedger, summary: &mut ProcessSummary) {
    let is_growing = |judgement: &Judgement| judgement.verdict == Verdict::Growing;
    if process.exited_ns().is_some() || !is_growing(&summary.judgement) {
        return;
    }
    if let Some(left_bytes) = memory::left_bytes(process.tgid()) {
        summary.judgement.set_memory_left(left_bytes);
        for site in &mut summary.sites {
            site.judgement.set_memory_left(left_bytes);
        }
    }
}
