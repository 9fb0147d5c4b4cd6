//! Owns the links of a Go program's probes.
//! Must not know how their places were chosen.

use std::fs::File;

use aya::programs::uprobe::UProbeAttachPoint;

use super::{Attached, Probes, Scope, links::Points};
use crate::golang::plan::{GoPlan, GoProbe};

/// Blocks that are handed out, and spans that are swept: one link for all points of a file.
const GO_MULTI: [&str; 2] = ["go_alloc_multi", "go_sweep_multi"];

/// One link for each point.
const GO: [&str; 2] = ["go_alloc", "go_sweep"];

/// Programs that do nothing, at both.
const GO_EMPTY: [&str; 2] = ["empty_enter_multi"; 2];

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
        self.attach_go_programs(GO_EMPTY, file, plan, scope)
    }

    /// Puts a Go program's probes in place. Sweeps are attached before allocations and detached after
    /// them: a block that is seen has its death seen too.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing of this file is attached then.
    pub fn attach_go(
        &mut self,
        file: &File,
        plan: &GoPlan,
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let programs = if self.is_multi { GO_MULTI } else { GO };
        self.attach_go_programs(programs, file, plan, scope)
    }

    fn attach_go_programs(
        &mut self,
        [alloc, sweep]: [&'static str; 2],
        file: &File,
        plan: &GoPlan,
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        self.load_uprobe(alloc)?;
        self.load_uprobe(sweep)?;
        let point = |probe: &GoProbe| UProbeAttachPoint {
            location: probe.file_offset.into(),
            cookie: Some(probe.cookie),
        };
        let points = [
            Points::of_ends(sweep, plan.sweeps.iter().map(point).collect()),
            Points::of_beginnings(alloc, plan.allocs.iter().map(point).collect()),
        ];
        self.attach_in_order(file, &points, scope)
    }
}
