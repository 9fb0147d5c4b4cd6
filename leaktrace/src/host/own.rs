//! Owns what the agent can tell of its own process.
//! Must not know who asks.

use std::fs;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use super::{
    clock::{Clock, ticks_to_boot_ns},
    process,
};

/// What the agent uses. A figure that the system does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnFigures {
    /// CPU time in user and kernel mode, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// When it started, in seconds since the Unix epoch.
    pub start_time_unix_seconds: f64,
}

impl OwnFigures {
    /// Asks the system.
    #[must_use]
    pub fn read() -> Self {
        let pid = std::process::id();
        let cpu_us = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
            (usage.user_time() + usage.system_time()).num_microseconds()
        });
        let started_ns = process::start_ticks(pid).map_or(0, ticks_to_boot_ns);
        let started_unix_ns = Clock::anchor().map_or(0, |clock| clock.boot_to_unix_ns(started_ns));
        // The listing itself holds one.
        let fds = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1));
        Self {
            cpu_seconds: cpu_us as f64 / 1e6,
            resident_bytes: process::rss_bytes(pid).unwrap_or(0),
            open_fds: fds as u64,
            start_time_unix_seconds: (started_unix_ns as f64 / 1e9).round(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// Each figure is one that a running process can have.
    #[test]
    fn figures_are_plausible() {
        let file = fs::File::open("/proc/self/stat").unwrap();
        let own = OwnFigures::read();
        drop(file);
        assert!(
            own.cpu_seconds > 0.0 && own.cpu_seconds < 86_400.0,
            "{own:?}"
        );
        assert!(own.resident_bytes > 1 << 20, "{own:?}");
        assert!(own.open_fds >= 4, "{own:?}");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age = now - own.start_time_unix_seconds;
        assert!((-1.0..86_400.0).contains(&age), "started {age} s ago");
    }
}
