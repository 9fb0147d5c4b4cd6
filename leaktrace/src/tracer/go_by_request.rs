//! Owns Go programs that are added to the trace one by one and whose every allocation would cost too much: they are
//! sampled where their allocator's caches get their blocks, which is one trap in many.
//! Must not know who asks for it, or what may be spent.
//!
//! There are no windows for them: what dies between two is told by no free, and addresses are used anew.

use leaktrace_common::policy::{Policy, REFILL_SAMPLE_BYTES_MIN};

use super::{Tracer, attach_go::GoProgram};

impl Tracer {
    /// Whether a process is one of Go's that can be sampled where its caches get their blocks.
    #[must_use]
    pub fn has_refills(&self, tgid: u32) -> bool {
        let program = self.go.of(tgid).map(|(program, _)| program);
        matches!(program, Some(GoProgram::Planned(plan)) if plan.refills.is_ok())
    }

    /// Takes a process's probes out, and forgets what was seen of it: nobody will see that die. It is prepared anew.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read or write its maps.
    pub fn begin_anew(&mut self, tgid: u32) -> anyhow::Result<()> {
        self.remove(tgid)?;
        self.prepare(tgid)
    }

    /// Puts probes into a Go process that was prepared, where its allocator's caches get their blocks.
    ///
    /// # Errors
    ///
    /// In one clause, where it cannot be traced.
    pub fn add_refills(&mut self, tgid: u32) -> Result<(), String> {
        self.go.sample_refills(tgid);
        let policy = Policy::sampled(REFILL_SAMPLE_BYTES_MIN);
        self.add_with(tgid, &policy)
    }
}
