//! Owns what one process holds: its live blocks, and totals by site.
//! Must not know other processes, what a stack means or what time it is.

use hashbrown::HashMap;
use leaktrace_common::call::Call;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{
    Estimate, ProcessKey,
    block::Block,
    go::GoHeap,
    profiled::Profiled,
    restack::EarlyBlock,
    site::{SiteAges, SiteTotals},
};
use crate::decode::Alloc;

/// Sites of one process that are told apart; further ones share the last number, as one site
/// without a stack. The largest services have some ten thousand.
pub(super) const SITES_MAX: usize = 131_072;

/// What did not fit together; each is told in the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Frees of blocks that were not followed: made before the trace, or of a size left out.
    pub frees_untraced: u64,
    /// Blocks handed out where one was live: its free was missed, and is made good by this.
    pub frees_implied: u64,
    /// Blocks of Go's heap that were told of twice, by two functions that handed them on.
    pub told_twice: u64,
    /// Spans of Go's heap that make no sense.
    pub spans_unsound: u64,
    /// Allocations beyond the number of sites that are told apart.
    pub sites_merged: u64,
    /// Blocks that were not followed, because all that are may take no more memory.
    pub blocks_refused: u64,
    /// Blocks that were given up because their frees could not be watched.
    pub blocks_unfollowed: u64,
}

/// What one process holds.
#[derive(Clone, Debug, Default)]
pub struct ProcessLedger {
    tgid: u32,
    /// When it was found running; 0 where its first record told of it.
    found_ns: u64,
    born_ns: Option<u64>,
    pub(super) exited_ns: Option<u64>,
    image_count: u32,
    pub(super) blocks: HashMap<u64, Block, FxBuildHasher>,
    /// By thread: the address and the block that `realloc` was called with.
    pub(super) resizing: FxHashMap<u32, (u64, Block)>,
    pub(super) sites: Vec<SiteTotals>,
    /// By stack, function and mean bytes between samples.
    site_numbers: FxHashMap<(u64, Call, u64), u32>,
    pub(super) anomalies: Anomalies,
    /// Blocks whose stacks are still to be walked.
    pub(super) early: Vec<EarlyBlock>,
    pub(super) hit_count: u64,
    children: Vec<(ProcessKey, u64)>,
    /// What Go's own profile said, where that is read.
    pub(super) profiled: Profiled,
    /// Go's heap, where it has one.
    pub(super) go: GoHeap,
}

impl ProcessLedger {
    pub(super) fn found_at(tgid: u32, now_ns: u64) -> Self {
        Self {
            tgid,
            found_ns: now_ns,
            ..Self::default()
        }
    }

    pub(super) fn was_found_after(&self, time_ns: u64) -> bool {
        self.found_ns > time_ns
    }

    pub(super) fn set_born(&mut self, time_ns: u64) {
        self.born_ns = Some(time_ns);
    }

    pub(super) fn made_at(tgid: u32, time_ns: u64) -> Self {
        Self {
            tgid,
            born_ns: Some(time_ns),
            ..Self::default()
        }
    }

    /// A child that holds what its parent does, for which there is no room.
    pub(super) fn made_without(block_count: usize, tgid: u32, time_ns: u64) -> Self {
        let mut child = Self::made_at(tgid, time_ns);
        child.anomalies.blocks_refused = block_count as u64;
        child
    }

    /// The pid.
    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.tgid
    }

    /// When it was made, in boot-clock nanoseconds, where that was seen.
    #[must_use]
    pub fn born_ns(&self) -> Option<u64> {
        self.born_ns
    }

    /// When it ended, in boot-clock nanoseconds.
    #[must_use]
    pub fn exited_ns(&self) -> Option<u64> {
        self.exited_ns
    }

    /// How many images it has executed since it is followed.
    #[must_use]
    pub fn image_count(&self) -> u32 {
        self.image_count
    }

    /// Totals of every site, by number.
    #[must_use]
    pub fn sites(&self) -> &[SiteTotals] {
        &self.sites
    }

    /// What did not fit together.
    #[must_use]
    pub fn anomalies(&self) -> Anomalies {
        self.anomalies
    }

    /// Probes hit so far, as far as records tell: two for an allocation, one for a free.
    #[must_use]
    pub fn hit_count(&self) -> u64 {
        self.hit_count
    }

    /// Addresses of the live blocks that were recorded.
    pub fn addresses(&self) -> impl Iterator<Item = u64> {
        let resizing = self.resizing.values().map(|(address, _)| *address);
        self.blocks.keys().copied().chain(resizing)
    }

    /// Of each live block that was recorded the number of its site and when it was made, in microseconds
    /// since boot.
    pub fn births(&self) -> impl Iterator<Item = (usize, u64)> {
        self.blocks.values().map(|it| (it.site(), it.time_us()))
    }

    /// The same with their addresses.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, (usize, u64))> {
        let blocks = self.blocks.iter();
        blocks.map(|(address, it)| (*address, (it.site(), it.time_us())))
    }

    /// Live blocks that were recorded.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.blocks.len() + self.resizing.len() + self.go.live_count()
    }

    /// Whether it ran before it was traced, so that it may free blocks which nobody saw being made.
    #[must_use]
    pub fn was_found_running(&self) -> bool {
        self.born_ns.is_none() && self.image_count == 0
    }

    /// Bytes of memory that the table of blocks takes.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.blocks.allocation_size() + self.go.table_bytes()
    }

    /// Ages of the live blocks of each site, by number, at `now_ns`.
    #[must_use]
    pub fn ages(&self, now_ns: u64, min_age_us: u64) -> Vec<SiteAges> {
        let now_us = self.exited_ns.unwrap_or(now_ns) / 1_000;
        let mut ages = vec![SiteAges::default(); self.sites.len()];
        let resizing = self.resizing.values().map(|(_, block)| block);
        for block in self.blocks.values().chain(resizing) {
            let (Some(site), Some(totals)) =
                (ages.get_mut(block.site()), self.sites.get(block.site()))
            else {
                continue;
            };
            let (block_units, byte_units) = totals.estimate.units(block.size());
            site.live_bytes_variance += totals.estimate.variance(block.size());
            let age_us = now_us.saturating_sub(block.time_us());
            if age_us >= min_age_us {
                site.long_lived_count += block_units;
                site.long_lived_bytes += byte_units;
            }
            site.add_age(age_us, block_units, byte_units);
        }
        self.go.add_ages(&mut ages, &self.sites, now_us, min_age_us);
        for (ages, totals) in ages.iter_mut().zip(&self.sites) {
            ages.settle(totals);
        }
        ages
    }

    pub(super) fn children(&self) -> &[(ProcessKey, u64)] {
        &self.children
    }

    pub(super) fn add_child(&mut self, child: ProcessKey, time_ns: u64) {
        self.children.push((child, time_ns));
    }

    pub(super) fn allocate(&mut self, alloc: Alloc, sample_bytes: u64, has_room: bool) {
        self.hit_count += 2;
        self.exited_ns = None;
        self.insert(alloc, sample_bytes, has_room);
    }

    pub(super) fn free(&mut self, address: u64) {
        self.hit_count += 1;
        match self.blocks.remove(&address) {
            Some(block) => self.settle(block),
            None => self.anomalies.frees_untraced += 1,
        }
    }

    /// A free that was lost on its way and arrives late: it frees what was there at its time.
    pub(super) fn free_if_older(&mut self, address: u64, time_ns: u64) {
        if let Some(block) = self.blocks.get(&address).copied()
            && block.time_us() <= time_ns / 1_000
        {
            self.blocks.remove(&address);
            self.settle(block);
        }
    }

    /// The block leaves its address, which another thread may be given before the resize is over.
    pub(super) fn begin_resize(&mut self, tid: u32, address: u64) {
        self.hit_count += 1;
        let Some(block) = self.blocks.remove(&address) else {
            return;
        };
        if let Some((_, block)) = self.resizing.insert(tid, (address, block)) {
            // Its end was lost; a resize that fails is rare, so it is taken to have freed.
            self.settle(block);
        }
    }

    pub(super) fn end_resize(
        &mut self,
        tid: u32,
        (old, new): (u64, Alloc),
        is_followed: bool,
        has_room: bool,
    ) {
        self.hit_count += 1;
        self.exited_ns = None;
        let pending = self.resizing.remove(&tid);
        let has_room = has_room || pending.is_some();
        if new.address == 0 && new.size != 0 {
            if let Some((address, block)) = pending {
                self.blocks.insert(address, block);
            }
            return;
        }
        match pending {
            Some((address, block)) if address == old => self.settle(block),
            Some((_, block)) => {
                self.settle(block);
                self.anomalies.frees_untraced += 1;
            }
            None => self.anomalies.frees_untraced += 1,
        }
        if new.address != 0 && is_followed {
            self.insert(new, 0, has_room);
        }
    }

    pub(super) fn exec(&mut self, _time_ns: u64) {
        *self = Self {
            tgid: self.tgid,
            found_ns: self.found_ns,
            born_ns: self.born_ns,
            image_count: self.image_count + 1,
            // A child forked before keeps what it has; nobody inherits from this image's past.
            ..Self::default()
        };
    }

    pub(super) fn give_up_blocks(&mut self) {
        let resizing = std::mem::take(&mut self.resizing);
        let blocks = std::mem::take(&mut self.blocks).into_values();
        for block in blocks.chain(resizing.into_values().map(|(_, block)| block)) {
            self.settle(block);
            self.anomalies.blocks_unfollowed += 1;
        }
        for block in self.go.take_all() {
            self.bury(block);
            self.anomalies.blocks_unfollowed += 1;
        }
    }

    pub(super) fn exit(&mut self, time_ns: u64) {
        self.exited_ns.get_or_insert(time_ns);
    }

    /// The child's ledger: the live blocks, as if they had been handed out to the child.
    pub(super) fn forked(&self, child_tgid: u32, time_ns: u64) -> Self {
        let mut child = Self {
            tgid: child_tgid,
            born_ns: Some(time_ns),
            blocks: self.blocks.clone(),
            go: self.go.clone(),
            early: self.early.clone(),
            profiled: self.profiled.clone(),
            sites: self.sites.clone(),
            site_numbers: self.site_numbers.clone(),
            ..Self::default()
        };
        for site in &mut child.sites {
            site.allocated_bytes = site.live_bytes();
            site.allocated_count = site.live_count();
            site.freed_bytes = 0;
            site.freed_count = 0;
            site.estimate.inherit();
        }
        // What another thread was resizing will stay as it is: that thread is not in the child.
        for (address, block) in self.resizing.values() {
            child.blocks.insert(*address, *block);
        }
        child
    }

    fn insert(&mut self, alloc: Alloc, sample_bytes: u64, has_room: bool) {
        if !has_room {
            self.anomalies.blocks_refused += 1;
            // Whatever was there is gone, or the address would not be handed out.
            if let Some(missed) = self.blocks.remove(&alloc.address) {
                self.settle(missed);
                self.anomalies.frees_implied += 1;
            }
            return;
        }
        let alloc = self.note_early(alloc);
        let number = self.site_number(&alloc, sample_bytes);
        let block = Block::new(alloc.size, alloc.time_ns, number);
        if let Some(site) = self.sites.get_mut(number as usize) {
            site.add_allocated(block.size(), block.time_us());
        }
        if let Some(missed) = self.blocks.insert(alloc.address, block) {
            self.settle(missed);
            self.anomalies.frees_implied += 1;
        }
    }

    pub(super) fn settle(&mut self, block: Block) {
        if let Some(site) = self.sites.get_mut(block.site()) {
            site.add_freed(block.size(), block.time_us());
        }
    }

    pub(super) fn site_number(&mut self, alloc: &Alloc, sample_bytes: u64) -> u32 {
        let (stack, call) = (alloc.stack, alloc.call);
        if let Some(number) = self.site_numbers.get(&(stack, call, sample_bytes)) {
            return *number;
        }
        let is_full = self.sites.len() >= SITES_MAX;
        if is_full {
            self.anomalies.sites_merged += 1;
            // The last site takes in all others and has no stack of its own any more.
            if let Some(last) = self.sites.last_mut() {
                last.stack = 0;
                last.call = None;
                last.family = None;
            }
        } else {
            self.sites.push(SiteTotals {
                stack,
                call: Some(call),
                family: alloc.family,
                estimate: Estimate::new(sample_bytes),
                ..SiteTotals::default()
            });
            // Both fit in 32 bits: there are at most `SITES_MAX`.
            self.site_numbers
                .insert((stack, call, sample_bytes), (self.sites.len() - 1) as u32);
        }
        (self.sites.len() - 1) as u32
    }
}
