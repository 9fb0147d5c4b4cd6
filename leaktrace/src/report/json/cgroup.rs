//! Owns how a control group becomes its line.
//! Must not know the envelope around the line.

use std::borrow::Cow;

use serde::Serialize;

use super::cut::Cuts;
use super::encode::Integer;
use super::longest;
use super::place::{Place, place_of};
use crate::report::model;

#[derive(Serialize)]
pub(super) struct CgroupLine<'a> {
    cgroup: Path<'a>,
    #[serde(flatten)]
    place: Place<'a>,
    process_count: Integer,
    memory_bytes: Integer,
    anonymous_bytes: Integer,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<Integer>,
    oom_kill_count: Integer,
    restart_count: Integer,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_bytes_per_second: Option<f64>,
}

#[derive(Serialize)]
struct Path<'a> {
    path: Cow<'a, str>,
}

/// The line of a control group.
pub(super) fn body<'a>(cuts: &mut Cuts, from: &'a model::Cgroup) -> CgroupLine<'a> {
    CgroupLine {
        cgroup: Path {
            path: cuts.text("cgroup.path", &from.path, longest::PATH),
        },
        place: place_of(cuts, from.container.as_ref(), from.k8s.as_ref()),
        process_count: Integer(from.process_count),
        memory_bytes: Integer(from.memory_bytes),
        anonymous_bytes: Integer(from.anonymous_bytes),
        limit_bytes: from.limit_bytes.map(Integer),
        oom_kill_count: Integer(from.oom_kill_count),
        restart_count: Integer(from.restart_count),
        verdict: from.verdict.word(),
        growth_bytes_per_second: from.growth_bytes_per_second.filter(|it| it.is_finite()),
    }
}
