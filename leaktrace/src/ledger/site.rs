//! Owns the figures of one site of one process: what it handed out and how old what is left is.
//! Must not know blocks, stacks or other processes.

use leaktrace_common::{call::Call, cookie::Family};

use super::{Cohorts, Estimate, Units};

/// Upper ends of the classes of ages, in seconds; a last, open class follows.
pub const AGE_CLASSES_SECONDS: [u64; 6] = [1, 10, 60, 600, 3_600, 86_400];

/// Objects and bytes of one site since the trace began: as many as there were, or, of a site that is
/// sampled, as many as its samples stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteTotals {
    /// The id of its stack as the probes made it; 0 where there is none.
    pub stack: u64,
    /// The function that was called.
    pub call: Option<Call>,
    /// Whose function that is.
    pub family: Option<Family>,
    /// Bytes handed out; what a child inherits counts as handed out to it.
    pub allocated_bytes: u64,
    /// Blocks handed out.
    pub allocated_count: u64,
    /// Bytes of those given back.
    pub freed_bytes: u64,
    /// Blocks given back.
    pub freed_count: u64,
    /// How the figures came about.
    pub estimate: Estimate,
    /// What is live by when it was born, in the units of `estimate`.
    pub cohorts: Cohorts,
}

impl SiteTotals {
    /// A block of this size was made.
    pub(super) fn add_allocated(&mut self, size: u64, born_us: u64) {
        self.cohorts.add(born_us, self.estimate.units(size));
        match self.estimate.allocate(size) {
            Some((count, bytes)) => (self.allocated_count, self.allocated_bytes) = (count, bytes),
            None => {
                self.allocated_bytes += size;
                self.allocated_count += 1;
            }
        }
    }

    /// A block of this size, made then, is gone.
    pub(super) fn add_freed(&mut self, size: u64, born_us: u64) {
        self.cohorts.remove(born_us, self.estimate.units(size));
        match self.estimate.free(size) {
            // Sums of the same terms in another order may round otherwise.
            Some((count, bytes)) => {
                self.freed_count = count.min(self.allocated_count);
                self.freed_bytes = bytes.min(self.allocated_bytes);
            }
            None => {
                self.freed_bytes += size;
                self.freed_count += 1;
            }
        }
    }

    /// A block that is live, made then, counts for another site.
    pub(super) fn withdraw(&mut self, size: u64, born_us: u64) {
        self.cohorts.remove(born_us, self.estimate.units(size));
        match self.estimate.withdraw(size) {
            Some((count, bytes)) => (self.allocated_count, self.allocated_bytes) = (count, bytes),
            None => {
                self.allocated_bytes -= size;
                self.allocated_count -= 1;
            }
        }
        // As in `add_freed`.
        self.freed_count = self.freed_count.min(self.allocated_count);
        self.freed_bytes = self.freed_bytes.min(self.allocated_bytes);
    }

    /// Objects and bytes that are live and were born before a time.
    #[must_use]
    pub fn born_before(&self, time_us: u64) -> Units {
        let units = self.cohorts.born_before(time_us);
        Units {
            count: self.estimate.whole(units.count).min(self.live_count()),
            bytes: self.estimate.whole(units.bytes).min(self.live_bytes()),
        }
    }

    /// Bytes that are live.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.allocated_bytes - self.freed_bytes
    }

    /// Blocks that are live.
    #[must_use]
    pub fn live_count(&self) -> u64 {
        self.allocated_count - self.freed_count
    }
}

/// How old the live blocks of one site are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SiteAges {
    /// Blocks that are at least as old as was asked for.
    pub long_lived_count: u64,
    /// Their bytes.
    pub long_lived_bytes: u64,
    /// Age of the oldest block, in microseconds.
    pub oldest_us: u64,
    /// Collections that the block has survived that survived the most; of Go's heap alone.
    pub gc_cycles_survived: u64,
    /// Bytes of Go's heap that no collection has judged yet.
    pub not_yet_collected_bytes: u64,
    /// Blocks and bytes by class of `AGE_CLASSES_SECONDS`.
    pub classes: [(u64, u64); AGE_CLASSES_SECONDS.len() + 1],
    /// Variance of the estimate of live bytes; 0 where it is none.
    pub live_bytes_variance: f64,
}

impl SiteAges {
    /// Takes in the age of one more block.
    pub(super) fn add_age(&mut self, age_us: u64, block_units: u64, byte_units: u64) {
        self.oldest_us = self.oldest_us.max(age_us);
        let class = AGE_CLASSES_SECONDS
            .iter()
            .position(|end| age_us < end * 1_000_000);
        let (count, bytes) = &mut self.classes[class.unwrap_or(AGE_CLASSES_SECONDS.len())];
        *count += block_units;
        *bytes += byte_units;
    }

    /// From sums of units to blocks and bytes, of which there are no more than live ones.
    pub(super) fn settle(&mut self, totals: &SiteTotals) {
        let count = |units| totals.estimate.whole(units).min(totals.live_count());
        let bytes = |units| totals.estimate.whole(units).min(totals.live_bytes());
        self.long_lived_count = count(self.long_lived_count);
        self.long_lived_bytes = bytes(self.long_lived_bytes);
        self.not_yet_collected_bytes = bytes(self.not_yet_collected_bytes);
        for class in &mut self.classes {
            *class = (count(class.0), bytes(class.1));
        }
    }
}
