//! Owns reading the words by which goroutines hold memory: those of their stacks, and of blocks.
//! Must not know which words point to anything.

use super::{Goroutine, Range, Word};
use crate::golang::{memory::word_at, program::GoProcess};

/// As much memory as one look may read of all stacks, or of all blocks.
const BUDGET_BYTES: u64 = 16 << 20;

/// As much as is read of one stack, from where it stopped. A deeper one keeps the rest to itself.
const STACK_BYTES_MAX: u64 = 16 << 10;

/// As much as is read of one block, from its beginning.
const BLOCK_BYTES_MAX: u64 = 4 << 10;

/// Nothing is mapped below, so small numbers are none.
const LOWEST: u64 = 1 << 16;

/// Nor behind the half of the address space that is the process's.
const HIGHEST: u64 = 1 << 47;

/// The words on the stacks of goroutines, each with the number of its goroutine. What cannot be read, and what
/// is beyond the limits, is left out.
#[must_use]
pub fn words_of_stacks(process: &GoProcess, goroutines: &[Goroutine]) -> Vec<Word> {
    let ranges = (0..).zip(goroutines).map(|(holder, goroutine)| Range {
        address: goroutine.sp,
        size_bytes: goroutine
            .stack_end
            .saturating_sub(goroutine.sp)
            .min(STACK_BYTES_MAX),
        holder,
    });
    words(process, ranges)
}

/// The words in blocks.
#[must_use]
pub fn words_of_blocks(process: &GoProcess, blocks: &[Range]) -> Vec<Word> {
    let ranges = blocks.iter().map(|block| Range {
        size_bytes: block.size_bytes.min(BLOCK_BYTES_MAX),
        ..*block
    });
    words(process, ranges)
}

fn words(process: &GoProcess, ranges: impl Iterator<Item = Range>) -> Vec<Word> {
    process.memory.refill(BUDGET_BYTES);
    let mut words = Vec::new();
    for range in ranges {
        let Ok(bytes) = process
            .memory
            .bytes(range.address, range.size_bytes as usize)
        else {
            continue;
        };
        let own = range.address..range.address + range.size_bytes;
        let values = (0..bytes.len() / 8).map(|index| word_at(&bytes, index * 8));
        let outward = values.filter(|it| (LOWEST..HIGHEST).contains(it) && !own.contains(it));
        let holder = range.holder;
        words.extend(outward.map(|value| Word { value, holder }));
    }
    // By goroutine, so that the first to reach a block is the same each time.
    words.sort_unstable_by_key(|word| (word.holder, word.value));
    words.dedup();
    words
}
