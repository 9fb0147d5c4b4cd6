//! Owns the look at the memory of every process of the host, without any probe.
//! Must not know what is done about those that grow.

use std::{path::Path, rc::Rc, time::Duration};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    groups::Groups,
    lives::{Life, Lives, Restarts},
    state::Course,
    trend::{Series, Trend},
    whom::Whom,
};
use crate::host::{
    clock::{Clock, ticks_to_boot_ns},
    lineage::Lineage,
    process,
    resident::{Memory, MemoryFile, page_bytes},
};

/// Processes whose files are kept open, where as many descriptors are allowed; those beyond are opened at
/// each look.
const OPEN_MAX: u64 = 8_192;

/// Descriptors that are left to everything else.
const OPEN_BY_OTHERS: u64 = 1_536;

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
    /// Which program it is a life of, and its group.
    lineage: u64,
    group: Option<Rc<Path>>,
    /// Its memory at the first look and the most.
    first_bytes: u64,
    most_bytes: u64,
}

/// Every process that is followed.
pub struct Survey {
    pause: Duration,
    whom: Whom,
    look_count: u64,
    followed: FxHashMap<u32, Followed>,
    page_bytes: u64,
    open_max: usize,
    open_count: usize,
    lives: Lives,
    /// The groups that they are in.
    pub groups: Groups,
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
    /// What is known of those that it came in place of.
    pub restarts: Restarts,
}

impl Seen {
    /// How fast it keeps growing; 0 where it does not.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.trend.map_or(0.0, |trend| trend.bytes_per_second)
    }
}

impl Survey {
    /// Nothing was looked at yet; `pause` is how often those who are meant will be.
    #[must_use]
    pub fn new(pause: Duration, whom: Whom) -> Self {
        Self {
            pause,
            whom,
            look_count: 0,
            followed: FxHashMap::default(),
            page_bytes: page_bytes(),
            open_max: usize::try_from(raise_open_max()).unwrap_or(0),
            open_count: 0,
            lives: Lives::default(),
            groups: Groups::default(),
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
            let followed = self.followed.keys();
            let gone: Vec<u32> = followed
                .filter(|it| !listed.contains(it))
                .copied()
                .collect();
            for pid in gone {
                self.end(pid, now_ns);
            }
            self.whom.listed(&listed);
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
        self.groups.look(now_ns as f64 / 1e9);
        self.look_count += 1;
        Ok(())
    }

    /// A process is gone, and its life is over.
    fn end(&mut self, pid: u32, now_ns: u64) {
        let Some(followed) = self.followed.remove(&pid) else {
            return;
        };
        let was_killed = followed.group.is_some_and(|group| self.groups.left(&group));
        let life = Life {
            first_bytes: followed.first_bytes,
            last_bytes: followed.memory.anonymous_bytes,
            most_bytes: followed.most_bytes,
            was_growing: followed.series.trend().is_some(),
            was_killed,
        };
        self.lives
            .ended(followed.lineage, now_ns as f64 / 1e9, life);
    }

    fn look_at(&mut self, pid: u32, now_ns: u64) {
        // An open file is its process's for ever, whoever has the pid later.
        let known = self.followed.get(&pid).and_then(|it| it.file.as_ref());
        let mut memory = known.and_then(|file| file.read(self.page_bytes).ok());
        if memory.is_none() {
            memory = self.admit(pid, now_ns);
        }
        let Some(memory) = memory else {
            self.end(pid, now_ns);
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
            followed.most_bytes = followed.most_bytes.max(memory.anonymous_bytes);
            if ticks_to_boot_ns(followed.start_ticks) + warm_up_ns <= now_ns {
                let seconds = now_ns as f64 / 1e9;
                followed.series.push(seconds, memory.anonymous_bytes);
            }
        }
    }

    /// Opens the file of a process, and forgets another that had its pid.
    fn admit(&mut self, pid: u32, now_ns: u64) -> Option<Memory> {
        if !self.whom.means(pid) {
            return None;
        }
        let start_ticks = process::start_ticks(pid).ok()?;
        let file = MemoryFile::open(pid).ok()?;
        let memory = file.read(self.page_bytes).ok()?;
        let known = self.followed.get(&pid);
        if known.is_some_and(|it| it.start_ticks != start_ticks) {
            self.end(pid, now_ns);
        }
        if !self.followed.contains_key(&pid) {
            if self.followed.len() >= FOLLOWED_MAX {
                self.refused_count += 1;
                return None;
            }
            let begun = self.begin(pid, start_ticks, memory, now_ns);
            self.followed.insert(pid, begun);
        }
        let followed = self.followed.get_mut(&pid)?;
        followed.file = None;
        if self.open_count < self.open_max {
            followed.file = Some(file);
            self.open_count += 1;
        }
        Some(memory)
    }

    /// A process that was not seen before.
    fn begin(&mut self, pid: u32, start_ticks: u64, memory: Memory, now_ns: u64) -> Followed {
        // One that is gone meanwhile is told so by the next look.
        let lineage = Lineage::read(pid).ok();
        let id = lineage.as_ref().map_or(0, |it| it.id);
        let is_restart = self.lives.began(id, now_ns as f64 / 1e9);
        let group = lineage.and_then(|it| it.group);
        Followed {
            start_ticks,
            file: None,
            memory,
            series: Series::default(),
            calm_looks: 0,
            lineage: id,
            group: group.and_then(|it| self.groups.joined(it, is_restart)),
            first_bytes: memory.anonymous_bytes,
            most_bytes: memory.anonymous_bytes,
        }
    }

    /// How the programs' lives went, to be remembered.
    #[must_use]
    pub fn lives(&self) -> &Lives {
        &self.lives
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
    pub fn remember(&mut self, courses: &[Course], lives: Lives) {
        self.lives.remember(lives);
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
        let mut all: Vec<Seen> = with_memory.map(|(pid, it)| self.seen(*pid, it)).collect();
        all.sort_by(|one, other| {
            let speed = |it: &Seen| it.bytes_per_second();
            let size = |it: &Seen| it.memory.anonymous_bytes;
            (speed(other).total_cmp(&speed(one))).then(size(other).cmp(&size(one)))
        });
        all
    }

    fn seen(&self, pid: u32, followed: &Followed) -> Seen {
        let restarts = self.lives.restarts(followed.lineage);
        let (series, first_bytes) = (&followed.series, followed.first_bytes);
        let trend = series.trend();
        // Those before it rose until they ended, so that it is not waited for as long as with others.
        let inherited = || restarts.is_heir().then(|| series.rise_from(first_bytes));
        Seen {
            pid,
            start_ticks: followed.start_ticks,
            memory: followed.memory,
            trend: trend.or_else(|| inherited().flatten()),
            is_told: series.is_told(),
            restarts,
        }
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
    use crate::config::Targets;

    /// A process that grows is told, one that does not is told otherwise, and one that is gone is forgotten.
    #[test]
    fn processes_come_and_go() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id();
        let mut survey = Survey::new(Duration::ZERO, Whom::new(Targets::default()));
        for _ in 0..60 {
            survey.look().unwrap();
        }
        let start_ticks = survey.followed[&pid].start_ticks;
        let told = survey.ranked();
        let told = told.iter().find(|seen| seen.pid == pid).unwrap();
        assert_eq!(told.start_ticks, start_ticks);
        assert!(told.is_told && told.trend.is_none(), "{told:?}");
        let followed = survey.followed.get_mut(&pid).unwrap();
        assert_ne!(followed.lineage, 0);
        followed.series = Series::default();
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
