//! Owns where the fields of the runtime's structures lie, version by version.
//! Must not know how they are read, or by whom.
//!
//! The offsets are those of the debug information of programs that each version made for x86-64. The
//! structures do not change between patch levels: their definitions were compared in 1.23 to 1.27.

use std::fmt;

use super::{
    binary::{Version, VersionSource},
    debug_info::NoLayout,
};

/// The versions whose layout is known.
pub const KNOWN_MINORS: std::ops::RangeInclusive<u32> = 21..=27;

/// `_PageSize`: a span is a number of these.
pub const PAGE_BYTES: u64 = 8192;

/// Where a structure's fields lie, and how wide they are where that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLayout {
    /// `startAddr`, the first byte of the span.
    pub start_addr: u16,
    /// `npages`, in units of `PAGE_BYTES`.
    pub npages: u16,
    /// `freeindex`, below which every slot was handed out.
    pub freeindex: u16,
    /// `nelems`, how many slots there are.
    pub nelems: u16,
    /// The bytes of `freeindex` and `nelems`: 8 in Go 1.21, 2 since.
    pub index_bytes: u16,
    /// `allocCache`, the complement of the bits that follow `freeindex`.
    pub alloc_cache: u16,
    /// `allocBits`, a pointer to the slots handed out before the last sweep.
    pub alloc_bits: u16,
    /// `gcmarkBits`, a pointer to what the collector marked.
    pub gcmark_bits: u16,
    /// `sweepgen`.
    pub sweepgen: u16,
    /// `allocCount`.
    pub alloc_count: u16,
    /// `spanclass`: twice the size class, and one more where there are no pointers.
    pub spanclass: u16,
    /// `state`.
    pub state: u16,
    /// `elemsize`, the bytes of a slot.
    pub elemsize: u16,
    /// `specials`, the list of profiled and finalized objects.
    pub specials: u16,
}

/// Fields of `runtime.g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoroutineLayout {
    /// `stack.lo`; `stack.hi` follows.
    pub stack: u16,
    /// `sched.sp`; `sched.pc` follows.
    pub sched: u16,
    /// `sched.bp`, the frame pointer.
    pub sched_bp: u16,
    /// `syscallsp`; `syscallpc` follows.
    pub syscallsp: u16,
    /// `syscallbp`, since Go 1.23.
    pub syscallbp: Option<u16>,
    /// `atomicstatus`.
    pub atomicstatus: u16,
    /// `goid`.
    pub goid: u16,
    /// `waitsince`, set by collections alone.
    pub waitsince: u16,
    /// `waitreason`.
    pub waitreason: u16,
    /// `trackingSeq`, a byte that changes each time it stops running.
    pub turns: u16,
    /// `gopc`, the `go` statement that made it.
    pub gopc: u16,
    /// `startpc`, the function that it runs.
    pub startpc: u16,
    /// How much of the structure must be read to have all of these.
    pub read_bytes: u16,
}

/// Fields of `runtime.bucket` and of the `memRecord` behind its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketLayout {
    /// `allnext`, the next bucket of the kind.
    pub allnext: u16,
    /// `typ`, 1 for memory.
    pub typ: u16,
    /// `size`, of each object.
    pub size: u16,
    /// `nstk`, the number of return addresses.
    pub nstk: u16,
    /// The header's bytes: the return addresses follow.
    pub header_bytes: u16,
    /// The bytes of one cycle's record, of which there are four: `active`, then three in the making. In
    /// Go 1.27 it counts objects only, since all of a bucket have one size.
    pub cycle_bytes: u16,
}

/// Fields of `runtime.special`, an entry of a span's list, and of `specialprofile`. `next` is its first word, `offset`
/// the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialLayout {
    /// The bytes of `offset`: 2, and 8 since Go 1.24.
    pub offset_bytes: u16,
    /// `kind`.
    pub kind: u16,
    /// `_KindSpecialProfile`.
    pub profile_kind: u8,
    /// `specialprofile.b`.
    pub bucket: u16,
}

/// Fields of `runtime.mheap_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapLayout {
    /// `sweepgen`, which rises by two a collection.
    pub sweepgen: u32,
    /// `allspans`, a slice of pointers to spans.
    pub allspans: u32,
}

/// How a layout is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutSource {
    /// By the version, whose layout stands here.
    Table,
    /// By the debug information of the program, whose version is not known.
    DebugInfo,
}

/// Everything that is known of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The minor version that it is of.
    pub minor: u32,
    /// How it is known.
    pub source: LayoutSource,
    /// `runtime.mspan`.
    pub span: SpanLayout,
    /// `runtime.g`.
    pub goroutine: GoroutineLayout,
    /// `runtime.bucket`.
    pub bucket: BucketLayout,
    /// `runtime.special`.
    pub special: SpecialLayout,
    /// `runtime.mheap_`.
    pub heap: HeapLayout,
    /// Whether small objects with pointers have a header of 8 bytes above 512 bytes: since Go 1.22.
    pub has_object_headers: bool,
}

/// Why nothing is known of a version's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// It is older than what is supported.
    TooOld(Version),
    /// It is newer than what is known.
    TooNew(Version),
    /// It is one of the newest known or a later one, and nothing in the file tells which.
    Unsure(Version),
    /// It is newer than what is known, and its debug information does not help.
    Untold(Version, NoLayout),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (oldest, newest) = (KNOWN_MINORS.start(), KNOWN_MINORS.end());
        match self {
            Self::TooOld(version) => write!(
                formatter,
                "it was made by {version}, and Go before 1.{oldest} is not supported"
            ),
            Self::TooNew(version) => write!(
                formatter,
                "it was made by {version}, and the layout of Go after 1.{newest} is not known"
            ),
            Self::Unsure(version) => write!(
                formatter,
                "it does not tell its version, which may be {version} or a later one"
            ),
            Self::Untold(version, why) => write!(
                formatter,
                "it was made by {version}, and the layout of Go after 1.{newest} is not known: {why}"
            ),
        }
    }
}

impl std::error::Error for LayoutError {}

impl Layout {
    /// The layout of a version.
    ///
    /// # Errors
    ///
    /// When it is not known. The clause fits a report.
    pub fn of(version: &Version) -> Result<Self, LayoutError> {
        if version.minor < *KNOWN_MINORS.start() {
            return Err(LayoutError::TooOld(version.clone()));
        }
        if version.minor > *KNOWN_MINORS.end() {
            return Err(LayoutError::TooNew(version.clone()));
        }
        if version.source == VersionSource::Functions && version.minor == *KNOWN_MINORS.end() {
            return Err(LayoutError::Unsure(version.clone()));
        }
        Ok(Self::of_minor(version.minor))
    }

    /// The layout of a minor version within [`KNOWN_MINORS`]; beyond, that of the nearest.
    #[must_use]
    pub fn of_minor(minor: u32) -> Self {
        Self {
            minor,
            source: LayoutSource::Table,
            span: span(minor),
            goroutine: goroutine(minor),
            bucket: BucketLayout {
                allnext: 0x08,
                typ: 0x10,
                size: 0x20,
                nstk: 0x28,
                header_bytes: 0x30,
                cycle_bytes: if minor >= 27 { 16 } else { 32 },
            },
            special: special(minor),
            heap: HeapLayout {
                sweepgen: 0x1_0140,
                allspans: 0x1_0148,
            },
            has_object_headers: minor >= 22,
        }
    }
}

fn span(minor: u32) -> SpanLayout {
    if minor <= 21 {
        return SpanLayout {
            start_addr: 0x18,
            npages: 0x20,
            freeindex: 0x30,
            nelems: 0x38,
            index_bytes: 8,
            alloc_cache: 0x40,
            alloc_bits: 0x48,
            gcmark_bits: 0x50,
            sweepgen: 0x60,
            alloc_count: 0x68,
            spanclass: 0x6a,
            state: 0x6b,
            elemsize: 0x70,
            specials: 0x88,
        };
    }
    SpanLayout {
        start_addr: 0x18,
        npages: 0x20,
        freeindex: 0x30,
        nelems: 0x32,
        index_bytes: 2,
        alloc_cache: 0x38,
        alloc_bits: 0x40,
        gcmark_bits: 0x48,
        sweepgen: 0x58,
        alloc_count: 0x60,
        spanclass: 0x62,
        state: 0x63,
        elemsize: 0x68,
        specials: 0x80,
    }
}

/// <https://github.com/golang/go/blob/go1.27.0/src/runtime/mheap.go>, `_KindSpecialProfile`
fn special(minor: u32) -> SpecialLayout {
    let is_wide = minor >= 24;
    SpecialLayout {
        offset_bytes: if is_wide { 8 } else { 2 },
        kind: if is_wide { 16 } else { 10 },
        profile_kind: match minor {
            ..=22 => 2,
            23..=24 => 3,
            _ => 4,
        },
        bucket: if is_wide { 24 } else { 16 },
    }
}

fn goroutine(minor: u32) -> GoroutineLayout {
    // `syscallbp` came with Go 1.23, and two words of `gobuf` went with Go 1.25.
    let (syscallsp, syscallbp, status) = match minor {
        ..=22 => (0x70, None, 0x90),
        23..=24 => (0x70, Some(0x80), 0x98),
        _ => (0x68, Some(0x78), 0x90),
    };
    let turns = match minor {
        ..=21 => 0xbc,
        23..=24 => 0xc7,
        _ => 0xbf,
    };
    let (gopc, startpc) = match minor {
        ..=22 | 25 => (0x118, 0x128),
        _ => (0x120, 0x130),
    };
    GoroutineLayout {
        stack: 0x00,
        sched: 0x38,
        sched_bp: if minor <= 24 { 0x68 } else { 0x60 },
        syscallsp,
        syscallbp,
        atomicstatus: status,
        goid: status + 0x08,
        waitsince: status + 0x18,
        waitreason: status + 0x20,
        turns,
        gopc,
        startpc,
        read_bytes: 0x138,
    }
}
