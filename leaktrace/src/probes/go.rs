//! Owns the links of a Go program's probes.
//! Must not know how their places were chosen.

use std::fs::File;

use aya::programs::uprobe::UProbeAttachPoint;

use super::{Attached, Probes, Scope, links::Points};
use crate::golang::plan::{GoPlan, GoProbe, Way};
use leaktrace_common::go::{SweepCookie, sweep};

/// Spans that are swept, blocks that are handed out, and those that caches get: one link for all points of a file.
const GO_MULTI: [&str; 3] = ["go_sweep_multi", "go_alloc_multi", "go_refill_multi"];

/// One link for each point.
const GO: [&str; 3] = ["go_sweep", "go_alloc", "go_refill"];

/// Programs that do nothing, at all of them.
const GO_EMPTY: [&str; 3] = ["empty_enter_multi"; 3];

impl Probes {
    /// Puts programs that do nothing where `attach_go` would put the real ones: the least that any tracer with
    /// these probes can cost.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or lacks `uprobe_multi`.
    pub fn attach_go_empty(
        &mut self,
        file: &File,
        plan: &GoPlan,
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        self.attach_go_programs(GO_EMPTY, file, plan, Way::Every, scope)
    }

    /// Puts a Go program's probes in place, at every block where refills cannot be told. Sweeps are attached before allocations and detached after
    /// them: a block that is seen has its death seen too.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing of this file is attached then.
    pub fn attach_go(
        &mut self,
        file: &File,
        plan: &GoPlan,
        way: Way,
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let programs = if self.is_multi { GO_MULTI } else { GO };
        self.attach_go_programs(programs, file, plan, way, scope)
    }

    fn attach_go_programs(
        &mut self,
        [swept, handed_out, refilled]: [&'static str; 3],
        file: &File,
        plan: &GoPlan,
        way: Way,
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let (blocks, flags) = match (way, &plan.refills) {
            (Way::Refills, Ok(_)) => (refilled, sweep::COUNTS_UNUSED),
            _ => (handed_out, 0),
        };
        self.load_uprobe(blocks)?;
        self.load_uprobe(swept)?;
        let point = |file_offset: u64, cookie: u64| UProbeAttachPoint {
            location: file_offset.into(),
            cookie: Some(cookie),
        };
        let sweep_point = |probe: &GoProbe| {
            let mut cookie = SweepCookie::unpack(probe.cookie);
            cookie.flags |= flags;
            point(probe.file_offset, cookie.pack())
        };
        let block_point = |probe: &GoProbe| point(probe.file_offset, probe.cookie);
        let points = [
            Points::of_ends(swept, plan.sweeps.iter().map(sweep_point).collect()),
            Points::of_beginnings(blocks, plan.blocks(way).iter().map(block_point).collect()),
        ];
        self.attach_in_order(file, &points, scope)
    }
}
