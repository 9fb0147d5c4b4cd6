//! Owns the links of a Go program's probes.
//! Must not know how their places were chosen.

use std::{fs::File, os::fd::AsRawFd as _, path::PathBuf};

use aya::programs::uprobe::UProbeAttachPoint;

use super::{Attached, Probes, Programs, Scope, refused};
use crate::golang::plan::{GoPlan, GoProbe};

/// One link for all points of a file: blocks that are handed out, and spans that are swept.
const GO_MULTI: Programs = Programs {
    enter: "go_alloc_multi",
    exit: "go_sweep_multi",
};

/// One link for each point.
const GO: Programs = Programs {
    enter: "go_alloc",
    exit: "go_sweep",
};

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
        let programs = if self.is_multi { GO_MULTI } else { GO };
        for name in [programs.enter, programs.exit] {
            let program = self.uprobe(name)?;
            if program.fd().is_err() {
                program.load().map_err(|error| refused(error.into()))?;
            }
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let point = |probe: &GoProbe| UProbeAttachPoint {
            location: probe.file_offset.into(),
            cookie: Some(probe.cookie),
        };
        let sweeps: Vec<_> = plan.sweeps.iter().map(point).collect();
        let allocs: Vec<_> = plan.allocs.iter().map(point).collect();
        let mut attached = Attached {
            programs,
            enter: Vec::new(),
            exit: Vec::new(),
        };
        let result = self
            .attach_points(programs.exit, &sweeps, &path, scope, &mut attached.exit)
            .and_then(|()| {
                self.attach_points(programs.enter, &allocs, &path, scope, &mut attached.enter)
            });
        match result {
            Ok(()) => Ok(attached),
            Err(error) => {
                self.detach(attached);
                Err(error)
            }
        }
    }
}
