//! Owns what a probe is told of its function, in the 64 bits of an attach cookie.
//! Must not know where those functions live or what is done with their calls.

/// How a function takes and gives blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Shape {
    /// Returns a new block.
    Block = 0,
    /// Stores a new block where its pointer argument points, and returns 0.
    BlockAt = 1,
    /// Returns the block it was given, resized; where that fails, the old one stays.
    Resize = 2,
    /// The same, but where that fails, the old one is freed.
    ResizeOrFree = 3,
    /// Resizes a block in place and returns its real size: too small a one is a failure.
    ResizeInPlace = 4,
    /// Takes a block back.
    Free = 5,
    /// Has another function make the block and returns that: it tells size and site of the next
    /// call that comes out of its own code.
    Outer = 6,
    /// Begins to throw an exception: whatever the thread was making, it will not return.
    Throw = 7,
}

impl Shape {
    /// Whether the function's result is waited for.
    #[must_use]
    pub const fn returns_block(self) -> bool {
        matches!(
            self,
            Self::Block | Self::BlockAt | Self::Resize | Self::ResizeOrFree | Self::ResizeInPlace
        )
    }
}

/// The number of an argument that a function does not have.
pub const NO_ARGUMENT: u8 = 7;

/// Which integer arguments say what, counted from 0; `NO_ARGUMENT` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Layout {
    /// How the function takes and gives blocks.
    pub shape: Shape,
    /// The size in bytes, or that of one element.
    pub size: u8,
    /// The number of elements.
    pub count: u8,
    /// The block, or where to store one.
    pub pointer: u8,
}

/// Whose function it is. The number travels in records and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// The GNU C library.
    Glibc = 1,
    /// The musl C library.
    Musl = 2,
    /// jemalloc, with whatever prefix.
    Jemalloc = 3,
    /// tcmalloc, of gperftools or of Google's own.
    Tcmalloc = 4,
    /// mimalloc.
    Mimalloc = 5,
    /// `operator new` and `operator delete` over whatever malloc.
    Cpp = 6,
    /// Rust's global allocator over nothing that can be seen.
    Rust = 7,
    /// A malloc that is none of these.
    Other = 8,
}

impl Family {
    /// Every family, in the order of its number.
    pub const ALL: [Self; 8] = [
        Self::Glibc,
        Self::Musl,
        Self::Jemalloc,
        Self::Tcmalloc,
        Self::Mimalloc,
        Self::Cpp,
        Self::Rust,
        Self::Other,
    ];

    /// The family with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| *it as u8 == number)
    }

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Mimalloc => "mimalloc",
            Self::Cpp => "c++",
            Self::Rust => "rust",
            Self::Other => "malloc",
        }
    }
}

/// The most bytes of code that `span` can tell.
pub const SPAN_MAX: u32 = (1 << 24) - 1;

/// What a probe is told of its function.
///
/// From the lowest bit: the call (8), the shape (4), size, count and pointer (4 each), the family
/// (8), nothing (8), the span (24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Packs it. `span` is how many bytes of the function lie behind the probe.
    #[must_use]
    pub const fn new(call: u8, layout: Layout, family: Family, span: u32) -> Self {
        let span = if span > SPAN_MAX { SPAN_MAX } else { span };
        Self(
            call as u64
                | (layout.shape as u64) << 8
                | (layout.size as u64) << 12
                | (layout.count as u64) << 16
                | (layout.pointer as u64) << 20
                | (family as u64) << 24
                | (span as u64) << 40,
        )
    }

    /// The number of a `Call`.
    #[must_use]
    pub const fn call(self) -> u8 {
        self.0 as u8
    }

    /// The number of a `Shape`.
    #[must_use]
    pub const fn shape(self) -> u8 {
        (self.0 >> 8) as u8 & 0xf
    }

    /// The number of the argument that is the size.
    #[must_use]
    pub const fn size(self) -> u8 {
        (self.0 >> 12) as u8 & 0xf
    }

    /// The number of the argument that is the count.
    #[must_use]
    pub const fn count(self) -> u8 {
        (self.0 >> 16) as u8 & 0xf
    }

    /// The number of the argument that is the block.
    #[must_use]
    pub const fn pointer(self) -> u8 {
        (self.0 >> 20) as u8 & 0xf
    }

    /// The number of a `Family`.
    #[must_use]
    pub const fn family(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// Bytes of the function that lie behind the probe.
    #[must_use]
    pub const fn span(self) -> u32 {
        (self.0 >> 40) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is packed comes out again, at the ends of each range too.
    #[test]
    fn packs_and_unpacks() {
        let layout = Layout {
            shape: Shape::Throw,
            size: 5,
            count: NO_ARGUMENT,
            pointer: 0,
        };
        let cookie = Cookie::new(255, layout, Family::Other, u32::MAX);
        assert_eq!(cookie.call(), 255);
        assert_eq!(cookie.shape(), Shape::Throw as u8);
        assert_eq!(
            (cookie.size(), cookie.count(), cookie.pointer()),
            (5, NO_ARGUMENT, 0)
        );
        assert_eq!(cookie.family(), Family::Other as u8);
        assert_eq!(cookie.span(), SPAN_MAX);
        for family in Family::ALL {
            assert_eq!(Family::from_number(family as u8), Some(family));
        }
        assert_eq!(Family::from_number(0), None);
    }
}
