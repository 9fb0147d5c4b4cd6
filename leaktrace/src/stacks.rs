//! Owns the stacks in their lasting form: files and offsets instead of addresses.
//! Must not know how addresses were mapped to files or how offsets are named.

use std::{hash::Hasher as _, sync::Arc};

use leaktrace_common::event::StackEnd;
use rustc_hash::FxHashMap;
use siphasher::sip::SipHasher13;

use crate::modules::ModuleId;

/// Return addresses that are kept of all stacks together: 128 MiB. The probes tell 262 144 stacks apart, which have some 25 each.
const PLACES_MAX: usize = 8 << 20;

/// Where a return address points, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Into a mapped file.
    Code {
        /// The file.
        module: ModuleId,
        /// Bytes from its start.
        file_offset: u64,
    },
    /// Into memory of which no mapping is known.
    Unmapped {
        /// The address in the process.
        address: u64,
    },
}

/// A stack, innermost frame first: where the allocator returns to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Its return addresses.
    pub places: Vec<Place>,
    /// Why there are no more.
    pub end: StackEnd,
}

/// Every stack that is still referred to, by the id that the probes gave it.
#[derive(Debug, Default)]
pub struct Stacks {
    by_id: FxHashMap<u64, Arc<Stack>>,
    /// The return addresses of all.
    places: usize,
    /// Stacks that found no room.
    pub refused_count: u64,
}

impl Stacks {
    /// Takes in a stack, where there is room.
    pub fn insert(&mut self, id: u64, stack: Stack) {
        self.remove(id);
        if self.places + stack.places.len() > PLACES_MAX {
            self.refused_count += 1;
            return;
        }
        self.places += stack.places.len();
        self.by_id.insert(id, Arc::new(stack));
    }

    fn remove(&mut self, id: u64) {
        if let Some(stack) = self.by_id.remove(&id) {
            self.places -= stack.places.len();
        }
    }

    /// The stack with an id; `None` when its record was lost, or found no room.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Arc<Stack>> {
        self.by_id.get(&id)
    }

    /// Drops stacks that nobody refers to any more and tells their ids.
    pub fn retain(&mut self, is_needed: impl Fn(u64) -> bool) -> Vec<u64> {
        let gone: Vec<_> = self
            .by_id
            .keys()
            .copied()
            .filter(|id| !is_needed(*id))
            .collect();
        for id in &gone {
            self.remove(*id);
        }
        gone
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// The lasting id of a site: a hash of the allocator and of each frame's build and offset, equal
/// over processes, restarts and hosts for the same builds. `SipHash` with fixed keys, because the
/// standard library's hash may change with its version.
#[must_use]
pub fn site_id(allocator: &str, frames: impl Iterator<Item = (String, u64)>) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(allocator.as_bytes());
    for (build, offset) in frames {
        hasher.write_u8(0);
        hasher.write(build.as_bytes());
        hasher.write_u64(offset.to_le());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(allocator: &str, frames: &[(&str, u64)]) -> u64 {
        site_id(
            allocator,
            frames
                .iter()
                .map(|(build, offset)| ((*build).to_owned(), *offset)),
        )
    }

    /// However many stacks a program has, what is kept has its limit; what is dropped makes room again.
    #[test]
    fn room_is_limited() {
        let stack = |count| Stack {
            places: vec![Place::Unmapped { address: 1 }; count],
            end: StackEnd::Root,
        };
        let mut stacks = Stacks::default();
        stacks.insert(1, stack(PLACES_MAX - 2));
        stacks.insert(2, stack(2));
        stacks.insert(3, stack(1));
        assert_eq!((stacks.len(), stacks.refused_count), (2, 1));
        // A stack that comes again takes its own place.
        stacks.insert(2, stack(2));
        assert_eq!((stacks.len(), stacks.refused_count), (2, 1));
        assert_eq!(stacks.retain(|id| id != 1), [1]);
        stacks.insert(3, stack(1));
        assert!(stacks.get(3).is_some());
    }

    /// Ids are the same for ever, and differ where anything differs.
    #[test]
    fn site_ids_are_lasting() {
        let one = id("glibc", &[("ab", 16), ("cd", 32)]);
        assert_eq!(
            one, 0xa2c3_5bb6_43e8_59f6,
            "changing this breaks every saved stream: {one:#x}"
        );
        for other in [
            id("musl", &[("ab", 16), ("cd", 32)]),
            id("glibc", &[("ab", 16)]),
            id("glibc", &[("cd", 32), ("ab", 16)]),
            id("glibc", &[("ab", 16), ("cd", 33)]),
        ] {
            assert_ne!(one, other);
        }
    }
}
