//! Owns the session's one relation between the kernel's clocks and calendar time.
//! Must not know what is dated with it.

use std::{io, sync::OnceLock};

use nix::{
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// How often the two clocks are compared; the tightest comparison wins.
const ANCHOR_ATTEMPTS: usize = 8;

/// The anchor: what calendar time it was at one moment of `CLOCK_BOOTTIME`.
///
/// There is one per run of the agent, so that a process keeps its identity (pid and
/// start time) over all reports even when somebody sets the calendar clock in
/// between, also where it gets probes only later. Boot time, and not monotonic time, because `/proc/PID/stat` counts
/// in it and because it goes on while the machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    boot_ns: u64,
    unix_ns: u64,
}

/// The one of this run.
static ANCHOR: OnceLock<Clock> = OnceLock::new();

impl Clock {
    /// The anchor of this run, for which the two clocks are compared when it is first asked for.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn anchor() -> io::Result<Self> {
        match ANCHOR.get() {
            Some(anchor) => Ok(*anchor),
            None => {
                let anchor = Self::compare()?;
                Ok(*ANCHOR.get_or_init(|| anchor))
            }
        }
    }

    /// Compares the two clocks now.
    fn compare() -> io::Result<Self> {
        let mut best: Option<(u64, Self)> = None;
        for _ in 0..ANCHOR_ATTEMPTS {
            let before_ns = read_ns(ClockId::CLOCK_BOOTTIME)?;
            let unix_ns = read_ns(ClockId::CLOCK_REALTIME)?;
            let after_ns = read_ns(ClockId::CLOCK_BOOTTIME)?;
            let width_ns = after_ns.saturating_sub(before_ns);
            if best.is_none_or(|(narrowest_ns, _)| width_ns < narrowest_ns) {
                let boot_ns = before_ns + width_ns / 2;
                best = Some((width_ns, Self { boot_ns, unix_ns }));
            }
        }
        Ok(best.expect("at least one attempt was made").1)
    }

    /// Nanoseconds since boot, on the clock that `bpf_ktime_get_boot_ns` reads.
    pub fn now_boot_ns() -> u64 {
        // Linux has had this clock since 2.6.39; a clock that exists cannot fail.
        read_ns(ClockId::CLOCK_BOOTTIME).unwrap_or(0)
    }

    /// How long this machine has slept: by so much `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`.
    pub fn asleep_ns() -> u64 {
        let awake_ns = read_ns(ClockId::CLOCK_MONOTONIC).unwrap_or(0);
        let ahead_ns = Self::now_boot_ns().saturating_sub(awake_ns);
        // What has passed between the two readings is no sleep.
        if ahead_ns < NS_PER_SECOND {
            0
        } else {
            ahead_ns
        }
    }

    /// Calendar time of a moment since boot; clamped to what 64 bits can tell.
    pub fn boot_to_unix_ns(&self, boot_ns: u64) -> u64 {
        let unix_ns = i128::from(self.unix_ns) + i128::from(boot_ns) - i128::from(self.boot_ns);
        u64::try_from(unix_ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// Turns the clock ticks of `/proc/PID/stat` into nanoseconds since boot.
pub fn ticks_to_boot_ns(ticks: u64) -> u64 {
    ticks_to_ns(ticks, ticks_per_second())
}

fn ticks_to_ns(ticks: u64, per_second: u64) -> u64 {
    let ns = u128::from(ticks) * u128::from(NS_PER_SECOND) / u128::from(per_second.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// `USER_HZ`: 100 on every architecture that leaktrace runs on, but it is the
/// C library that promises it.
fn ticks_per_second() -> u64 {
    match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(hz)) => u64::try_from(hz).unwrap_or(100),
        _ => 100,
    }
}

fn read_ns(clock: ClockId) -> io::Result<u64> {
    let time = clock_gettime(clock)?;
    // Both clocks count from a moment in the past, so neither part is negative.
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Ok(seconds
        .saturating_mul(NS_PER_SECOND)
        .saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// The present moment since boot is the present moment of the calendar.
    #[test]
    fn now_is_now() {
        let clock = Clock::anchor().unwrap();
        let unix_ns = clock.boot_to_unix_ns(Clock::now_boot_ns());
        let expected_ns = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        assert!(u128::from(unix_ns).abs_diff(expected_ns) < 1_000_000_000);
    }

    /// Whoever asks gets the same one, however much later: else a start time would differ by who tells it.
    #[test]
    fn there_is_one() {
        let first = Clock::anchor().unwrap();
        assert_ne!(Clock::compare().unwrap(), first);
        assert_eq!(Clock::anchor().unwrap(), first);
    }

    /// Moments before and after the anchor keep their distance to it.
    #[test]
    fn distances_are_kept() {
        let clock = Clock {
            boot_ns: 1_000,
            unix_ns: 5_000,
        };
        assert_eq!(clock.boot_to_unix_ns(1_000), 5_000);
        assert_eq!(clock.boot_to_unix_ns(0), 4_000);
        assert_eq!(clock.boot_to_unix_ns(1_700), 5_700);
        assert_eq!(clock.boot_to_unix_ns(u64::MAX), u64::MAX);
    }

    /// Ticks become nanoseconds without overflow, whatever is read.
    #[test]
    fn ticks_become_nanoseconds() {
        assert_eq!(ticks_to_ns(0, 100), 0);
        assert_eq!(ticks_to_ns(123, 100), 1_230_000_000);
        assert_eq!(ticks_to_ns(u64::MAX, 100), u64::MAX);
        assert_eq!(ticks_to_ns(1, 0), 1_000_000_000);
    }
}
