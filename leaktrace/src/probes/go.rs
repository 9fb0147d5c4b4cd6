//! Owns the links of a Go program's probes.
//! Must not know how their places were chosen.

use std::fs::File;

use aya::programs::uprobe::UProbeAttachPoint;

use super::{Attached, Probes, Scope};
use crate::golang::plan::{GoPlan, GoProbe};

/// Blocks that are handed out, and spans that are swept: one link for all points of a file.
const GO_MULTI: [&str; 2] = ["go_alloc_multi", "go_sweep_multi"];

/// One link for each point.
const GO: [&str; 2] = ["go_alloc", "go_sweep"];

impl Probes {
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
        let [alloc, sweep] = if self.is_multi { GO_MULTI } else { GO };
        self.load_uprobe(alloc)?;
        self.load_uprobe(sweep)?;
        let point = |probe: &GoProbe| UProbeAttachPoint {
            location: probe.file_offset.into(),
            cookie: Some(probe.cookie),
        };
        let points = [
            (sweep, plan.sweeps.iter().map(point).collect()),
            (alloc, plan.allocs.iter().map(point).collect()),
        ];
        self.attach_in_order(file, &points, scope)
    }
}
