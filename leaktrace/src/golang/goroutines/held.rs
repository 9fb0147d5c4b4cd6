//! Owns what goroutines that stay blocked hold: which live blocks their stacks point to, and what those
//! point to in turn.
//! Must not know how memory is read or who keeps the blocks.
//!
//! Any word that looks like an address of a block counts as one: the collector knows better, but what it
//! knows is not read. A number that happens to look so, or a slot that the function has done with, can make a
//! block held that is not.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

/// Blocks beyond this are not followed.
const BLOCKS_MAX: usize = 1 << 17;

/// What so many goroutines lead to equally soon is shared: it would be there without any one of them. Fewer do by
/// what was left on their stacks from before.
const SHARED_BY: usize = 4;

/// As many objects each may fewer than that hold of a site, and be believed: a word that was left on one stack leads to
/// all that a map has.
const HELD_BY_FEW_MAX: u64 = 16;

/// A word that was found in memory, and the goroutine that leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word {
    /// What it says.
    pub value: u64,
    /// The number of the goroutine among those that stay.
    pub holder: u32,
}

/// A piece of memory that a goroutine holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub address: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// The number of the goroutine.
    pub holder: u32,
}

/// A live block, as whoever keeps them knows it, or an object of the heap that nobody keeps: what that points to is
/// held too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBlock {
    /// Where it begins.
    pub address: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// The number of its site, where it is kept.
    pub site: Option<u32>,
    /// How many objects it stands for.
    pub counts_as: u64,
    /// How many bytes it stands for.
    pub counts_as_bytes: u64,
}

/// What is held of one site.
#[derive(Clone, Debug, Default)]
struct HeldSite {
    count: u64,
    bytes: u64,
    holders: FxHashSet<u32>,
}

/// What is held of one site or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldTotals {
    /// Goroutines that hold something of them.
    pub goroutine_count: u64,
    /// Objects held.
    pub object_count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl HeldTotals {
    /// Whether it can be told of a site with so many live objects. It must be the greater part of them, as a few are reached
    /// by what was left on a stack from before; and one goroutine that holds all of many looks as that does too.
    #[must_use]
    pub const fn is_telling(&self, live_count: u64) -> bool {
        let is_spread = self.goroutine_count >= SHARED_BY as u64
            || self.object_count <= self.goroutine_count * HELD_BY_FEW_MAX;
        is_spread && self.object_count.saturating_mul(2) >= live_count
    }
}

/// The blocks of a process that are held by goroutines which stay blocked, each by few of them.
#[derive(Clone, Debug, Default)]
pub struct Held {
    seen: FxHashSet<u64>,
    sites: FxHashMap<u32, HeldSite>,
}

impl Held {
    /// Takes in words; what they point to and was not reached before comes back, to be searched in turn. What is
    /// shared does not.
    pub fn take_in(
        &mut self,
        words: &[Word],
        find: impl Fn(u64) -> Option<HeldBlock>,
    ) -> Vec<Range> {
        let mut found: BTreeMap<u64, (HeldBlock, Vec<u32>)> = BTreeMap::new();
        for word in words {
            if let Some(block) = find(word.value)
                && !self.seen.contains(&block.address)
            {
                let (_, holders) = found.entry(block.address).or_insert((block, Vec::new()));
                if holders.len() < SHARED_BY && !holders.contains(&word.holder) {
                    holders.push(word.holder);
                }
            }
        }
        let mut reached = Vec::new();
        for (address, (block, holders)) in found {
            if self.seen.len() >= BLOCKS_MAX {
                break;
            }
            self.seen.insert(address);
            let Some(holder) = holders
                .first()
                .copied()
                .filter(|_| holders.len() < SHARED_BY)
            else {
                continue;
            };
            if let Some(number) = block.site {
                let site = self.sites.entry(number).or_default();
                site.count += block.counts_as;
                site.bytes += block.counts_as_bytes;
                site.holders.extend(holders);
            }
            reached.push(Range {
                address,
                size_bytes: block.size_bytes,
                holder,
            });
        }
        reached
    }

    /// What is held of these sites together; `None` where nothing is.
    #[must_use]
    pub fn of(&self, sites: &[u32]) -> Option<HeldTotals> {
        let mut holders: FxHashSet<u32> = FxHashSet::default();
        let mut totals = HeldTotals::default();
        for site in sites.iter().filter_map(|number| self.sites.get(number)) {
            totals.object_count += site.count;
            totals.bytes += site.bytes;
            holders.extend(&site.holders);
        }
        totals.goroutine_count = holders.len() as u64;
        (totals.object_count > 0).then_some(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of 64 bytes: two of site 1, one of site 2, and one that nobody keeps.
    fn find(value: u64) -> Option<HeldBlock> {
        let site = match value / 64 {
            10 | 11 => Some(1),
            12 => Some(2),
            13 => None,
            _ => return None,
        };
        Some(HeldBlock {
            address: value / 64 * 64,
            size_bytes: 64,
            site,
            counts_as: 1,
            counts_as_bytes: 64,
        })
    }

    fn word(value: u64, holder: u32) -> Word {
        Word { value, holder }
    }

    /// What was left on one stack leads to a whole map: that is not told, and neither is a small part of a site. What each of
    /// many has is, and the few objects of one.
    #[test]
    fn a_map_that_one_goroutine_leads_to_is_not_told() {
        let totals = |goroutine_count, object_count| HeldTotals {
            goroutine_count,
            object_count,
            bytes: object_count,
        };
        assert!(!totals(1, 168).is_telling(200));
        assert!(!totals(3, 200).is_telling(200));
        assert!(totals(200, 200).is_telling(200));
        assert!(totals(4, 168).is_telling(200));
        assert!(totals(1, 1).is_telling(2));
        assert!(!totals(200, 200).is_telling(401));
    }

    /// What nobody keeps leads on, and counts for no site.
    #[test]
    fn what_is_not_kept_is_passed() {
        let mut held = Held::default();
        let reached = held.take_in(&[word(832, 5)], find);
        assert_eq!((reached[0].address, reached[0].holder), (832, 5));
        held.take_in(&[word(768, 5)], find);
        assert_eq!(held.of(&[1, 2]).unwrap().object_count, 1);
        assert_eq!(held.sites.len(), 1);
    }

    /// A block counts once, however often and wherever it is pointed to, also into its middle; what it points to
    /// is held by the same goroutine; and what many lead to is held by none.
    #[test]
    fn what_is_reached_counts_once() {
        let mut held = Held::default();
        let words = [word(640, 0), word(644, 0), word(7, 1), word(704, 1)];
        let first = held.take_in(&words, find);
        let reached: Vec<_> = first.iter().map(|it| (it.address, it.holder)).collect();
        assert_eq!(reached, [(640, 0), (704, 1)]);
        let second = held.take_in(&[word(768, 1), word(640, 1)], find);
        assert_eq!(second.len(), 1);
        let totals = |goroutine_count, object_count, bytes| HeldTotals {
            goroutine_count,
            object_count,
            bytes,
        };
        assert_eq!(held.of(&[1]), Some(totals(2, 2, 128)));
        assert_eq!(held.of(&[2]), Some(totals(1, 1, 64)));
        assert_eq!(held.of(&[1, 2]), Some(totals(2, 3, 192)));
        assert_eq!(held.of(&[3]), None);

        let mut shared = Held::default();
        let mut words: Vec<Word> = (0..4).map(|holder| word(640, holder)).collect();
        words.push(word(704, 0));
        assert_eq!(shared.take_in(&words, find).len(), 1);
        assert_eq!(shared.take_in(&[word(640, 0)], find), []);
        assert_eq!(shared.of(&[1]), Some(totals(1, 1, 64)));
    }
}
