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
}

impl AddressSpaces {
    /// Takes a change that is no older than those before it.
    pub fn push(&mut self, event: MapEvent) {
        self.ahead.push_back(event);
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

    /// Lets every change up to a time happen.
    pub fn advance(&mut self, to_ns: u64) {
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

    fn path(spaces: &AddressSpaces, tgid: u32, address: u64) -> Option<String> {
        Some(spaces.get(tgid)?.lookup(address)?.path.clone())
    }

    /// An address is looked up in the image of its time, however much later the next one is known.
    #[test]
    fn changes_wait_for_their_time() {
        let mut spaces = AddressSpaces::default();
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
        let mut spaces = AddressSpaces::default();
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

    /// Changes that a snapshot already shows do not undo it.
    #[test]
    fn a_snapshot_outlasts_older_changes() {
        let mut spaces = AddressSpaces::default();
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
