//! Owns what is judged and told of processes that are looked at in windows: by what survived of them.
//! Must not know how windows are made.

use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Tracer;
use crate::{
    host::clock::Clock,
    judge::{Judgement, Survivors, WindowsSeen, judge_windows},
    ledger::{ProcessKey, ProcessLedger},
    report::model::{self, AccuracyKind, Coverage, Verdict},
    summary::{self, ProcessSummary, SiteSummary, View},
};

impl Tracer {
    /// The judgement on a process as it stands, without naming anything: growing where one of its sites is that
    /// a report would list.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub fn judgement_of(&self, tgid: u32, view: View) -> anyhow::Result<Judgement> {
        let key = self.ledger.key(tgid);
        let Some((key, process)) = key.and_then(|key| Some((key, self.ledger.get(key)?))) else {
            return Ok(Judgement::default());
        };
        let losses = self.losses()?;
        let grounds = self.grounds(key, process, &losses);
        let (stacks, now_ns) = (&self.context.stacks, Clock::now_boot_ns());
        let mut summary = summary::summarize(process, stacks, now_ns, view, grounds);
        self.judge_windowed(key, process, &mut summary);
        let is_growing = |site: &SiteSummary| site.judgement.verdict == Verdict::Growing;
        let mut judgement = summary.judgement;
        judgement.verdict = if summary.sites.iter().any(is_growing) {
            Verdict::Growing
        } else {
            Verdict::Young
        };
        Ok(judgement)
    }

    /// Judges a process that is looked at in windows by what survived of them.
    pub(super) fn judge_windowed(
        &self,
        key: ProcessKey,
        process: &ProcessLedger,
        summary: &mut ProcessSummary,
    ) {
        let Some(windows) = self.requested.windows.get(&key) else {
            return;
        };
        // What was made in a window that goes on has not survived it.
        let is_over = windows.recording.0.is_none() && windows.following.0.is_none();
        let ended = windows.begins_us.len() - usize::from(!is_over);
        let end_us = windows.begins_us.get(ended).copied().unwrap_or(u64::MAX);
        let mut births: FxHashMap<usize, (u64, FxHashSet<usize>)> = FxHashMap::default();
        for (site, born_us) in process.births().filter(|(_, born_us)| *born_us < end_us) {
            let window = windows.begins_us.partition_point(|it| *it <= born_us);
            let (samples, made_in) = births.entry(site).or_default();
            *samples += 1;
            made_in.insert(window);
        }
        let survivors = |numbers: &[u32]| {
            let mut sum = Survivors::default();
            let mut made_in: FxHashSet<usize> = FxHashSet::default();
            for number in numbers.iter().map(|it| *it as usize) {
                let Some((samples, windows)) = births.get(&number) else {
                    continue;
                };
                let born = process.sites()[number].born_before(end_us);
                sum.bytes += born.bytes;
                sum.samples += samples;
                made_in.extend(windows);
            }
            sum.windows = made_in.len() as u64;
            let watched = self.requested.watched.get(&key);
            (sum.watched, sum.freed) = watched.map_or((0, 0), |it| it.outcome(numbers));
            sum
        };
        let numbers: Vec<u32> = births.keys().map(|it| *it as u32).collect();
        let all = survivors(&numbers);
        let seen = WindowsSeen {
            count: ended as u64,
            seconds: windows.recording.1 as f64 / 1e9,
            process_bytes_per_second: windows.bytes_per_second,
        };
        summary.judgement = judge_windows(all, all, seen);
        for site in &mut summary.sites {
            site.judgement = judge_windows(survivors(site.numbers()), all, seen);
        }
    }

    /// Says of a process how it was looked at, where that was in windows.
    pub(super) fn tell_windows(&self, key: ProcessKey, process: &mut model::Process) {
        let Some(windows) = self.requested.windows.get(&key) else {
            return;
        };
        let (count, recorded) = (windows.begins_us.len(), windows.recording.1);
        process.accuracy.windows = Some(model::Windows {
            count: count as u64,
            recorded: Duration::from_nanos(recorded),
            followed: Duration::from_nanos(windows.following.1),
        });
        process.accuracy.lost.remove("blocks_unfollowed");
        if process.accuracy.kind == AccuracyKind::Exact {
            process.accuracy.kind = AccuracyKind::Sampled;
        }
        if process.coverage != Coverage::None {
            process.coverage = Coverage::Partial;
            let watched = self.requested.watched.get(&key);
            let unwatched = watched.and_then(|it| it.why_not()).map(|why| {
                format!("; whether survivors are freed between windows is not seen: {why}")
            });
            process.coverage_reason = Some(format!(
                "every call would cost more than allowed: looked at in {count} windows of {} ms in all, \
                 and figures are of what survived them{}",
                recorded / 1_000_000,
                unwatched.unwrap_or_default()
            ));
        }
    }
}
