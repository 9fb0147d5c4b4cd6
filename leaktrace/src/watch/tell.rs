//! Owns what is said of processes that have no probes.
//! Must not know how memory is read or trends are told.

use super::{groups::GroupSeen, survey::Seen};
use crate::{
    host::{clock::Clock, process::ProcessFacts},
    report::model::{
        Accuracy, AccuracyKind, Cgroup, Coverage, Executable, Process, ProcessIdentity, Verdict,
    },
};

/// A process without probes, as the report tells it, but for where it runs. What it allocates is not zero but
/// unseen: it has no figures beside its memory, and its whole time is told as unwatched.
pub fn unprobed(
    seen: &Seen,
    facts: ProcessFacts,
    clock: &Clock,
    since_ns: u64,
    more: &[String],
) -> Process {
    let path = facts.executable.as_ref();
    let path = path.map(|path| path.to_string_lossy().into_owned());
    let verdict = match (seen.trend, seen.is_told) {
        (Some(_), _) => Verdict::Growing,
        (None, true) => Verdict::Stable,
        (None, false) => Verdict::Young,
    };
    let unwatched_ns = Clock::now_boot_ns().saturating_sub(since_ns.max(facts.start_boot_ns));
    Process {
        identity: ProcessIdentity {
            pid: seen.pid,
            start_time_unix_ns: clock.boot_to_unix_ns(facts.start_boot_ns),
        },
        executable: Executable {
            name: facts.executable_name(),
            path: path.unwrap_or_default(),
            build_id: None,
        },
        command_line: facts.command_line,
        owner: facts.owner,
        coverage: Coverage::None,
        coverage_reason: Some(reason(seen, more)),
        accuracy: Accuracy {
            kind: AccuracyKind::Lossy,
            lost: [("unwatched_milliseconds", unwatched_ns / 1_000_000)].into(),
            ..Accuracy::default()
        },
        rss_bytes: Some(seen.memory.rss_bytes),
        verdict,
        growth_bytes_per_second: seen.is_told.then(|| seen.bytes_per_second()),
        ..Process::default()
    }
}

/// A control group, but for the names of its container.
pub fn cgroup(seen: &GroupSeen) -> Cgroup {
    Cgroup {
        path: seen.group.path().to_string_lossy().into_owned(),
        process_count: seen.process_count.into(),
        memory_bytes: seen.memory.bytes,
        anonymous_bytes: seen.memory.anonymous_bytes,
        limit_bytes: seen.memory.limit_bytes,
        oom_kill_count: seen.oom_kill_count,
        restart_count: seen.restart_count,
        verdict: match (seen.trend, seen.is_told) {
            (Some(_), _) => Verdict::Growing,
            (None, true) => Verdict::Stable,
            (None, false) => Verdict::Young,
        },
        growth_bytes_per_second: seen.is_told.then(|| seen.bytes_per_second()),
        ..Cgroup::default()
    }
}

/// Why its allocations are not seen, and what its memory told.
fn reason(seen: &Seen, more: &[String]) -> String {
    let told = match (&seen.trend, seen.is_told) {
        (Some(trend), _) => format!(
            "its anonymous memory rose by {} KiB in {:.0} s",
            (trend.growth_bytes / 1024.0) as u64,
            trend.span_seconds,
        ),
        (None, true) => "its anonymous memory does not keep growing".to_owned(),
        (None, false) => "its memory was not watched for long enough".to_owned(),
    };
    let more: String = more.iter().map(|more| format!("; {more}")).collect();
    let restarts = restarts(seen).unwrap_or_default();
    format!("no probes, its memory is watched from outside: {told}{restarts}{more}")
}

/// What is known of those that it came in place of.
fn restarts(seen: &Seen) -> Option<String> {
    let (count, risen) = (seen.restarts.count, seen.restarts.risen);
    let how = match risen {
        0 => String::new(),
        _ => format!(", and the last {risen} rose until they ended"),
    };
    let often = match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    };
    (count > 0).then(|| format!("; it was started again {often}{how}"))
}
