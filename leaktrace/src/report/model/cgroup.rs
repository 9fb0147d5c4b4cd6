//! Owns what a report tells of a control group.
//! Must not know how it was read.

use super::{Container, K8s, Verdict};

/// A control group that accounts for memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cgroup {
    /// Its path, as `/proc/PID/cgroup` has it.
    pub path: String,
    /// Its container, where it is one.
    pub container: Option<Container>,
    /// Its pod.
    pub k8s: Option<K8s>,
    /// Processes in it.
    pub process_count: u64,
    /// All memory that is charged to it, caches of files too.
    pub memory_bytes: u64,
    /// Of that, what no file backs.
    pub anonymous_bytes: u64,
    /// The most that it may have; `None` for no limit.
    pub limit_bytes: Option<u64>,
    /// Processes that were killed in it, for want of memory, since it is watched.
    pub oom_kill_count: u64,
    /// Programs in it that ended and came back since it is watched.
    pub restart_count: u64,
    /// Whether its anonymous memory keeps growing.
    pub verdict: Verdict,
    /// How fast; `None` before that can be told.
    pub growth_bytes_per_second: Option<f64>,
}
