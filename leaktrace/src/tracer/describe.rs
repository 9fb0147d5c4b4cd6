//! Owns how an allocator that was found in a file stands in a report.
//! Must not know processes.

use crate::report::model;

/// An allocator, with what of it is probed and what is not.
pub(super) fn described(allocator: &crate::attachments::Allocator, path: &str) -> model::Allocator {
    let plan = &allocator.plan;
    model::Allocator {
        name: allocator.name.to_owned(),
        path: path.to_owned(),
        entry_points: plan
            .probes
            .iter()
            .flat_map(|probe| probe.names.iter().map(|name| (*name).to_owned()))
            .collect(),
        not_covered: plan
            .not_covered
            .iter()
            .map(|it| model::NotCovered {
                name: it.name.to_owned(),
                reason: it.reason.clone(),
            })
            .collect(),
    }
}
