//! Owns the record of one live block of Go's heap, packed.
//! Must not know the table that holds it.

use leaktrace_common::go::PAGE_BYTES;

/// A live block in 16 bytes, so that blocks of a page sort by their place: 10 bits of place in its page
/// (in units of 8 bytes), 17 of site, 48 of microseconds since boot, 40 of size (1 TiB), 13 of
/// collections survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct GoBlock(u128);

const SURVIVED_BITS: u32 = 13;
pub(super) const SIZE_BITS: u32 = 40;
const TIME_BITS: u32 = 48;
const SITE_BITS: u32 = 17;
const PLACE_SHIFT: u32 = SURVIVED_BITS + SIZE_BITS + TIME_BITS + SITE_BITS;

const _: () = assert!(1_u64 << (u128::BITS - PLACE_SHIFT) == PAGE_BYTES / 8);
const _: () = assert!(1 << SITE_BITS >= crate::ledger::process::SITES_MAX);

pub(super) const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl GoBlock {
    pub(in crate::ledger) fn new(address: u64, size: u64, time_us: u64, site: u32) -> Self {
        let place = u128::from(address % PAGE_BYTES / 8);
        let mut packed = place << SITE_BITS | u128::from(site);
        packed = packed << TIME_BITS | u128::from(time_us.min(low(TIME_BITS)));
        packed = packed << SIZE_BITS | u128::from(size.min(low(SIZE_BITS)));
        Self(packed << SURVIVED_BITS)
    }

    fn field(self, shift: u32, bits: u32) -> u64 {
        (self.0 >> shift) as u64 & low(bits)
    }

    /// Bytes from the beginning of its page.
    pub(super) fn offset(self) -> u64 {
        (self.0 >> PLACE_SHIFT) as u64 * 8
    }

    pub(super) fn site(self) -> usize {
        self.field(SURVIVED_BITS + SIZE_BITS + TIME_BITS, SITE_BITS) as usize
    }

    pub(super) fn time_us(self) -> u64 {
        self.field(SURVIVED_BITS + SIZE_BITS, TIME_BITS)
    }

    pub(super) fn size(self) -> u64 {
        self.field(SURVIVED_BITS, SIZE_BITS)
    }

    /// Collections survived, as far as they are counted.
    pub(super) fn survived(self) -> u64 {
        self.field(0, SURVIVED_BITS)
    }

    pub(super) fn survive(&mut self) {
        if self.survived() < low(SURVIVED_BITS) {
            self.0 += 1;
        }
    }
}
