//! Owns which file lies where in the address space of one process image.
//! Must not know where mappings come from, files or symbols.

use std::sync::Arc;

use crate::host::maps::{MAPPINGS_MAX, Mapping};

/// The executable mappings of one process image, sorted by address and without
/// overlap.
///
/// A fork shares the list until one side changes it, because most children exec
/// or die before they map anything. A change moves the entries behind it: lists
/// are short (a hundred entries), and looked up far more often than changed.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    mappings: Arc<Vec<Arc<Mapping>>>,
    refused: u64,
}

impl AddressSpace {
    /// Takes a snapshot in any order.
    pub fn from_mappings(mappings: impl IntoIterator<Item = Mapping>) -> Self {
        let mut space = Self::default();
        for mapping in mappings {
            space.insert(mapping);
        }
        space
    }

    /// Adds a mapping. What it covers of older ones is gone: the kernel reports
    /// no unmapping, but a new mapping proves it.
    pub fn insert(&mut self, mapping: Mapping) {
        if mapping.start >= mapping.end {
            return;
        }
        let first = self.mappings.partition_point(|it| it.end <= mapping.start);
        let after = self.mappings.partition_point(|it| it.start < mapping.end);
        let covered = &self.mappings[first..after];
        let left = covered
            .first()
            .filter(|it| it.start < mapping.start)
            .map(|it| {
                Arc::new(Mapping {
                    end: mapping.start,
                    ..Mapping::clone(it)
                })
            });
        let right = covered.last().filter(|it| it.end > mapping.end).map(|it| {
            let file_offset = it.file_offset_of(mapping.end);
            Arc::new(Mapping {
                start: mapping.end,
                file_offset,
                ..Mapping::clone(it)
            })
        });
        let added = 1 + usize::from(left.is_some()) + usize::from(right.is_some());
        if self.mappings.len() - covered.len() + added > MAPPINGS_MAX {
            self.refused += 1;
            return;
        }
        let pieces = left.into_iter().chain([Arc::new(mapping)]).chain(right);
        Arc::make_mut(&mut self.mappings).splice(first..after, pieces);
    }

    /// The mapping that holds an address.
    pub fn lookup(&self, avma: u64) -> Option<&Mapping> {
        let index = self.mappings.partition_point(|it| it.end <= avma);
        self.mappings
            .get(index)
            .filter(|it| it.start <= avma)
            .map(|it| &**it)
    }

    /// All mappings in order of address.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().map(|it| &**it)
    }

    /// How many mappings were refused because the list was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping of file `name` whose offset in the file equals its address.
    fn mapping(start: u64, end: u64, name: &str) -> Mapping {
        Mapping {
            start,
            end,
            file_offset: start,
            device: (0, 0),
            inode: 0,
            path: name.to_owned(),
            deleted: false,
            build_id: None,
        }
    }

    /// Inserts `start-end name` in order, prints the outcome; offsets must fit.
    fn check(inserts: &str, expected: &str) {
        let mut space = AddressSpace::default();
        for insert in inserts.split("; ") {
            let (range, name) = insert.split_once(' ').expect("range and name");
            let (start, end) = range.split_once('-').expect("two ends");
            let parse = |text| u64::from_str_radix(text, 16).expect("hex");
            space.insert(mapping(parse(start), parse(end), name));
        }
        let seen: Vec<String> = space
            .iter()
            .map(|it| format!("{:x}-{:x} {}", it.start, it.end, it.path))
            .collect();
        assert_eq!(seen.join("; "), expected);
        assert!(space.iter().all(|it| it.file_offset == it.start));
    }

    /// New mappings replace, cut and split older ones.
    #[test]
    fn new_mappings_win() {
        check("10-20 a; 30-40 b", "10-20 a; 30-40 b");
        check("30-40 b; 10-20 a", "10-20 a; 30-40 b");
        check("10-20 a; 10-20 b", "10-20 b");
        check("10-40 a; 20-30 b", "10-20 a; 20-30 b; 30-40 a");
        check("10-20 a; 18-30 b", "10-18 a; 18-30 b");
        check("10-20 a; 8-18 b", "8-18 b; 18-20 a");
        check(
            "10-20 a; 20-30 b; 30-40 c; 18-38 d",
            "10-18 a; 18-38 d; 38-40 c",
        );
        check("10-20 a; 20-10 b", "10-20 a");
    }

    /// Addresses are found from the first to the last, and not between.
    #[test]
    fn lookup_respects_ends() {
        let space =
            AddressSpace::from_mappings([mapping(0x10, 0x20, "a"), mapping(0x30, 0x40, "b")]);
        let name = |avma| space.lookup(avma).map(|it| it.path.as_str());
        assert_eq!(
            [name(0xf), name(0x10), name(0x1f)],
            [None, Some("a"), Some("a")]
        );
        assert_eq!(
            [name(0x20), name(0x30), name(0x40)],
            [None, Some("b"), None]
        );
    }

    /// A child keeps what it had, whatever the parent does next.
    #[test]
    fn a_fork_is_independent() {
        let mut parent = AddressSpace::from_mappings([mapping(0x10, 0x20, "a")]);
        let child = parent.clone();
        parent.insert(mapping(0x10, 0x20, "b"));
        assert_eq!(child.lookup(0x10).map(|it| it.path.as_str()), Some("a"));
    }

    /// A full list refuses and counts, and still takes replacements.
    #[test]
    fn a_full_list_counts() {
        let mut space = AddressSpace::default();
        for index in 0..=MAPPINGS_MAX as u64 {
            space.insert(mapping(index * 2, index * 2 + 1, "a"));
        }
        space.insert(mapping(0, 1, "b"));
        assert_eq!(space.refused(), 1);
        assert_eq!(space.lookup(0).map(|it| it.path.as_str()), Some("b"));
    }
}
