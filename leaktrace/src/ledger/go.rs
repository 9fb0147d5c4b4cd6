//! Owns Go's heap of one process: its live blocks by page, and what a collection does to them.
//! Must not know how the collector works beyond its marks.
//!
//! Nobody frees a block of Go. A collection marks what is reachable, and then sweeps one span after
//! another: what lies in a span and is not marked is dead. A span is made of pages, so blocks are kept
//! by page.

mod block;

use rustc_hash::FxHashMap;

pub(super) use self::block::GoBlock;
use self::block::{SIZE_BITS, low};
use super::{
    ProcessLedger,
    site::{SiteAges, SiteTotals},
};
use crate::decode::{Alloc, GoSweep};
use leaktrace_common::go::{PAGE_BYTES, SLOT_BYTES};

/// A span of more than one slot has at most this many pages: the largest class has ten.
const PAGES_MAX: u64 = 64;

/// A slot that is shared by small blocks without pointers.
const TINY_SLOT_BYTES: u64 = 16;

/// Blocks that begin farther back are not found by addresses inside of them: of a larger one, what points to it
/// nearly always points to its beginning.
const INSIDE_PAGES_MAX: u64 = 4;

/// Two functions that hand on one block do so within this time. A collection between them, which
/// would be needed for two blocks at one address, takes longer.
const TOLD_TWICE_US: u64 = 100;

/// So do those whose thread lost its turn between them, where no collection has swept the block's span since.
const TOLD_TWICE_LATE_US: u64 = 1_000_000;

/// Go collects at least every two minutes once it has collected at all, and a while longer for one
/// that takes long: what is older and was never judged was not judged because nothing was.
/// <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go>, `forcegcperiod`
const UNJUDGED_US: u64 = 150_000_000;

/// A collection has swept nearly all of a heap by then: it marks for a tenth of a second or two a
/// gigabyte, and sweeps as fast as the program allocates.
const SWEEP_US: u64 = 1_000_000;

/// Go's heap of one process.
#[derive(Clone, Debug, Default)]
pub struct GoHeap {
    pages: FxHashMap<u64, Vec<GoBlock>>,
    live_count: usize,
    /// When the last collection began to mark, in microseconds since boot.
    marking_since_us: u64,
    /// When the one before began.
    marked_before_us: u64,
    cycle_count: u64,
}

/// A live block that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoBlockFound {
    /// Where it begins.
    pub address: u64,
    /// The bytes of its slot.
    pub size_bytes: u64,
    /// The number of its site.
    pub site: u32,
    /// How many objects it stands for.
    pub counts_as: u64,
    /// How many bytes it stands for.
    pub counts_as_bytes: u64,
}

/// What became of a block that was put into its page.
pub(super) enum Put {
    /// Nothing was there.
    Fresh,
    /// A block whose death was not told.
    Instead(GoBlock),
    /// The very block.
    ToldTwice,
}

impl GoHeap {
    /// Live blocks; those that share a slot are one.
    pub(super) fn live_count(&self) -> usize {
        self.live_count
    }

    /// Bytes of memory that the tables take.
    pub(super) fn table_bytes(&self) -> usize {
        let pages = self.pages.capacity() * size_of::<(u64, Vec<GoBlock>)>();
        let blocks = self.pages.values().map(Vec::capacity);
        pages + blocks.sum::<usize>() * size_of::<GoBlock>()
    }

    /// Takes out every block.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = GoBlock> + use<> {
        self.live_count = 0;
        std::mem::take(&mut self.pages).into_values().flatten()
    }

    /// Collections that have begun since the trace did.
    pub(super) fn cycle_count(&self) -> u64 {
        self.cycle_count
    }

    /// What was born before this time was judged by a collection, which has swept the dead: until so
    /// long after it began, one is taken to be still at it, and the one before counts. Without any
    /// collection, what is so old that there should have been one.
    fn judged_until_us(&self, now_us: u64) -> u64 {
        let unjudged = now_us.saturating_sub(UNJUDGED_US);
        let is_swept = now_us.saturating_sub(self.marking_since_us) >= SWEEP_US;
        let judged = if is_swept {
            self.marking_since_us
        } else {
            self.marked_before_us
        };
        judged.max(unjudged)
    }

    /// A collection is known to have begun after this time.
    pub(super) fn begin_cycle(&mut self, time_us: u64) {
        self.marked_before_us = self.marking_since_us;
        self.marking_since_us = time_us;
        self.cycle_count += 1;
    }

    /// Takes out the block that begins there.
    pub(super) fn take(&mut self, address: u64) -> Option<GoBlock> {
        let number = address / PAGE_BYTES;
        let page = self.pages.get_mut(&number)?;
        let index = page.binary_search_by_key(&(address % PAGE_BYTES), |it| it.offset());
        let block = page.remove(index.ok()?);
        if page.is_empty() {
            self.pages.remove(&number);
        }
        self.live_count -= 1;
        Some(block)
    }

    /// A collection has let the block live that begins there.
    pub(super) fn judge(&mut self, address: u64) {
        let page = self.pages.get_mut(&(address / PAGE_BYTES));
        let block = page.and_then(|page| {
            let index = page.binary_search_by_key(&(address % PAGE_BYTES), |it| it.offset());
            page.get_mut(index.ok()?)
        });
        if let Some(block) = block
            && block.survived() == 0
        {
            block.survive();
        }
    }

    pub(super) fn put(&mut self, address: u64, block: GoBlock) -> Put {
        let page = self.pages.entry(address / PAGE_BYTES).or_default();
        match page.binary_search_by_key(&block.offset(), |it| it.offset()) {
            Ok(index) => {
                let known = page[index];
                let later_us = block.time_us().saturating_sub(known.time_us());
                // Its span must have been swept before another can have its place. That a collection has begun since is
                // not enough: it is told of before it waits for all threads to stop.
                let is_unswept = known.survived() == 0;
                if later_us < TOLD_TWICE_US || later_us < TOLD_TWICE_LATE_US && is_unswept {
                    return Put::ToldTwice;
                }
                page[index] = block;
                Put::Instead(known)
            }
            Err(index) => {
                page.insert(index, block);
                self.live_count += 1;
                Put::Fresh
            }
        }
    }

    /// The live block that an address lies in, and where it begins.
    fn block_at(&self, address: u64) -> Option<(u64, GoBlock)> {
        let last = address / PAGE_BYTES;
        for number in (last.saturating_sub(INSIDE_PAGES_MAX)..=last).rev() {
            let Some(page) = self.pages.get(&number) else {
                continue;
            };
            let base = number * PAGE_BYTES;
            let behind = page.partition_point(|block| base + block.offset() <= address);
            let Some(block) = behind.checked_sub(1).and_then(|index| page.get(index)) else {
                continue;
            };
            let start = base + block.offset();
            // Blocks do not overlap: none that begins before this one reaches further.
            return (address - start < block.size()).then_some((start, *block));
        }
        None
    }

    /// Takes the dead of a span out, and tells each.
    fn sweep(&mut self, sweep: &GoSweep, mut bury: impl FnMut(GoBlock)) {
        let first = sweep.address / PAGE_BYTES;
        // A block lies in the page where it begins.
        let page_count = match sweep.slot_count {
            1 => 1,
            _ => (sweep.span_bytes / PAGE_BYTES).min(PAGES_MAX),
        };
        for number in first..first.saturating_add(page_count) {
            let Some(page) = self.pages.get_mut(&number) else {
                continue;
            };
            let before = page.len();
            page.retain_mut(|block| {
                let distance = (number * PAGE_BYTES + block.offset()).wrapping_sub(sweep.address);
                let slot = distance / sweep.slot_bytes;
                let word = usize::try_from(slot / 64)
                    .ok()
                    .and_then(|it| sweep.marks.get(it));
                let is_marked = word.is_some_and(|word| word >> (slot % 64) & 1 != 0);
                if !is_marked {
                    bury(*block);
                } else if block.time_us() < self.marking_since_us || self.cycle_count == 0 {
                    // What is made while it marks is marked from the beginning, not judged.
                    block.survive();
                }
                is_marked
            });
            self.live_count -= before - page.len();
            if page.is_empty() {
                self.pages.remove(&number);
            } else if page.capacity() > 2 * page.len() + 8 {
                page.shrink_to_fit();
            }
        }
    }

    /// Adds the ages of the live blocks to those of their sites.
    pub(super) fn add_ages(
        &self,
        ages: &mut [SiteAges],
        sites: &[SiteTotals],
        now_us: u64,
        min_age_us: u64,
    ) {
        for block in self.pages.values().flatten() {
            let (Some(site), Some(totals)) = (ages.get_mut(block.site()), sites.get(block.site()))
            else {
                continue;
            };
            let (block_units, byte_units) = totals.estimate.units(block.size());
            site.live_bytes_variance += totals.estimate.variance(block.size());
            let age_us = now_us.saturating_sub(block.time_us());
            let is_unjudged = block.survived() == 0;
            if is_unjudged {
                site.not_yet_collected_bytes += byte_units;
            }
            // Garbage that waits for its collection is old too, as long as collections come.
            let waits = is_unjudged && self.cycle_count > 0 && age_us < UNJUDGED_US;
            if age_us >= min_age_us && (!waits || min_age_us == 0) {
                site.long_lived_count += block_units;
                site.long_lived_bytes += byte_units;
            }
            site.gc_cycles_survived = site.gc_cycles_survived.max(block.survived());
            site.add_age(age_us, block_units, byte_units);
        }
    }
}

impl ProcessLedger {
    pub(super) fn allocate_go(
        &mut self,
        alloc: Alloc,
        is_tiny: bool,
        sample_bytes: u64,
        has_room: bool,
    ) {
        self.hit_count += 1;
        self.exited_ns = None;
        if self.is_profiled() {
            // The probes are there for another process of the program; this one's profile has it already.
            return;
        }
        if !has_room {
            self.anomalies.blocks_refused += 1;
            if let Some(missed) = self.go.take(alloc.address) {
                self.bury(missed);
                self.anomalies.frees_implied += 1;
            }
            return;
        }
        let is_shared = is_tiny && !alloc.address.is_multiple_of(TINY_SLOT_BYTES);
        if is_shared && sample_bytes != 0 {
            return;
        }
        let number = self.site_number(&alloc, sample_bytes);
        if is_shared {
            // It takes the room that another has paid for. Go, too, counts it as given back at once,
            // because no one sees it die.
            if let Some(site) = self.sites.get_mut(number as usize) {
                let born_us = alloc.time_ns / 1_000;
                site.add_allocated(0, born_us);
                site.add_freed(0, born_us);
            }
            return;
        }
        let size = slot_bytes(alloc.size).min(low(SIZE_BITS));
        let block = GoBlock::new(alloc.address, size, alloc.time_ns / 1_000, number);
        match self.go.put(alloc.address, block) {
            Put::ToldTwice => {
                self.anomalies.told_twice += 1;
                return;
            }
            Put::Instead(missed) => {
                self.bury(missed);
                self.anomalies.frees_implied += 1;
            }
            Put::Fresh => {}
        }
        if let Some(site) = self.sites.get_mut(number as usize) {
            site.add_allocated(size, block.time_us());
        }
    }

    pub(super) fn sweep_go(&mut self, sweep: &GoSweep) {
        self.hit_count += 1;
        let needed = sweep.slot_bytes.checked_mul(u64::from(sweep.slot_count));
        if sweep.slot_bytes == 0 || needed.is_none_or(|needed| needed > sweep.span_bytes) {
            self.anomalies.spans_unsound += 1;
            return;
        }
        let sites = &mut self.sites;
        self.go.sweep(sweep, |block| {
            if let Some(site) = sites.get_mut(block.site()) {
                site.add_freed(block.size(), block.time_us());
            }
        });
    }

    pub(super) fn begin_go_cycle(&mut self, time_ns: u64) {
        self.hit_count += 1;
        self.go.begin_cycle(time_ns / 1_000);
    }

    /// The live block of Go's heap that an address lies in.
    #[must_use]
    pub fn go_block_at(&self, address: u64) -> Option<GoBlockFound> {
        let (start, block) = self.go.block_at(address)?;
        let totals = self.sites.get(block.site())?;
        let (count, bytes) = totals.estimate.units(block.size());
        Some(GoBlockFound {
            address: start,
            size_bytes: block.size(),
            // There are at most `SITES_MAX`.
            site: block.site() as u32,
            counts_as: totals.estimate.whole(count),
            counts_as_bytes: totals.estimate.whole(bytes),
        })
    }

    /// Collections of Go's heap that have begun since the trace did.
    #[must_use]
    pub fn gc_cycles(&self) -> u64 {
        self.go.cycle_count()
    }

    /// What of Go's heap was born before this time, in microseconds since boot, a collection has let
    /// live, or none came for so long that it is old anyhow.
    #[must_use]
    pub fn go_judged_until_us(&self, now_us: u64) -> u64 {
        self.go.judged_until_us(now_us)
    }

    pub(super) fn bury(&mut self, block: GoBlock) {
        if let Some(site) = self.sites.get_mut(block.site()) {
            site.add_freed(block.size(), block.time_us());
        }
    }
}

/// The bytes of the slot that a block of this size lies in, as Go's own figures count it.
pub(super) fn slot_bytes(size: u64) -> u64 {
    let class = SLOT_BYTES.partition_point(|bytes| u64::from(*bytes) < size);
    match SLOT_BYTES.get(class) {
        Some(bytes) => u64::from(*bytes),
        // A block of its own pages.
        None => size.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES),
    }
}

#[cfg(test)]
mod tests;
