//! Owns what the agent tells the probes before they are loaded.
//! Must not know where the values come from.

use crate::policy::Policy;

/// Read-only settings of the probes, in their read-only data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProbeConfig {
    /// Smallest allocation that is followed, in bytes.
    pub min_size: u64,
    /// Largest allocation that is followed, in bytes.
    pub max_size: u64,
    /// The agent's own process, which is never traced: tracing it would feed on itself.
    pub agent_tgid: u32,
    /// Bytes waiting in the ring at which the agent is woken.
    pub wake_up_bytes: u32,
    /// Where `task:task_newtask` has the new thread's id, in bytes.
    pub newtask_pid_offset: u32,
    /// Where `task:task_newtask` has the clone flags, in bytes.
    pub newtask_flags_offset: u32,
    /// Where `sched:sched_process_exit` tells that the whole process ends; 0 before Linux 6.17,
    /// where the exit of the first thread is taken for it.
    pub exit_group_dead_offset: u32,
    /// Whether processes have policies and their hits are counted. Where not, every call is recorded
    /// and the kernel leaves all that out of the programs.
    pub is_governed: u32,
    /// One in so many stacks is sent with what it was walked from, to be checked; 0 for none, and
    /// the kernel leaves it out of the programs.
    pub oracle_one_in: u32,
    /// Whether the kernel has `bpf_loop` (5.17); where not, a bounded loop takes its
    /// place, which takes longer to load.
    pub has_loop: u32,
    /// Whether the stacks of new processes, whose code is not known yet, are sent to be walked; where not, the kernel
    /// leaves that out of the programs.
    pub sends_early: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
    /// The policy of processes that have none of their own.
    pub policy: Policy,
}

impl ProbeConfig {
    /// Follows every size and knows no tracepoint layout yet.
    pub const DEFAULT: Self = Self {
        min_size: 0,
        max_size: u64::MAX,
        agent_tgid: 0,
        wake_up_bytes: 0,
        newtask_pid_offset: 8,
        newtask_flags_offset: 32,
        exit_group_dead_offset: 0,
        is_governed: 0,
        oracle_one_in: 0,
        has_loop: 1,
        sends_early: 0,
        reserved: 0,
        policy: Policy::EVERYTHING,
    };
}

const _: () = assert!(size_of::<ProbeConfig>() == 80);
