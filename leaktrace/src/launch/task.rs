//! Owns what /proc tells of one thread.
//! Must not know what follows from it.

use std::fs;

use nix::unistd::Pid;

/// How threads, processes and tracers belong together, in the kernel's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskStatus {
    /// The process that a thread belongs to.
    pub(super) process: Pid,
    /// The process that made it.
    pub(super) parent: Pid,
    /// The thread that traces it, or 0.
    pub(super) tracer: Pid,
}

impl TaskStatus {
    /// Reads what the kernel tells of a thread, unless it is gone.
    pub(super) fn read(tid: Pid) -> Option<Self> {
        // The kernel makes this text, a line a field, and escapes the name in it.
        let bytes = fs::read(format!("/proc/{tid}/status")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let field = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse().ok().map(Pid::from_raw)
        };
        Some(Self {
            process: field("Tgid:")?,
            parent: field("PPid:")?,
            tracer: field("TracerPid:")?,
        })
    }
}
