//! Owns the record of one live block, packed: there is one for every outstanding object.
//! Must not know the table that holds it.

/// A live block in 16 bytes: 48 bits of size (256 TiB, more than x86-64 can map), 48 bits of
/// microseconds since boot (almost nine years), 32 bits of site.
///
/// With its 8-byte address and one control byte a slot of the table takes 25 bytes, and a table
/// that has just doubled is 7/16 full: 58 bytes an object at worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    size_and_time_high: u64,
    time_low_and_site: u64,
}

const _: () = assert!(size_of::<Block>() == 16);

const LIMIT_48: u64 = (1 << 48) - 1;

impl Block {
    /// A block of `size` bytes, made at `time_ns` by the process's site number `site`.
    pub fn new(size: u64, time_ns: u64, site: u32) -> Self {
        let time_us = (time_ns / 1_000).min(LIMIT_48);
        Self {
            size_and_time_high: (size.min(LIMIT_48) << 16) | (time_us >> 32),
            time_low_and_site: (time_us << 32) | u64::from(site),
        }
    }

    /// Bytes asked for.
    pub fn size(self) -> u64 {
        self.size_and_time_high >> 16
    }

    /// When it was made, in microseconds since boot.
    pub fn time_us(self) -> u64 {
        ((self.size_and_time_high & 0xffff) << 32) | (self.time_low_and_site >> 32)
    }

    /// The number of its site in its process.
    pub fn site(self) -> usize {
        (self.time_low_and_site & 0xffff_ffff) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packing loses nothing below the limits and saturates above.
    #[test]
    fn packing_round_trips() {
        for (size, time_us, site) in [
            (0, 0, 0),
            (1, 1, 1),
            (LIMIT_48, LIMIT_48, u32::MAX),
            (4096, 0x1_2345_6789, 77),
        ] {
            let block = Block::new(size, time_us * 1_000, site);
            assert_eq!(
                (block.size(), block.time_us(), block.site()),
                (size, time_us, site as usize)
            );
        }
        assert_eq!(Block::new(u64::MAX, 0, 0).size(), LIMIT_48);
    }
}
