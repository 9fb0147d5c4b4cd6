//! Owns the look at the memory of every process of the host, without any probe.
//! Must not know what is done about those that grow.

use anyhow::Context as _;
use rustc_hash::{FxHashMap, FxHashSet};

use super::trend::{Series, Trend};
use crate::host::{
    process,
    resident::{Memory, MemoryFile, page_bytes},
};

/// Processes whose files are kept open; those beyond are opened at each look.
const OPEN_MAX: usize = 512;

/// Processes that are followed; a host with more is looked at in part, and that is counted.
const FOLLOWED_MAX: usize = 32_768;

/// One process.
struct Followed {
    start_ticks: u64,
    file: Option<MemoryFile>,
    memory: Memory,
    series: Series,
}

/// Every process that is followed.
#[derive(Default)]
pub struct Survey {
    followed: FxHashMap<u32, Followed>,
    page_bytes: u64,
    open_count: usize,
    /// Processes that were not followed for want of room.
    pub refused_count: u64,
}

/// A process whose memory keeps growing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspect {
    /// The process.
    pub pid: u32,
    /// What it has.
    pub memory: Memory,
    /// How it grows.
    pub trend: Trend,
}

impl Survey {
    /// Looks at every process, `seconds` after any fixed moment.
    ///
    /// # Errors
    ///
    /// When processes cannot be listed.
    pub fn look(&mut self, seconds: f64) -> anyhow::Result<()> {
        if self.page_bytes == 0 {
            self.page_bytes = page_bytes();
        }
        let pids = process::list_pids().context("failed to list processes in /proc")?;
        let listed: FxHashSet<u32> = pids.iter().copied().collect();
        self.followed.retain(|pid, _| listed.contains(pid));
        self.open_count = self
            .followed
            .values()
            .filter(|it| it.file.is_some())
            .count();
        for pid in pids {
            if pid != std::process::id() {
                self.look_at(pid, seconds);
            }
        }
        Ok(())
    }

    fn look_at(&mut self, pid: u32, seconds: f64) {
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
        if let Some(followed) = self.followed.get_mut(&pid) {
            followed.memory = memory;
            followed.series.push(seconds, memory.anonymous_bytes);
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
        });
        if followed.start_ticks != start_ticks {
            followed.start_ticks = start_ticks;
            followed.series.clear();
        }
        followed.file = None;
        if self.open_count < OPEN_MAX {
            followed.file = Some(file);
            self.open_count += 1;
        }
        Some(memory)
    }

    /// How many processes are followed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.followed.len()
    }

    /// Those that keep growing, the fastest first.
    #[must_use]
    pub fn suspects(&self) -> Vec<Suspect> {
        let mut suspects: Vec<Suspect> = self
            .followed
            .iter()
            .filter_map(|(pid, it)| {
                Some(Suspect {
                    pid: *pid,
                    memory: it.memory,
                    trend: it.series.trend()?,
                })
            })
            .collect();
        suspects.sort_by(|one, other| {
            let speed = |it: &Suspect| it.trend.bytes_per_second;
            speed(other).total_cmp(&speed(one))
        });
        suspects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that grows is a suspect, one that does not is none, and one that is gone is forgotten.
    #[test]
    fn processes_come_and_go() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let mut survey = Survey::default();
        for second in 0..12 {
            survey.look(f64::from(second) * 5.0).unwrap();
        }
        assert!(survey.followed.contains_key(&child.id()));
        assert!(survey.suspects().iter().all(|it| it.pid != child.id()));
        let followed = survey.followed.get_mut(&child.id()).unwrap();
        followed.series.clear();
        for second in 0..12_u32 {
            let at = f64::from(second) * 5.0;
            followed.series.push(at, u64::from(second) << 20);
        }
        assert!(survey.suspects().iter().any(|it| it.pid == child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        survey.look(60.0).unwrap();
        assert!(!survey.followed.contains_key(&child.id()));
    }
}
