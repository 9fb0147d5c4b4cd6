//! Owns what a report tells of Go processes beside what it tells of all.
//! Must not know how a report is written.

use super::{Tracer, attach_go::GoProgram};
use leaktrace_common::counter::Counter;

use crate::{
    golang::{
        binary::Version,
        layout::{KNOWN_MINORS, LayoutSource},
    },
    host::process,
    ledger::{ProcessLedger, SiteAges},
    report::model,
    summary::ProcessSummary,
};

/// The name of Go's heap among allocators.
pub(super) const GO: &str = "go";

impl Tracer {
    /// The Go heap of a process as one of its allocators, or why it is not seen; `None` where it has
    /// none.
    pub(super) fn go_coverage(&self, tgid: u32) -> Option<Result<model::Allocator, String>> {
        let (program, path) = self.go.of(tgid)?;
        let plan = match program {
            GoProgram::Planned(plan) => plan,
            GoProgram::Refused(why) => {
                return Some(Err(format!("its Go heap is not traced: {why}")));
            }
            GoProgram::Other => return None,
        };
        if let Some(why) = self.go.failure(tgid) {
            return Some(Err(format!("its Go heap is not traced: {why}")));
        }
        let functions = plan.functions(self.go_way(Some(tgid))).into_iter();
        let mut entry_points: Vec<String> = functions.map(str::to_owned).collect();
        if self.go.profile_rate(tgid).is_some() {
            // Nothing is probed.
            entry_points.clear();
        }
        Some(Ok(model::Allocator {
            name: GO.to_owned(),
            path: path.to_owned(),
            entry_points,
            not_covered: plan
                .has_arenas
                .then(arenas)
                .into_iter()
                .chain((plan.layout == LayoutSource::DebugInfo).then(|| newer(&plan.version)))
                .collect(),
        }))
    }

    /// What is told of a Go process beside what is told of all.
    pub(super) fn go_facts(
        &self,
        process: &ProcessLedger,
        summary: &ProcessSummary,
    ) -> Option<model::Go> {
        let (GoProgram::Planned(plan), _) = self.go.of(process.tgid())? else {
            return None;
        };
        Some(model::Go {
            version: plan.version.text.clone(),
            gc_cycles: process.gc_cycles(),
            profile_bytes: self.go.profile_rate(process.tgid()),
            collected: collected(&summary.go_ages),
        })
    }
}

/// What user arenas hold is never handed out by the allocator.
fn arenas() -> model::NotCovered {
    model::NotCovered {
        name: "runtime.newUserArena".to_owned(),
        reason: "objects in user arenas are not handed out by the allocator, and are not seen"
            .to_owned(),
    }
}

/// What a collector that is not known does is not told by where its structures have their fields.
fn newer(version: &Version) -> model::NotCovered {
    model::NotCovered {
        name: "runtime".to_owned(),
        reason: format!(
            "{version} is newer than what is known: its debug information tells where to look, and its collector is \
             taken for that of Go 1.{}",
            KNOWN_MINORS.end()
        ),
    }
}

/// Marks that were not there hold nothing, unless they were swapped out: then what they held was lost.
pub(super) fn doubted(tgid: u32, mut accuracy: model::Accuracy) -> model::Accuracy {
    if accuracy.kind == model::AccuracyKind::Exact
        && accuracy.lost.contains_key(Counter::GoMarksAbsent.name())
        && process::swapped_bytes(tgid).is_ok_and(|bytes| bytes > 0)
    {
        accuracy.kind = model::AccuracyKind::Lossy;
    }
    accuracy
}

/// What collections have said of a site's objects.
pub(super) fn collected(ages: &SiteAges) -> model::Collected {
    model::Collected {
        gc_cycles_survived: ages.gc_cycles_survived,
        not_yet_collected_bytes: ages.not_yet_collected_bytes,
    }
}

/// The name of the allocator beside Go's that a process's blocks come from.
pub(super) fn native_name(allocators: &[model::Allocator]) -> String {
    let native = allocators.iter().find(|it| it.name != GO);
    native.map_or("native", |it| it.name.as_str()).to_owned()
}
