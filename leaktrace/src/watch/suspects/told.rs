//! Owns what is told of those that have or had probes.
//! Must not know who gets probes and when.

use super::{State, Suspect, Suspects};
use crate::{
    host::clock::Clock,
    report::model::{AccuracyKind, Overhead, Process, Report, Verdict},
    watch::survey::Seen,
};

impl Suspects {
    /// What is known of all that have or had probes. Those without a word are to be told of by their memory
    /// alone, with the clause that comes with them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub async fn report(&mut self, number: u32, ranked: &[Seen]) -> anyhow::Result<Report> {
        let mut report = match &mut self.tracer {
            Some(tracer) => {
                tracer.drain()?;
                let report = tracer.report(number, self.view).await?;
                tracer.settle();
                report
            }
            None => Report::default(),
        };
        // One whose probes are still to come is told by its memory.
        report.processes.retain(|process| {
            let suspect = self.by_pid.get(&process.identity.pid);
            let is_probed = |it: &Suspect| match &it.state {
                // One of Go's is forgotten until then.
                State::Probed { probing, .. } => !(probing.takes_refills() && probing.is_out()),
                _ => false,
            };
            process.exited.is_some() || suspect.is_some_and(is_probed)
        });
        let now_ns = Clock::now_boot_ns();
        for seen in ranked {
            let Some(suspect) = self.by_pid.get(&seen.pid) else {
                continue;
            };
            if suspect.start_ticks != seen.start_ticks {
                continue;
            }
            match &suspect.state {
                State::Found { process, out_ns } => {
                    report
                        .processes
                        .push(since_found(process, seen, now_ns - out_ns));
                }
                State::Probed { .. } | State::Prepared { .. } => {
                    let pid = seen.pid;
                    let mut told = report.processes.iter_mut();
                    if let Some(process) = told.find(|it| it.identity.pid == pid)
                        && process.exited.is_none()
                    {
                        by_memory(process, seen);
                    }
                }
                State::Left { .. } => {}
            }
        }
        Ok(report)
    }
}

/// A process whose memory keeps growing is told to, whatever sites are known yet.
fn by_memory(process: &mut Process, seen: &Seen) {
    process.growth_bytes_per_second = seen.is_told.then(|| seen.bytes_per_second());
    if seen.trend.is_some() {
        process.verdict = Verdict::Growing;
    }
}

/// A process in which a leak was found some time ago: its sites as they were, its memory as it is.
fn since_found(process: &Process, seen: &Seen, out_ns: u64) -> Process {
    let mut process = process.clone();
    process.rss_bytes = Some(seen.memory.rss_bytes);
    process.growth_bytes_per_second = seen.is_told.then(|| seen.bytes_per_second());
    if seen.is_told && seen.trend.is_none() {
        process.verdict = Verdict::Stable;
    }
    process.overhead = Overhead {
        hits_per_second: 0.0,
        ..process.overhead
    };
    if process.accuracy.kind == AccuracyKind::Exact {
        process.accuracy.kind = AccuracyKind::Lossy;
    }
    let lost = &mut process.accuracy.lost;
    *lost.entry("unwatched_milliseconds").or_default() += out_ns / 1_000_000;
    process
}
