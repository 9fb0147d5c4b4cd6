//! Owns which slot of a Go program's heap an address lies in, and which objects the program's own memory profile has
//! sampled, as its runtime keeps it (`runtime.mheap_.allspans`).
//! Must not know sites, goroutines or reports.
//!
//! The runtime never gives a span's structure back, it only uses it again, and its list only grows. So both can be
//! read while the program runs; a span that is taken for another use meanwhile gives values of different moments.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    layout::PAGE_BYTES,
    memory::{MemoryError, word_at},
    program::GoProcess,
};

/// As many spans as are read: 2 GiB of small objects. Programs with more of them are not looked into.
const SPANS_MAX: u64 = 1 << 18;

/// As many sampled objects as are read: of 32 GiB, at the runtime's own rate.
const SAMPLED_MAX: usize = 1 << 16;

/// Entries of one span's list that are followed: of each object there may be several.
const SPECIALS_MAX: usize = 1 << 14;

/// As much memory as one look may read: about 180 bytes a span.
const BUDGET_BYTES: u64 = 256 << 20;

/// As much of a program's variables as is read.
const VARIABLES_BYTES_MAX: u64 = 8 << 20;

/// As much as is read of what they point to, and of each.
const ROOTED_BUDGET_BYTES: u64 = 16 << 20;
const ROOTED_BYTES_MAX: u64 = 16 << 10;

/// Bytes of an entry of a span's list, with the bucket behind it.
const SPECIAL_BYTES: usize = 32;

/// `mSpanInUse`: the span has objects.
const IN_USE: u8 = 1;

/// A span: slots of one size.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    slot_bytes: u64,
    slot_count: u64,
}

impl Span {
    fn slot_at(&self, address: u64) -> Option<u64> {
        let slot = address.checked_sub(self.start)? / self.slot_bytes;
        (slot < self.slot_count).then(|| self.start + slot * self.slot_bytes)
    }
}

/// Where an object may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Where it begins.
    pub address: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// The address of the bucket that counts its object, where that was sampled.
    pub bucket: Option<u64>,
    /// Whether a variable of the program leads there, in two steps at most: it would be there without any goroutine.
    pub is_rooted: bool,
}

/// The heap at one moment.
#[derive(Clone, Debug, Default)]
pub struct Heap {
    /// By their addresses.
    spans: Vec<Span>,
    /// The bucket of each sampled object, by its slot.
    sampled: FxHashMap<u64, u64>,
    /// The slots that variables lead to.
    rooted: FxHashSet<u64>,
}

impl Heap {
    /// Reads it; `None` where the list was not found, or is longer than is read.
    ///
    /// # Errors
    ///
    /// When the memory cannot be read.
    pub fn read(process: &GoProcess) -> Result<Option<Self>, MemoryError> {
        let Some(sweepgen) = process.program.globals.sweepgen else {
            return Ok(None);
        };
        let (layout, memory) = (&process.layout.heap, &process.memory);
        memory.refill(BUDGET_BYTES);
        let to_list = u64::from(layout.allspans).wrapping_sub(u64::from(layout.sweepgen));
        let list = process.avma(sweepgen).wrapping_add(to_list);
        let (first, count) = (memory.word(list)?, memory.word(list.wrapping_add(8))?);
        if count > SPANS_MAX {
            return Ok(None);
        }
        let count = count as usize;
        let list = memory.bytes(first, count * 8)?;
        let mut addresses: Vec<u64> = (0..count).map(|at| word_at(&list, at * 8)).collect();
        addresses.sort_unstable();
        let mut spans = Vec::with_capacity(count);
        let size = usize::from(process.layout.span.specials) + 8;
        memory.each(&addresses, size, &mut |bytes| {
            spans.extend(parse(process, bytes));
        })?;
        let mut heap = Self::default();
        for (span, specials) in &spans {
            heap.sample(process, span, *specials)?;
        }
        heap.spans = spans.into_iter().map(|(span, _)| span).collect();
        heap.spans.sort_unstable_by_key(|span| span.start);
        Ok(Some(heap))
    }

    /// The slot that an address lies in.
    #[must_use]
    pub fn slot_at(&self, address: u64) -> Option<Slot> {
        let behind = self.spans.partition_point(|span| span.start <= address);
        let span = self.spans.get(behind.checked_sub(1)?)?;
        let slot = span.slot_at(address)?;
        Some(Slot {
            address: slot,
            size_bytes: span.slot_bytes,
            bucket: self.sampled.get(&slot).copied(),
            is_rooted: self.rooted.contains(&slot),
        })
    }

    /// Looks where the program's variables lead to, as far as that may be read.
    pub fn find_rooted(&mut self, process: &GoProcess) {
        let memory = &process.memory;
        memory.refill(VARIABLES_BYTES_MAX);
        let mut found = Vec::new();
        for range in &process.program.variables {
            let length = (range.end - range.start).min(VARIABLES_BYTES_MAX);
            if let Ok(bytes) = memory.bytes(process.avma(range.start), length as usize) {
                self.root(&bytes, &mut found);
            }
        }
        memory.refill(ROOTED_BUDGET_BYTES);
        for slot in std::mem::take(&mut found) {
            let length = slot.size_bytes.min(ROOTED_BYTES_MAX);
            if let Ok(bytes) = memory.bytes(slot.address, length as usize) {
                self.root(&bytes, &mut found);
            }
        }
    }

    /// Notes the slots that words point to; those that are new are found.
    fn root(&mut self, bytes: &[u8], found: &mut Vec<Slot>) {
        for at in (0..bytes.len()).step_by(8) {
            if let Some(slot) = self.slot_at(word_at(bytes, at))
                && self.rooted.insert(slot.address)
            {
                found.push(slot);
            }
        }
    }

    /// The buckets of sampled objects, one for each.
    pub fn sampled(&self) -> impl Iterator<Item = u64> {
        self.sampled.values().copied()
    }

    /// Follows the list of what is special of a span's objects, which is changed while it is read: what cannot be
    /// read ends it.
    fn sample(
        &mut self,
        process: &GoProcess,
        span: &Span,
        mut next: u64,
    ) -> Result<(), MemoryError> {
        let layout = &process.layout.special;
        for _ in 0..SPECIALS_MAX {
            if next == 0 || self.sampled.len() >= SAMPLED_MAX {
                break;
            }
            let bytes = match process.memory.bytes(next, SPECIAL_BYTES) {
                Ok(bytes) => bytes,
                Err(MemoryError::Unmapped) => break,
                Err(error) => return Err(error),
            };
            let offset = match layout.offset_bytes {
                2 => word_at(&bytes, 8) & 0xffff,
                _ => word_at(&bytes, 8),
            };
            if bytes[usize::from(layout.kind)] == layout.profile_kind
                && let Some(slot) = span.slot_at(span.start.wrapping_add(offset))
            {
                let bucket = word_at(&bytes, usize::from(layout.bucket));
                self.sampled.insert(slot, bucket);
            }
            next = word_at(&bytes, 0);
        }
        Ok(())
    }
}

/// A span that has objects, and where the list begins of what is special of them.
fn parse(process: &GoProcess, bytes: &[u8]) -> Option<(Span, u64)> {
    let layout = &process.layout.span;
    let word = |offset: u16| word_at(bytes, usize::from(offset));
    let slots = word(layout.nelems);
    let span = Span {
        start: word(layout.start_addr),
        slot_bytes: word(layout.elemsize),
        slot_count: if layout.index_bytes == 8 {
            slots
        } else {
            slots & 0xffff
        },
    };
    let has_objects = bytes.get(usize::from(layout.state)) == Some(&IN_USE);
    let needed = span.slot_bytes.checked_mul(span.slot_count)?;
    let is_sound = span.slot_bytes != 0
        && needed <= word(layout.npages).checked_mul(PAGE_BYTES)?
        && span.start.checked_add(needed).is_some();
    (has_objects && is_sound).then(|| (span, word(layout.specials)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address belongs to the slot that it lies in, also in its middle; what lies behind a span's slots, between
    /// spans or before all is nobody's.
    #[test]
    fn addresses_have_slots() {
        let span = |start, slot_bytes, slot_count| Span {
            start,
            slot_bytes,
            slot_count,
        };
        let heap = Heap {
            spans: vec![span(8_192, 48, 170), span(32_768, 40_960, 1)],
            sampled: FxHashMap::from_iter([(8_240, 7)]),
            rooted: FxHashSet::default(),
        };
        let at = |address| heap.slot_at(address).map(|it| (it.address, it.bucket));
        assert_eq!(at(8_192), Some((8_192, None)));
        assert_eq!(at(8_287), Some((8_240, Some(7))));
        assert_eq!(at(8_192 + 48 * 170 - 1), Some((8_192 + 48 * 169, None)));
        assert_eq!(at(8_192 + 48 * 170), None, "marks lie there");
        assert_eq!(at(70_000), Some((32_768, None)));
        assert_eq!(at(32_768 + 40_960), None);
        assert_eq!(at(100), None);
        assert_eq!(heap.sampled().collect::<Vec<_>>(), [7]);
        let (mut heap, mut found) = (heap, Vec::new());
        heap.root(&8_250_u64.to_le_bytes(), &mut found);
        heap.root(&8_241_u64.to_le_bytes(), &mut found);
        assert_eq!(found.len(), 1);
        assert!(heap.slot_at(8_240).unwrap().is_rooted && !heap.slot_at(8_192).unwrap().is_rooted);
    }
}
