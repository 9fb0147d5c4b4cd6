//! Owns the decision which allocations are recorded: by bytes, unbiased, in integers.
//! Must not know maps, clocks or where randomness comes from.
//!
//! Samples lie on the stream of allocated bytes as the events of a Poisson process: an allocation of
//! `size` bytes is recorded with the probability `1 - exp(-size / sample_bytes)`, so that one that is
//! stands for `1 / (1 - exp(-size / sample_bytes))` allocations. The distance to the next sample is
//! drawn once and counted down, in units of the mean distance. What is left of it is as random as a
//! fresh draw, so that one countdown may serve allocations of several threads, processes and rates.

/// What the probes do for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Policy {
    /// Mean bytes between samples; 0 records every allocation.
    pub sample_bytes: u64,
    /// When allocations are no longer recorded, boot clock; 0 for never.
    pub until_ns: u64,
    /// Bits of `watched`.
    pub watched: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// Bits of `Policy::watched`.
pub mod watched {
    /// Allocations are recorded.
    pub const ALLOCATIONS: u32 = 1;
    /// Frees are recorded.
    pub const FREES: u32 = 2;
    /// Of frees only those of blocks that are kept: recorded ones.
    pub const KEPT_ONLY: u32 = 4;
}

impl Policy {
    /// Every allocation and every free.
    pub const EVERYTHING: Self = Self {
        sample_bytes: 0,
        until_ns: 0,
        watched: watched::ALLOCATIONS | watched::FREES,
        reserved: 0,
    };

    /// Nothing at all.
    pub const NOTHING: Self = Self {
        sample_bytes: 0,
        until_ns: 0,
        watched: 0,
        reserved: 0,
    };

    /// One allocation in about so many bytes, and the frees of those; everything where it is 0.
    #[must_use]
    pub const fn sampled(sample_bytes: u64) -> Self {
        if sample_bytes == 0 {
            return Self::EVERYTHING;
        }
        Self {
            sample_bytes,
            until_ns: 0,
            watched: watched::ALLOCATIONS | watched::FREES | watched::KEPT_ONLY,
            reserved: 0,
        }
    }

    /// Whether all these bits are set.
    #[must_use]
    pub const fn watches(&self, bits: u32) -> bool {
        self.watched & bits == bits
    }

    /// Whether recorded blocks are kept, so that the frees of others can be told from theirs.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.sample_bytes != 0 || self.watches(watched::KEPT_ONLY)
    }
}

/// Key of the set of blocks that were recorded and whose frees are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct KeptKey {
    /// The block's address.
    pub address: u64,
    /// The process.
    pub tgid: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// What probes did for a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hits {
    /// Traps; a call that returns through a probe counts as two.
    pub hit_count: u64,
    /// Allocations that were recorded.
    pub sample_count: u64,
}

const _: () = assert!(size_of::<Policy>() == 24);
const _: () = assert!(size_of::<KeptKey>() == 16);
const _: () = assert!(size_of::<Hits>() == 16);

/// Largest mean distance: with more, one byte would be less than the countdown can tell.
pub const SAMPLE_BYTES_MAX: u64 = 1 << 30;

/// An allocation of this many mean distances is always recorded: all but one of 10^14 would be.
const CERTAIN_DISTANCES: u64 = 32;

/// So is one of this size, so that 32 fractional bits have room above it.
const CERTAIN_BYTES: u64 = 1 << 31;

/// Whether an allocation is recorded whatever the countdown says.
#[must_use]
#[inline(always)]
pub const fn is_certain(size: u64, sample_bytes: u64) -> bool {
    sample_bytes == 0 || size >= CERTAIN_BYTES || size / sample_bytes >= CERTAIN_DISTANCES
}

/// Whether an allocation is recorded. `left` is the countdown in 2^-32 of the mean distance, 0 before
/// its first use. An empty allocation counts as one byte, since it takes as much memory.
#[inline(always)]
pub fn picks(
    left: &mut u64,
    size: u64,
    sample_bytes: u64,
    mut random: impl FnMut() -> u32,
) -> bool {
    if is_certain(size, sample_bytes) {
        return true;
    }
    let size = if size == 0 { 1 } else { size };
    // Half a unit more rounds to the nearest.
    let passed = ((size << 32) + (sample_bytes >> 1)) / sample_bytes;
    if *left == 0 {
        *left = exponential(random());
    }
    if *left > passed {
        *left -= passed;
        return false;
    }
    *left = exponential(random());
    true
}

/// Samples must be at least this far apart where one hit stands for several blocks: no span of small blocks has
/// more bytes, so that no hit stands for more than one sample.
pub const REFILL_SAMPLE_BYTES_MIN: u64 = 128 << 10;

/// Whether one of `count` blocks of a size is recorded, of which only one is seen: with `count` times the
/// probability of one of them, so that what is recorded weighs as one that was looked at alone. The size is at most
/// a quarter of the distance where there are several.
#[inline(always)]
pub fn picks_of(
    left: &mut u64,
    count: u64,
    size: u64,
    sample_bytes: u64,
    mut random: impl FnMut() -> u32,
) -> bool {
    if count == 0 {
        return false;
    }
    if count == 1 || is_certain(size, sample_bytes) {
        return picks(left, size, sample_bytes, random);
    }
    // 1 - exp(-x) in 2^-32, by its series: off by less than 10^-4 of itself where x is a quarter.
    let x = ((size << 32) + (sample_bytes >> 1)) / sample_bytes;
    let x = if x > 1 << 32 { 1 << 32 } else { x };
    let times_x = |factor: u64| (x * factor) >> 32;
    let one = 0xffff_ffff;
    let share = times_x(one - times_x(one - times_x(one - x / 4) / 3) / 2);
    (random() as u64) < count * share
}

/// Coefficients of `log2(1 + f) = f + f (1 - f) (A - f (B - f (C - f D)))`, in 2^-32, with signs taken out:
/// interpolated at Chebyshev nodes, exact at both ends, off by 5 * 10^-5 at most and by 2.5 * 10^-6
/// on average.
const A: u64 = 1_900_173_326;
const B: u64 = 1_157_828_758;
const C: u64 = 646_535_156;
const D: u64 = 192_732_170;

/// Natural logarithm of 2, in 2^-26: a product with 38 bits still fits.
const LN_2: u64 = 46_516_320;

/// A distance of mean 1 in 2^-32, exponentially distributed, from 32 evenly distributed bits.
#[must_use]
#[inline(always)]
pub fn exponential(random: u32) -> u64 {
    // The logarithm of 1 to 2^32, so that it is never that of zero.
    let number = random as u64 + 1;
    let exponent = 63 - number.leading_zeros() as u64;
    let fraction = (number << (32 - exponent)) & 0xffff_ffff;
    let bend = A - ((fraction * (B - ((fraction * (C - ((fraction * D) >> 32))) >> 32))) >> 32);
    let curve = (fraction * (0xffff_ffff - fraction)) >> 32;
    let log2 = (exponent << 32) + fraction + ((curve * bend) >> 32);
    (((32 << 32) - log2) * LN_2) >> 26
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Good enough a generator to test with: SplitMix64, of which the upper half.
    fn randoms(mut seed: u64) -> impl FnMut() -> u32 {
        move || {
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = seed;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((mixed ^ (mixed >> 31)) >> 32) as u32
        }
    }

    /// The integer logarithm is the real one, within what its polynomial promises.
    #[test]
    fn distances_are_logarithms() {
        let mut random = randoms(1);
        let edges = [0, 1, 2, 3, u32::MAX, u32::MAX - 1, 1 << 31, (1 << 31) - 1];
        for number in edges.into_iter().chain((0..100_000).map(|_| random())) {
            let exact = -((f64::from(number) + 1.0) / 4_294_967_296.0).ln();
            let made = exponential(number) as f64 / 4_294_967_296.0;
            assert!((exact - made).abs() < 6e-5, "{number}: {exact} and {made}");
        }
    }

    /// The mean distance is one, and its variance too, as an exponential distribution's.
    #[test]
    fn distances_are_exponential() {
        let mut random = randoms(2);
        let count = 2_000_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..count {
            let distance = exponential(random()) as f64 / 4_294_967_296.0;
            sum += distance;
            squares += distance * distance;
        }
        let mean = sum / f64::from(count);
        let variance = squares / f64::from(count) - mean * mean;
        // Five standard errors: 1/sqrt(n) of the mean, sqrt(8/n) of the variance.
        assert!((mean - 1.0).abs() < 5.0 / f64::from(count).sqrt(), "{mean}");
        let error = 5.0 * (8.0 / f64::from(count)).sqrt();
        assert!((variance - 1.0).abs() < error, "{variance}");
    }

    /// Whatever the size and the rate, weighted samples add up to what was allocated, also where
    /// sizes and rates are mixed on one countdown.
    #[test]
    fn estimates_are_unbiased() {
        let mut random = randoms(3);
        let sizes: [u64; 7] = [0, 8, 64, 1_000, 4_096, 100_000, 3_000_000];
        let rates: [u64; 3] = [4_096, 65_536, 524_288];
        let rounds = 3_000_000_u64;
        let mut left = 0;
        let mut figures = [[(0.0_f64, 0.0_f64, 0_u64); 7]; 3];
        for round in 0..rounds {
            // Both follow the clock, as those of real programs do; only the countdown is random.
            let (s, r) = ((round % 7) as usize, (round / 7 % 3) as usize);
            let (made, variance, count) = &mut figures[r][s];
            *count += 1;
            let p = if is_certain(sizes[s], rates[r]) {
                1.0
            } else {
                -(-(sizes[s].max(1) as f64) / rates[r] as f64).exp_m1()
            };
            *variance += (1.0 - p) / p;
            if picks(&mut left, sizes[s], rates[r], &mut random) {
                *made += 1.0 / p;
            }
        }
        for (r, row) in figures.iter().enumerate() {
            for (s, (made, variance, count)) in row.iter().enumerate() {
                let off = (made - *count as f64).abs();
                assert!(
                    off <= 5.0 * variance.sqrt(),
                    "size {} rate {}: {made} for {count}, {variance}",
                    sizes[s],
                    rates[r]
                );
            }
        }
    }

    /// So do those of which one in several is seen, whatever each stands for.
    #[test]
    fn estimates_of_refills_are_unbiased() {
        let mut random = randoms(4);
        let mut left = 0;
        let cases: [(u64, u64, u64); 7] = [
            (64, 8, REFILL_SAMPLE_BYTES_MIN),
            (64, 48, 524_288),
            (42, 48, REFILL_SAMPLE_BYTES_MIN),
            (8, 1_024, 524_288),
            (3, 27_264, REFILL_SAMPLE_BYTES_MIN),
            (4, 16_384, REFILL_SAMPLE_BYTES_MIN),
            (1, 200_000, 524_288),
        ];
        for (count, size, rate) in cases {
            let p = -(-(size as f64) / rate as f64).exp_m1();
            assert!(count as f64 * p < 1.0, "it is one sample at most");
            let rounds = 2_000_000;
            let picked = (0..rounds)
                .filter(|_| picks_of(&mut left, count, size, rate, &mut random))
                .count();
            let (made, share) = (picked as f64 / p, count as f64 * p);
            let expected = f64::from(rounds) * count as f64;
            let error = (f64::from(rounds) * share * (1.0 - share)).sqrt() / p;
            assert!(
                (made - expected).abs() <= 5.0 * error + 1e-4 * expected,
                "{count} of {size}, {rate}: {made} for {expected}"
            );
        }
        assert!(!picks_of(&mut left, 0, 48, 524_288, &mut random));
    }

    /// A rate of 0 records everything, and so does a block much larger than the rate.
    #[test]
    fn large_blocks_are_certain() {
        let mut left = u64::MAX;
        for (size, rate) in [(1, 0), (1 << 40, 1 << 30), (32 << 20, 1 << 20)] {
            assert!(picks(&mut left, size, rate, || 0));
        }
        assert_eq!(left, u64::MAX, "they do not touch the countdown");
        assert!(!picks(&mut left, 1, SAMPLE_BYTES_MAX, || 0));
        assert!(left < u64::MAX, "one byte is told at the largest distance");
    }
}
