//! Owns the look at the memory of every process of the host, without any probe.
//! Must not know what is done about those that grow.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    state::Course,
    trend::{Series, Trend},
};
use crate::host::{
    clock::{Clock, ticks_to_boot_ns},
    process,
    resident::{Memory, MemoryFile, page_bytes},
};

/// Processes whose files are kept open, where as many descriptors are allowed; those beyond are opened at
/// each look.
const OPEN_MAX: u64 = 8_192;

/// Descriptors that are left to everything else.
const OPEN_BY_OTHERS: u64 = 512;

/// Processes that are followed; a host with more is looked at in part, and that is counted.
const FOLLOWED_MAX: usize = 32_768;

/// Looks at a new process that do not count: programs warm up.
const WARM_UP_LOOKS: u32 = 6;

/// Who has come is asked at one of so many looks: new processes warm up anyway.
const LISTED_ONE_IN: u64 = 2;

/// A process whose memory has not risen for so many looks is looked at at one of so many, until it rises.
const CALM_LOOKS: u32 = 6;
const CALM_ONE_IN: u64 = 4;

/// One process.
struct Followed {
    start_ticks: u64,
    file: Option<MemoryFile>,
    memory: Memory,
    series: Series,
    /// Looks since it last rose.
    calm_looks: u32,
}

/// Every process that is followed.
pub struct Survey {
    pause: Duration,
    look_count: u64,
    followed: FxHashMap<u32, Followed>,
    page_bytes: u64,
    open_max: usize,
    open_count: usize,
    /// Processes that were not followed for want of room.
    pub refused_count: u64,
}

/// A process as it was seen last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The process.
    pub pid: u32,
    /// When it began, in clock ticks since boot: with the pid, its identity.
    pub start_ticks: u64,
    /// What it has.
    pub memory: Memory,
    /// How it grows, where it keeps growing.
    pub trend: Option<Trend>,
    /// Whether there are enough figures to tell that.
    pub is_told: bool,
}

impl Seen {
    /// How fast it keeps growing; 0 where it does not.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.trend.map_or(0.0, |trend| trend.bytes_per_second)
    }
}

impl Survey {
    /// Nothing was looked at yet; `pause` is how often everyone will be.
    #[must_use]
    pub fn new(pause: Duration) -> Self {
        Self {
            pause,
            look_count: 0,
            followed: FxHashMap::default(),
            page_bytes: page_bytes(),
            open_max: usize::try_from(raise_open_max()).unwrap_or(0),
            open_count: 0,
            refused_count: 0,
        }
    }

    /// Looks at every process.
    ///
    /// # Errors
    ///
    /// When processes cannot be listed.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let now_ns = Clock::now_boot_ns();
        let pids = if self.look_count.is_multiple_of(LISTED_ONE_IN) {
            let pids = process::list_pids().context("failed to list processes in /proc")?;
            let listed: FxHashSet<u32> = pids.iter().copied().collect();
            self.followed.retain(|pid, _| listed.contains(pid));
            let is_open = |it: &&Followed| it.file.is_some();
            self.open_count = self.followed.values().filter(is_open).count();
            pids
        } else {
            self.followed.keys().copied().collect()
        };
        for pid in pids {
            let followed = self.followed.get(&pid);
            let is_calm = followed.is_some_and(|it| it.calm_looks >= CALM_LOOKS);
            let is_turn = (self.look_count + u64::from(pid)).is_multiple_of(CALM_ONE_IN);
            if pid != std::process::id() && (!is_calm || is_turn) {
                self.look_at(pid, now_ns);
            }
        }
        self.look_count += 1;
        Ok(())
    }

    fn look_at(&mut self, pid: u32, now_ns: u64) {
        // An open file is its process's for ever, whoever has the pid later.
        let known = self.followed.get(&pid).and_then(|it| it.file.as_ref());
        let mut memory = known.and_then(|file| file.read(self.page_bytes).ok());
        if memory.is_none() {
            memory = self.admit(pid);
        }
        let Some(memory) = memory else {
            self.followed.remove(&pid);
            return;
        };
        let warm_up_ns = (self.pause * WARM_UP_LOOKS).as_nanos() as u64;
        if let Some(followed) = self.followed.get_mut(&pid) {
            let has_risen = memory.anonymous_bytes > followed.memory.anonymous_bytes;
            followed.calm_looks = if has_risen {
                0
            } else {
                followed.calm_looks + 1
            };
            followed.memory = memory;
            if ticks_to_boot_ns(followed.start_ticks) + warm_up_ns <= now_ns {
                let seconds = now_ns as f64 / 1e9;
                followed.series.push(seconds, memory.anonymous_bytes);
            }
        }
    }

    /// Opens the file of a process, and forgets another that had its pid.
    fn admit(&mut self, pid: u32) -> Option<Memory> {
        let start_ticks = process::start_ticks(pid).ok()?;
        let file = MemoryFile::open(pid).ok()?;
        let memory = file.read(self.page_bytes).ok()?;
        let is_new = !self.followed.contains_key(&pid);
        if is_new && self.followed.len() >= FOLLOWED_MAX {
            self.refused_count += 1;
            return None;
        }
        let followed = self.followed.entry(pid).or_insert_with(|| Followed {
            start_ticks,
            file: None,
            memory,
            series: Series::default(),
            calm_looks: 0,
        });
        if followed.start_ticks != start_ticks {
            followed.start_ticks = start_ticks;
            followed.series.clear();
        }
        followed.file = None;
        if self.open_count < self.open_max {
            followed.file = Some(file);
            self.open_count += 1;
        }
        Some(memory)
    }

    /// How the memory of everyone went, to be remembered.
    #[must_use]
    pub fn courses(&self) -> Vec<Course> {
        let followed = self.followed.iter();
        followed
            .map(|(pid, it)| Course {
                pid: *pid,
                start_ticks: it.start_ticks,
                points: it.series.points().collect(),
            })
            .collect()
    }

    /// Takes up what was remembered of those that were seen and still run.
    pub fn remember(&mut self, courses: &[Course]) {
        for course in courses {
            if let Some(followed) = self.followed.get_mut(&course.pid)
                && followed.start_ticks == course.start_ticks
            {
                followed.series = Series::of(&course.points);
            }
        }
    }

    /// How many processes are followed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.followed.len()
    }

    /// All that have memory of their own (threads of the kernel have none): those that keep growing first,
    /// the fastest first, then the largest.
    #[must_use]
    pub fn ranked(&self) -> Vec<Seen> {
        let with_memory = self
            .followed
            .iter()
            .filter(|(_, it)| it.memory.rss_bytes > 0);
        let mut all: Vec<Seen> = with_memory.map(|(pid, it)| seen(*pid, it)).collect();
        all.sort_by(|one, other| {
            let speed = |it: &Seen| it.bytes_per_second();
            let size = |it: &Seen| it.memory.anonymous_bytes;
            (speed(other).total_cmp(&speed(one))).then(size(other).cmp(&size(one)))
        });
        all
    }
}

fn seen(pid: u32, followed: &Followed) -> Seen {
    Seen {
        pid,
        start_ticks: followed.start_ticks,
        memory: followed.memory,
        trend: followed.series.trend(),
        is_told: followed.series.is_told(),
    }
}

/// Allows itself as many descriptors as it may; tells how many the survey can have.
fn raise_open_max() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    let wanted = hard.min(OPEN_MAX + OPEN_BY_OTHERS).max(soft);
    let allowed = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    allowed.saturating_sub(OPEN_BY_OTHERS).min(OPEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that grows is told, one that does not is told otherwise, and one that is gone is forgotten.
    #[test]
    fn processes_come_and_go() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id();
        let mut survey = Survey::new(Duration::ZERO);
        for _ in 0..60 {
            survey.look().unwrap();
        }
        let start_ticks = survey.followed[&pid].start_ticks;
        let told = survey.ranked();
        let told = told.iter().find(|seen| seen.pid == pid).unwrap();
        assert_eq!(told.start_ticks, start_ticks);
        assert!(told.is_told && told.trend.is_none(), "{told:?}");
        let followed = survey.followed.get_mut(&pid).unwrap();
        followed.series.clear();
        for second in 0..12_u32 {
            let at = f64::from(second) * 5.0;
            followed.series.push(at, u64::from(second) << 30);
        }
        assert_eq!(survey.ranked()[0].pid, pid);
        child.kill().unwrap();
        child.wait().unwrap();
        for _ in 0..LISTED_ONE_IN {
            survey.look().unwrap();
        }
        assert!(!survey.followed.contains_key(&pid));
    }
}
