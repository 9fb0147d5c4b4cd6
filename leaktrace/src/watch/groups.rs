//! Owns how the memory of control groups goes, as processes are found in them, and who was killed there.
//! Must not know how processes grow.
//!
//! A group tells what no process does: memory that many processes of short lives share, and that it ran out. To read one
//! costs as much as ten processes, so that only some are read at each look.

use std::{path::Path, rc::Rc};

use rustc_hash::FxHashMap;

use super::trend::{Series, Trend};
use crate::host::group_memory::{GroupMemory, MemoryGroup};

/// Groups that are followed; beyond it they are not, and that is counted.
const GROUPS_MAX: usize = 4_096;

/// Groups that are read at one look, at least; else a third of all, up to the second number.
const READ_MIN: usize = 8;
const READ_MAX: usize = 24;

/// One group.
struct Followed {
    group: Rc<MemoryGroup>,
    /// Processes of it that are followed.
    members: u32,
    memory: GroupMemory,
    /// Killed before it was first looked at.
    killed_before: u64,
    restarts: u64,
    series: Series,
}

/// A group as it was seen last.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSeen {
    /// The group.
    pub group: Rc<MemoryGroup>,
    /// Processes of it that are followed.
    pub process_count: u32,
    /// What it has.
    pub memory: GroupMemory,
    /// Killed for want of memory since it is followed.
    pub oom_kill_count: u64,
    /// Programs in it that ended and came back.
    pub restart_count: u64,
    /// How it grows, where it keeps growing.
    pub trend: Option<Trend>,
    /// Whether there are enough figures to tell that.
    pub is_told: bool,
}

impl GroupSeen {
    /// How fast it keeps growing; 0 where it does not.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.trend.map_or(0.0, |it| it.bytes_per_second)
    }
}

/// Every group that a followed process is in.
#[derive(Default)]
pub struct Groups {
    by_path: FxHashMap<Rc<Path>, Followed>,
    /// Whose turn it is to be read.
    turn: Vec<Rc<Path>>,
    /// Groups that were not followed for want of room.
    pub refused_count: u64,
}

impl Groups {
    /// A process of a group was found; gives its name for `left`.
    pub fn joined(&mut self, group: MemoryGroup, is_restart: bool) -> Option<Rc<Path>> {
        if !self.by_path.contains_key(group.path()) {
            if self.by_path.len() >= GROUPS_MAX {
                self.refused_count += 1;
                return None;
            }
            let memory = group.read().ok()?;
            let followed = Followed {
                members: 0,
                memory,
                killed_before: memory.oom_kill_count,
                restarts: 0,
                series: Series::default(),
                group: Rc::new(group.clone()),
            };
            self.by_path.insert(Rc::from(group.path()), followed);
        }
        let (path, _) = self.by_path.get_key_value(group.path())?;
        let path = Rc::clone(path);
        let followed = self.by_path.get_mut(&path)?;
        followed.members += 1;
        followed.restarts += u64::from(is_restart);
        Some(path)
    }

    /// A process of a group is gone: whether somebody in it was killed for want of memory since the last look. What has
    /// nobody left is kept while it exists, as of a service that is about to come back.
    pub fn left(&mut self, path: &Path) -> bool {
        let Some(followed) = self.by_path.get_mut(path) else {
            return false;
        };
        followed.members = followed.members.saturating_sub(1);
        let before = followed.memory.oom_kill_count;
        match followed.group.read() {
            Ok(memory) => {
                followed.memory = memory;
                memory.oom_kill_count > before
            }
            Err(_) => false,
        }
    }

    /// Reads those whose turn it is, and forgets those that are gone.
    pub fn look(&mut self, seconds: f64) {
        if self.turn.is_empty() {
            self.turn = self.by_path.keys().cloned().collect();
        }
        let count = (self.by_path.len() / 3).clamp(READ_MIN, READ_MAX);
        let from = self.turn.len().saturating_sub(count);
        for path in self.turn.split_off(from) {
            let Some(followed) = self.by_path.get_mut(&path) else {
                continue;
            };
            match followed.group.read() {
                Ok(memory) => {
                    followed.memory = memory;
                    followed.series.push(seconds, memory.anonymous_bytes);
                }
                Err(_) => {
                    self.by_path.remove(&path);
                }
            }
        }
    }

    /// Those that keep growing first, the fastest first; then those in which somebody was killed or came back; then the largest.
    #[must_use]
    pub fn ranked(&self) -> Vec<GroupSeen> {
        let mut all: Vec<GroupSeen> = self.by_path.values().map(seen).collect();
        all.sort_by(|one, other| {
            let troubles = |it: &GroupSeen| it.oom_kill_count + it.restart_count;
            let speeds = (other.bytes_per_second()).total_cmp(&one.bytes_per_second());
            let sizes = other
                .memory
                .anonymous_bytes
                .cmp(&one.memory.anonymous_bytes);
            speeds.then(troubles(other).cmp(&troubles(one))).then(sizes)
        });
        all
    }
}

fn seen(followed: &Followed) -> GroupSeen {
    GroupSeen {
        group: Rc::clone(&followed.group),
        process_count: followed.members,
        memory: followed.memory,
        oom_kill_count: (followed.memory.oom_kill_count).saturating_sub(followed.killed_before),
        restart_count: followed.restarts,
        trend: followed.series.trend(),
        is_told: followed.series.is_told(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own group is followed with all of its members, and is kept when they are gone.
    #[test]
    fn our_own_group_is_followed() {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let Some(group) = MemoryGroup::of(&text) else {
            // In the root group there is none to follow.
            assert!(
                !text.contains("memory:/") || text.contains("memory:/\n"),
                "{text}"
            );
            return;
        };
        let mut groups = Groups::default();
        let path = groups.joined(group.clone(), false).unwrap();
        groups.joined(group.clone(), true).unwrap();
        for second in 0..20 {
            groups.look(f64::from(second));
        }
        let seen = groups.ranked().remove(0);
        assert_eq!((seen.process_count, seen.restart_count), (2, 1));
        assert!(seen.memory.bytes > 0 && seen.is_told, "{seen:?}");
        groups.left(&path);
        groups.left(&path);
        groups.look(20.0);
        assert_eq!(groups.ranked()[0].process_count, 0);
    }
}
