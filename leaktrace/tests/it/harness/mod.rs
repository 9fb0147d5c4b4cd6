//! Owns what every test needs: programs to trace, the agent, and its stream, read and validated.
//! Must not know what any test is about.

pub mod agent;
pub mod golang;
pub mod kernel;
pub mod lines;
pub mod programs;
pub mod stream;
pub mod truth;
pub mod workload;

use std::time::Duration;

/// How long anything may take that is waited for: far beyond what a slow machine needs, so that
/// only what hangs meets it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How long the agent may take until its probes are in place. Before that it reads the symbols of every library that
/// the host maps, which a cold and shared disk gives slowly.
pub const READINESS: Duration = Duration::from_secs(240);
