//! Owns what the agent tells the probes of Go's allocator and collector, packed into attach cookies.
//! Must not know how places and offsets were found.

/// Where an allocation's probe finds the block, its size and its type. All offsets count from rsp at
/// the probed instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocCookie {
    /// How far the return address lies above rsp; the top bits are `depth`'s flags.
    pub depth: u16,
    /// Where the block's address is, or `VALUE_IN_RAX`.
    pub value: u16,
    /// Where the size is, or the size itself where `shape` says so.
    pub size: u16,
    /// Where the type's address is, or one of `shape`.
    pub shape: u16,
}

/// `AllocCookie::value`: the block's address is in rax.
pub const VALUE_IN_RAX: u16 = 0xffff;

/// Flags and mask of `AllocCookie::depth`.
pub mod depth {
    /// rbp is this function's frame pointer, and points at its caller's.
    pub const FRAME_IS_UP: u16 = 1 << 15;
    /// Large objects with pointers have a header of 8 bytes before them: since Go 1.22.
    pub const HAS_HEADERS: u16 = 1 << 14;
    /// Who calls this function is the allocator too, and has a frame: the stack begins with who calls that.
    pub const CALLER_IS_ALLOCATOR: u16 = 1 << 13;
    /// The bytes.
    pub const BYTES: u16 = (1 << 13) - 1;
}

/// Values of `AllocCookie::shape` beside the offset of the type.
pub mod shape {
    /// `size` is the size of the slot.
    pub const SLOT_BYTES: u16 = 0xffff;
    /// `size` is where the size of the slot is.
    pub const SLOT_BYTES_AT: u16 = 0xfffe;
    /// A small object without pointers, which shares a slot with others.
    pub const TINY: u16 = 0xfffd;
}

impl AllocCookie {
    /// As the kernel carries it.
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.depth as u64
            | (self.value as u64) << 16
            | (self.size as u64) << 32
            | (self.shape as u64) << 48
    }

    /// From what the kernel carried.
    #[must_use]
    #[inline(always)]
    pub const fn unpack(cookie: u64) -> Self {
        Self {
            depth: cookie as u16,
            value: (cookie >> 16) as u16,
            size: (cookie >> 32) as u16,
            shape: (cookie >> 48) as u16,
        }
    }
}

/// Where the sweep's probe finds the fields of `runtime.mspan`, whose address is where rax points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepCookie {
    /// `startAddr`.
    pub start: u8,
    /// `npages`.
    pub pages: u8,
    /// `freeindex`, which `nelems` follows, as wide as it.
    pub free_index: u8,
    /// `gcmarkBits`.
    pub marks: u8,
    /// `elemsize`.
    pub slot_bytes: u8,
    /// Of `sweep`.
    pub flags: u8,
    /// `allocCache`.
    pub cache: u8,
    /// `spanclass`.
    pub class: u8,
}

/// Flags of `SweepCookie`.
pub mod sweep {
    /// `nelems` has 8 bytes instead of 2: in Go 1.21.
    pub const WIDE_SLOTS: u8 = 1;
    /// Spans of small objects have marks at their own end as well: Green Tea.
    pub const INLINE_MARKS: u8 = 2;
    /// It is no sweep but the beginning of a collection's marking.
    pub const BEGIN: u8 = 4;
    /// Slots that were counted by the refill that brought them, and not handed out since, are taken back.
    pub const COUNTS_UNUSED: u8 = 8;
}

impl SweepCookie {
    /// As the kernel carries it.
    #[must_use]
    pub const fn pack(self) -> u64 {
        let bytes = [
            self.start,
            self.pages,
            self.free_index,
            self.marks,
            self.slot_bytes,
            self.flags,
            self.cache,
            self.class,
        ];
        u64::from_le_bytes(bytes)
    }

    /// From what the kernel carried.
    #[must_use]
    #[inline(always)]
    pub const fn unpack(cookie: u64) -> Self {
        Self {
            start: cookie as u8,
            pages: (cookie >> 8) as u8,
            free_index: (cookie >> 16) as u8,
            marks: (cookie >> 24) as u8,
            slot_bytes: (cookie >> 32) as u8,
            flags: (cookie >> 40) as u8,
            cache: (cookie >> 48) as u8,
            class: (cookie >> 56) as u8,
        }
    }
}

/// Where the probe of a refill finds a block and its span, and the span's fields. A refill is where an allocator's
/// cache asks for a block: it gets that one and, for small ones, as many as it then hands out without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefillCookie {
    /// How far the return address lies above rsp; the top bits are `depth`'s flags, or `WIDE_SLOTS`.
    pub depth: u16,
    /// Where the block's address is, one of `place`.
    pub block: u8,
    /// Where the span's is.
    pub span: u8,
    /// `freeindex`, which `nelems` follows, as wide as it; `startAddr` where the span is one block.
    pub free_index: u8,
    /// `allocCache`.
    pub cache: u8,
    /// `elemsize`.
    pub slot_bytes: u8,
    /// `spanclass`.
    pub class: u8,
}

/// Flag of `RefillCookie::depth`: `nelems` has 8 bytes instead of 2.
pub const WIDE_SLOTS: u16 = depth::HAS_HEADERS;

/// Places of `RefillCookie`; others are words on the stack, counted from rsp.
pub mod place {
    /// In rax.
    pub const RAX: u8 = 0xff;
    /// In rbx.
    pub const RBX: u8 = 0xfe;
    /// Nowhere: the block is the span's only one, and begins where it does.
    pub const SPAN: u8 = 0xfd;
}

impl RefillCookie {
    /// As the kernel carries it.
    #[must_use]
    pub const fn pack(self) -> u64 {
        let [low, high] = self.depth.to_le_bytes();
        u64::from_le_bytes([
            low,
            high,
            self.block,
            self.span,
            self.free_index,
            self.cache,
            self.slot_bytes,
            self.class,
        ])
    }

    /// From what the kernel carried.
    #[must_use]
    #[inline(always)]
    pub const fn unpack(cookie: u64) -> Self {
        Self {
            depth: cookie as u16,
            block: (cookie >> 16) as u8,
            span: (cookie >> 24) as u8,
            free_index: (cookie >> 32) as u8,
            cache: (cookie >> 40) as u8,
            slot_bytes: (cookie >> 48) as u8,
            class: (cookie >> 56) as u8,
        }
    }
}

/// How many blocks a cache hands out of a span before it asks again: the free slots of the 64 that it knows,
/// but for the last of those, at which it asks, unless the span ends there. `cache` has a bit for each slot from
/// `free_index` on that is free.
/// <https://github.com/golang/go/blob/go1.27.0/src/runtime/malloc.go>, `nextFreeFast`
#[must_use]
#[inline(always)]
pub const fn left_unasked(free_index: u64, slot_count: u64, cache: u64) -> u64 {
    if free_index >= slot_count {
        return 0;
    }
    let window_end = (free_index | 63) + 1;
    let end = if window_end < slot_count {
        window_end - 1
    } else {
        slot_count
    };
    // No more than 64, since a window ends behind so many.
    let known = end - free_index;
    let mask = if known >= 64 {
        u64::MAX
    } else {
        (1 << known) - 1
    };
    (cache & mask).count_ones() as u64
}

/// Bytes of slots by size class, the same from Go 1.21 to 1.27.
/// <https://github.com/golang/go/blob/go1.27.0/src/internal/runtime/gc/sizeclasses.go>
pub const SLOT_BYTES: [u16; 68] = [
    0, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320,
    352, 384, 416, 448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792,
    2048, 2304, 2688, 3072, 3200, 3456, 4096, 4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728,
    10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072, 20480, 21760, 24576, 27264, 28672,
    32768,
];

/// Bytes of a page of Go's heap, of which spans are made.
pub const PAGE_BYTES: u64 = 8_192;

/// Slots that one span has at most: of 8 bytes, in one page.
pub const SLOTS_MAX: usize = 1_024;

/// Bytes at the end of a span that hold its inline marks, the last of which is none.
/// <https://github.com/golang/go/blob/go1.26.0/src/runtime/mgcmark_greenteagc.go>
pub const INLINE_MARK_BYTES: u64 = 64;

/// Slots of spans with inline marks are at least and at most so large.
pub const INLINE_MARK_SLOTS: core::ops::RangeInclusive<u64> = 16..=512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Packing loses nothing.
    #[test]
    fn cookies_round_trip() {
        let alloc = AllocCookie {
            depth: 0x8123,
            value: VALUE_IN_RAX,
            size: 0x8000,
            shape: shape::TINY,
        };
        assert_eq!(AllocCookie::unpack(alloc.pack()), alloc);
        let sweep = SweepCookie {
            start: 0x18,
            pages: 0x20,
            free_index: 0x30,
            marks: 0x48,
            slot_bytes: 0x68,
            flags: sweep::INLINE_MARKS,
            cache: 0x38,
            class: 0x62,
        };
        assert_eq!(SweepCookie::unpack(sweep.pack()), sweep);
        let refill = RefillCookie {
            depth: 0x8048,
            block: place::RAX,
            span: 3,
            free_index: 0x30,
            cache: 0x38,
            slot_bytes: 0x68,
            class: 0x62,
        };
        assert_eq!(RefillCookie::unpack(refill.pack()), refill);
    }

    /// Each slot of a span is counted by one refill, whichever of its slots are free.
    #[test]
    fn refills_count_each_slot_once() {
        for slot_count in [1_u64, 2, 63, 64, 65, 127, 128, 170, 1_024] {
            for seed in 1..20_u64 {
                let is_free = |slot: u64| seed == 1 || (slot * seed * 2_654_435_761) >> 7 & 3 != 0;
                let (mut handed_out, mut counted, mut free_index, mut unasked) = (0, 0, 0, 0);
                for slot in (0..slot_count).filter(|slot| is_free(*slot)) {
                    handed_out += 1;
                    free_index = slot + 1;
                    if unasked > 0 {
                        unasked -= 1;
                        continue;
                    }
                    let window = (free_index..).take_while(|it| it / 64 == free_index / 64);
                    let bits = window.filter(|it| *it >= slot_count || is_free(*it));
                    let cache = bits.fold(0, |bits, it| bits | 1_u64 << (it - free_index));
                    unasked = left_unasked(free_index, slot_count, cache);
                    counted += 1 + unasked;
                }
                assert_eq!(counted, handed_out, "{slot_count} slots, seed {seed}");
                assert_eq!(unasked, 0, "{free_index} of {slot_count}");
            }
        }
    }
}
