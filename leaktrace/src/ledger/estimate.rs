//! Owns what samples stand for: weights, and sums of them.
//! Must not know blocks' addresses, ages, or how samples are chosen.

use leaktrace_common::policy::is_certain;

/// Fractional bits of the sums over live blocks: at 16 a sum of 2^47 bytes still fits.
const UNIT_BITS: u32 = 16;

/// Sums of one site, in fractions where its blocks are samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Mean bytes between samples; 0 where every block was recorded.
    pub sample_bytes: u64,
    allocated: Sum,
    freed: Sum,
}

/// Objects and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    count: f64,
    bytes: f64,
}

impl Sum {
    fn add(&mut self, size: u64, weight: f64) -> (u64, u64) {
        self.count += weight;
        self.bytes += weight * size as f64;
        self.rounded()
    }

    fn rounded(self) -> (u64, u64) {
        (self.count.round() as u64, self.bytes.round() as u64)
    }
}

impl Estimate {
    /// Of a site whose blocks are recorded at this rate.
    #[must_use]
    pub fn new(sample_bytes: u64) -> Self {
        Self {
            sample_bytes,
            ..Self::default()
        }
    }

    /// Whether blocks stand for others.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.sample_bytes != 0
    }

    /// The sums with one more block handed out, where they are not plain ones.
    pub(super) fn allocate(&mut self, size: u64) -> Option<(u64, u64)> {
        let weight = self.is_sampled().then(|| weight(size, self.sample_bytes))?;
        Some(self.allocated.add(size, weight))
    }

    /// The sums without a block that was handed out, where they are not plain ones.
    pub(super) fn withdraw(&mut self, size: u64) -> Option<(u64, u64)> {
        let weight = self.is_sampled().then(|| weight(size, self.sample_bytes))?;
        self.allocated.count -= weight;
        self.allocated.bytes -= weight * size as f64;
        Some(self.allocated.rounded())
    }

    /// The sums with one more block given back, where they are not plain ones.
    pub(super) fn free(&mut self, size: u64) -> Option<(u64, u64)> {
        let weight = self.is_sampled().then(|| weight(size, self.sample_bytes))?;
        Some(self.freed.add(size, weight))
    }

    /// What is live counts as handed out, and nothing as given back.
    pub(super) fn inherit(&mut self) {
        self.allocated.count -= self.freed.count;
        self.allocated.bytes -= self.freed.bytes;
        self.freed = Sum::default();
    }

    /// What a live block adds to sums of objects and bytes, in units that `whole` takes back.
    pub(super) fn units(&self, size: u64) -> (u64, u64) {
        if !self.is_sampled() {
            return (1, size);
        }
        let weight = weight(size, self.sample_bytes) * f64::from(1_u32 << UNIT_BITS);
        (weight.round() as u64, (weight * size as f64).round() as u64)
    }

    /// A sum of units, rounded.
    pub(super) fn whole(&self, units: u64) -> u64 {
        if !self.is_sampled() {
            return units;
        }
        units.saturating_add(1 << (UNIT_BITS - 1)) >> UNIT_BITS
    }

    /// What a live block adds to the variance of the sum of bytes.
    pub(super) fn variance(&self, size: u64) -> f64 {
        if !self.is_sampled() {
            return 0.0;
        }
        let weight = weight(size, self.sample_bytes);
        // (1 - p) / p^2 with p = 1 / weight.
        weight * (weight - 1.0) * (size as f64).powi(2)
    }
}

/// How many blocks one that was recorded stands for.
fn weight(size: u64, sample_bytes: u64) -> f64 {
    if is_certain(size, sample_bytes) {
        return 1.0;
    }
    -1.0 / (-(size.max(1) as f64) / sample_bytes as f64).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A large block stands for itself, a small one for as many as fit between two samples.
    #[test]
    fn weights_are_those_of_a_poisson_process() {
        for (size, rate, expected) in [
            (1 << 40, 1 << 20, 1.0),
            (100, 0, 1.0),
            (1 << 20, 1 << 20, 1.581_976_7),
            (64, 524_288, 8_192.5),
            (0, 4_096, 4_096.5),
        ] {
            let made = weight(size, rate);
            assert!((made - expected).abs() < expected * 1e-4, "{size}: {made}");
        }
    }

    /// What was handed out and given back in any order leaves nothing.
    #[test]
    fn sums_come_back_to_zero() {
        let mut estimate = Estimate::new(65_536);
        let sizes = [8, 24, 100, 5_000, 100_000];
        let mut last = (0, 0);
        for size in sizes {
            last = estimate.allocate(size).unwrap();
        }
        let mut freed = (0, 0);
        for size in sizes.into_iter().rev() {
            freed = estimate.free(size).unwrap();
        }
        assert_eq!(last, freed);
        assert_eq!(
            Estimate::new(0).allocate(8),
            None,
            "plain sums need none of it"
        );
    }

    /// Sums over live blocks round once, at the end.
    #[test]
    fn units_round_once() {
        let estimate = Estimate::new(100);
        let units: u64 = (0..1_000).map(|_| estimate.units(100).0).sum();
        assert_eq!(estimate.whole(units), 1_582);
        assert_eq!(Estimate::default().whole(Estimate::default().units(7).1), 7);
    }
}
