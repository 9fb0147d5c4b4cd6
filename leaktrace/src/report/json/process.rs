//! Owns how a process becomes its line.
//! Must not know sites, nor the envelope around the line.

use super::cut::Cuts;
use super::encode::{Integer, encoded_len, finite};
use super::line::{
    Accuracy, Allocator, Collected, Counts, Executable, Exited, Figures, Go, NotCovered, Overhead,
    Process, ProcessAttributes, ProcessIdentity, Suppressed, Windows, seconds,
};
use super::place::place;
use super::{counters, longest};
use crate::report::model::{self, Report};
use crate::report::units::rfc3339;

/// All of the line but its allocators, which take the room that is left.
pub(super) fn body<'a>(cuts: &mut Cuts, report: &Report, from: &'a model::Process) -> Process<'a> {
    Process {
        process: attributes(cuts, from),
        place: place(cuts, from),
        runtime: from.runtime.word(),
        go: from.go.as_ref().map(|go| Go {
            version: cuts.text("go.version", &go.version, longest::WORD),
            gc_cycles: Integer(go.gc_cycles),
            profile_bytes: go.profile_bytes.map(Integer),
        }),
        collected: from.go.as_ref().map(|go| Collected::from(&go.collected)),
        allocators: Vec::new(),
        coverage: from.coverage.word(),
        coverage_reason: cuts.optional("coverage_reason", &from.coverage_reason, longest::REASON),
        accuracy: Accuracy {
            kind: from.accuracy.kind.word(),
            sample_bytes: Integer(from.accuracy.sample_bytes),
            live_bytes_error: from.accuracy.live_bytes_error.map(Integer),
            windows: from.accuracy.windows.map(|windows| Windows {
                count: Integer(windows.count),
                recorded_seconds: seconds(windows.recorded),
                followed_seconds: seconds(windows.followed),
            }),
            lost: counters(cuts, "accuracy.lost", &from.accuracy.lost),
        },
        elapsed_seconds: seconds(report.elapsed),
        min_age_seconds: seconds(report.min_age),
        rss_bytes: from.rss_bytes.map(Integer),
        figures: from.has_figures().then(|| Figures {
            counts: Counts::from(&from.counts),
            freed_untraced_count: Integer(from.freed_untraced_count),
            site_count: Integer(from.site_count),
        }),
        verdict: from.verdict.word(),
        growth_bytes_per_second: from.growth_bytes_per_second.and_then(finite),
        overhead: Overhead {
            cpu_fraction: from.overhead.cpu_fraction().and_then(finite),
            hits_per_second: finite(from.overhead.hits_per_second),
            ns_per_hit: from.overhead.ns_per_hit.and_then(finite),
        },
        exited: from.exited.map(|exited| Exited {
            time: rfc3339(exited.time_unix_ns),
        }),
        suppressed: cuts.list(
            "suppressed",
            &from.suppressed,
            longest::SUPPRESSED,
            |cuts, from| Suppressed {
                pattern: cuts.text("suppressed.pattern", &from.pattern, longest::NAME),
                site_count: Integer(from.site_count),
                live_bytes: Integer(from.live_bytes),
                live_count: Integer(from.live_count),
            },
        ),
    }
}

/// Who the process is.
fn attributes<'a>(cuts: &mut Cuts, from: &'a model::Process) -> ProcessAttributes<'a> {
    let executable = &from.executable;
    let path = (!executable.path.is_empty()).then_some(&executable.path);
    ProcessAttributes {
        identity: ProcessIdentity::from(&from.identity),
        executable: Executable {
            name: cuts.text("executable.name", &executable.name, longest::NAME),
            path: path.map(|path| cuts.text("executable.path", path, longest::PATH)),
            build_id: cuts.optional("executable.build_id", &executable.build_id, longest::WORD),
        },
        command_line: cuts.text("command_line", &from.command_line, longest::COMMAND_LINE),
        owner: cuts.text("owner", &from.owner, longest::WORD),
    }
}

/// Adds the allocators, and as much of their lists as the line has room for.
pub(super) fn fill_allocators<'a>(
    process: &mut Process<'a>,
    cuts: &mut Cuts,
    from: &'a model::Process,
    room: usize,
) {
    // Half for who they are, so that the lists never get nothing.
    let mut allocators = cuts.list("allocators", &from.allocators, room / 2, |cuts, from| {
        Allocator {
            name: cuts.text("allocators.name", &from.name, longest::NAME),
            path: cuts.text("allocators.path", &from.path, longest::PATH),
            entry_points: Vec::new(),
            not_covered: Vec::new(),
            source: from,
        }
    });
    let mut room = room.saturating_sub(encoded_len(&allocators));
    let mut lists_left = 2 * allocators.len();
    // Each list gets an equal share of what those before it have left.
    for allocator in &mut allocators {
        let source = allocator.source;
        let share = room / lists_left;
        allocator.not_covered =
            cuts.list("not_covered", &source.not_covered, share, |cuts, from| {
                NotCovered {
                    name: cuts.text("not_covered.name", &from.name, longest::NAME),
                    reason: cuts.text("not_covered.reason", &from.reason, longest::REASON),
                }
            });
        room = room.saturating_sub(encoded_len(&allocator.not_covered));
        lists_left -= 1;
        let share = room / lists_left;
        allocator.entry_points =
            cuts.list("entry_points", &source.entry_points, share, |cuts, name| {
                cuts.text("entry_points.name", name, longest::NAME)
            });
        room = room.saturating_sub(encoded_len(&allocator.entry_points));
        lists_left -= 1;
    }
    process.allocators = allocators;
}
