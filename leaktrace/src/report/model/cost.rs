//! Owns what tracing costs a process, and when it was looked at to cost no more, as reports tell it.
//! Must not know how it was measured.

use std::time::Duration;

/// What tracing costs the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overhead {
    /// Traps a second since the last report.
    pub hits_per_second: f64,
    /// CPU nanoseconds a trap, where it was calibrated on this host.
    pub ns_per_hit: Option<f64>,
}

impl Overhead {
    /// The share of one CPU that the traps take, where their cost is known.
    pub fn cpu_fraction(&self) -> Option<f64> {
        self.ns_per_hit.map(|ns| self.hits_per_second * ns / 1e9)
    }
}

/// When a process was looked at whose every call would cost too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// How often.
    pub count: u64,
    /// For how long allocations were recorded, in all.
    pub recorded: Duration,
    /// For how long, in all, it was then waited for their frees.
    pub followed: Duration,
}
