//! Owns what every process maps for execution, at the time that a record speaks of.
//! Must not know files, symbols or where the changes come from.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    mappings::AddressSpace,
    mmap_events::{MapChange, MapEvent},
};

/// One process's mappings and from when on changes apply to them.
#[derive(Clone, Debug, Default)]
struct Space {
    mappings: AddressSpace,
    /// A snapshot already holds every change before its time.
    since_ns: u64,
}

/// The mappings of every process, and the changes that lie ahead.
///
/// Changes come through another channel than the probes' records and in larger strides. They wait
/// here until a record of a later time is looked at, so that an address is looked up in what was
/// mapped when it was recorded.
#[derive(Debug, Default)]
pub struct AddressSpaces {
    spaces: FxHashMap<u32, Space>,
    changed: FxHashSet<u32>,
    ahead: VecDeque<MapEvent>,
    /// Every change up to this time was pushed.
    complete_ns: u64,
}

impl AddressSpaces {
    /// Takes a change. The kernel has a ring for each CPU, which are read one after the other, so
    /// that a change may come after a younger one of a ring that was read later.
    pub fn push(&mut self, event: MapEvent) {
        let younger = self.ahead.iter().rev();
        let count = younger.take_while(|it| it.time_ns > event.time_ns).count();
        self.ahead.insert(self.ahead.len() - count, event);
    }

    /// Notes that every change up to this time was pushed.
    pub fn complete(&mut self, until_ns: u64) {
        self.complete_ns = self.complete_ns.max(until_ns);
    }

    /// Whether every change up to a time was pushed.
    #[must_use]
    pub fn is_complete(&self, until_ns: u64) -> bool {
        self.complete_ns >= until_ns
    }

    /// Takes a process's mappings as they were read at a time.
    pub fn snapshot(&mut self, tgid: u32, mappings: AddressSpace, time_ns: u64) {
        self.changed.insert(tgid);
        self.spaces.insert(
            tgid,
            Space {
                mappings,
                since_ns: time_ns,
            },
        );
    }

    /// The processes whose mappings changed since this was last asked.
    pub fn take_changed(&mut self) -> FxHashSet<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Lets every change up to a time happen, as far as all were pushed: an older one that is still
    /// to come, such as a fork, would otherwise undo those after it.
    pub fn advance(&mut self, to_ns: u64) {
        let to_ns = to_ns.min(self.complete_ns);
        while let Some(event) = self.ahead.front() {
            if event.time_ns > to_ns {
                return;
            }
            let Some(event) = self.ahead.pop_front() else {
                return;
            };
            self.apply(event);
        }
    }

    /// What a process maps.
    #[must_use]
    pub fn get(&self, tgid: u32) -> Option<&AddressSpace> {
        self.spaces.get(&tgid).map(|space| &space.mappings)
    }

    /// Drops a process that is gone.
    pub fn forget(&mut self, tgid: u32) {
        self.spaces.remove(&tgid);
    }

    /// How many processes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spaces.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// Every process, for dropping those that are gone.
    pub fn tgids(&self) -> impl Iterator<Item = u32> {
        self.spaces.keys().copied()
    }

    fn apply(&mut self, event: MapEvent) {
        self.changed.insert(match event.change {
            MapChange::Forked { child_tgid } => child_tgid,
            MapChange::Executed | MapChange::Mapped(_) => event.tgid,
        });
        match event.change {
            MapChange::Forked { child_tgid } => {
                let mappings = self
                    .spaces
                    .get(&event.tgid)
                    .map(|space| space.mappings.clone());
                let mappings = mappings.unwrap_or_default();
                self.spaces.insert(
                    child_tgid,
                    Space {
                        mappings,
                        since_ns: event.time_ns,
                    },
                );
            }
            MapChange::Executed => {
                let space = self.spaces.entry(event.tgid).or_default();
                if event.time_ns >= space.since_ns {
                    space.mappings = AddressSpace::default();
                }
            }
            MapChange::Mapped(mapping) => {
                let space = self.spaces.entry(event.tgid).or_default();
                if event.time_ns >= space.since_ns {
                    space.mappings.insert(mapping);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::maps::Mapping;

    fn mapped(tgid: u32, time_ns: u64, start: u64, path: &str) -> MapEvent {
        let mapping = Mapping {
            start,
            end: start + 4096,
            path: path.to_owned(),
            ..Mapping::default()
        };
        MapEvent {
            tgid,
            time_ns,
            change: MapChange::Mapped(mapping),
        }
    }

    /// Address spaces of which every change is pushed before it is let happen.
    fn complete() -> AddressSpaces {
        let mut spaces = AddressSpaces::default();
        spaces.complete(u64::MAX);
        spaces
    }

    fn path(spaces: &AddressSpaces, tgid: u32, address: u64) -> Option<String> {
        Some(spaces.get(tgid)?.lookup(address)?.path.clone())
    }

    /// An address is looked up in the image of its time, however much later the next one is known.
    #[test]
    fn changes_wait_for_their_time() {
        let mut spaces = complete();
        spaces.push(mapped(1, 10, 0x1000, "sh"));
        spaces.push(MapEvent {
            tgid: 1,
            time_ns: 20,
            change: MapChange::Executed,
        });
        spaces.push(mapped(1, 21, 0x1000, "ls"));
        spaces.advance(15);
        assert_eq!(path(&spaces, 1, 0x1008).as_deref(), Some("sh"));
        spaces.advance(30);
        assert_eq!(path(&spaces, 1, 0x1008).as_deref(), Some("ls"));
        assert_eq!(path(&spaces, 1, 0x2000), None);
    }

    /// A child maps what its parent mapped at the fork.
    #[test]
    fn children_map_what_their_parents_did() {
        let mut spaces = complete();
        spaces.push(mapped(1, 10, 0x1000, "a"));
        let fork = MapChange::Forked { child_tgid: 2 };
        spaces.push(MapEvent {
            tgid: 1,
            time_ns: 20,
            change: fork,
        });
        spaces.push(mapped(1, 30, 0x9000, "b"));
        spaces.advance(u64::MAX);
        assert_eq!(path(&spaces, 2, 0x1000).as_deref(), Some("a"));
        assert_eq!(path(&spaces, 2, 0x9000), None);
    }

    /// A fork that is read after the child's exec, from another CPU's ring, undoes nothing of it,
    /// whether the exec was known to be all or not.
    #[test]
    fn a_change_that_comes_late_takes_its_place() {
        let mut spaces = AddressSpaces::default();
        spaces.push(mapped(1, 10, 0x1000, "parent"));
        spaces.push(MapEvent {
            tgid: 2,
            time_ns: 30,
            change: MapChange::Executed,
        });
        spaces.push(mapped(2, 31, 0x1000, "child"));
        spaces.complete(15);
        spaces.advance(40);
        spaces.push(MapEvent {
            tgid: 1,
            time_ns: 20,
            change: MapChange::Forked { child_tgid: 2 },
        });
        spaces.complete(50);
        spaces.advance(40);
        assert_eq!(path(&spaces, 2, 0x1000).as_deref(), Some("child"));
    }

    /// Changes that a snapshot already shows do not undo it.
    #[test]
    fn a_snapshot_outlasts_older_changes() {
        let mut spaces = complete();
        spaces.push(MapEvent {
            tgid: 1,
            time_ns: 20,
            change: MapChange::Executed,
        });
        let mapping = Mapping {
            start: 0x1000,
            end: 0x2000,
            path: "a".to_owned(),
            ..Mapping::default()
        };
        spaces.snapshot(1, AddressSpace::from_mappings([mapping]), 25);
        spaces.advance(u64::MAX);
        assert_eq!(path(&spaces, 1, 0x1000).as_deref(), Some("a"));
    }
}
