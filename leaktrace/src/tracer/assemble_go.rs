//! Owns what a report tells of Go processes beside what it tells of all.
//! Must not know how a report is written.

use super::{Tracer, attach_go::GoProgram};
use crate::{
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
        let functions = plan.functions(self.go_way()).into_iter();
        let mut entry_points: Vec<String> = functions.map(str::to_owned).collect();
        if self.go.profile_rate(tgid).is_some() {
            // Nothing is probed.
            entry_points.clear();
        }
        Some(Ok(model::Allocator {
            name: GO.to_owned(),
            path: path.to_owned(),
            entry_points,
            not_covered: Vec::new(),
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
