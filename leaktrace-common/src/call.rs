//! Owns the numbers of the probed functions, which travel as attach cookies and in records.
//! Must not know where those functions live or how they are probed.

/// A probed function. The number is the attach cookie and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Call {
    /// `void *malloc(size_t size)`
    Malloc = 1,
    /// `void *calloc(size_t count, size_t size)`
    Calloc = 2,
    /// `void *realloc(void *block, size_t size)`
    Realloc = 3,
    /// `void *reallocarray(void *block, size_t count, size_t size)`
    Reallocarray = 4,
    /// `void free(void *block)`
    Free = 5,
    /// `int posix_memalign(void **block, size_t alignment, size_t size)`
    PosixMemalign = 6,
    /// `void *aligned_alloc(size_t alignment, size_t size)`
    AlignedAlloc = 7,
    /// `void *memalign(size_t alignment, size_t size)`
    Memalign = 8,
    /// `void *valloc(size_t size)`
    Valloc = 9,
    /// `void *pvalloc(size_t size)`
    Pvalloc = 10,
    /// `func mallocgc(size uintptr, typ *_type, needzero bool) unsafe.Pointer` of Go's runtime, and
    /// those that stand for it
    Mallocgc = 64,
}

impl Call {
    /// Every call, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Malloc,
        Self::Calloc,
        Self::Realloc,
        Self::Reallocarray,
        Self::Free,
        Self::PosixMemalign,
        Self::AlignedAlloc,
        Self::Memalign,
        Self::Valloc,
        Self::Pvalloc,
        Self::Mallocgc,
    ];

    /// The call with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Malloc),
            2 => Some(Self::Calloc),
            3 => Some(Self::Realloc),
            4 => Some(Self::Reallocarray),
            5 => Some(Self::Free),
            6 => Some(Self::PosixMemalign),
            7 => Some(Self::AlignedAlloc),
            8 => Some(Self::Memalign),
            9 => Some(Self::Valloc),
            10 => Some(Self::Pvalloc),
            64 => Some(Self::Mallocgc),
            _ => None,
        }
    }

    /// The C name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::Calloc => "calloc",
            Self::Realloc => "realloc",
            Self::Reallocarray => "reallocarray",
            Self::Free => "free",
            Self::PosixMemalign => "posix_memalign",
            Self::AlignedAlloc => "aligned_alloc",
            Self::Memalign => "memalign",
            Self::Valloc => "valloc",
            Self::Pvalloc => "pvalloc",
            Self::Mallocgc => "mallocgc",
        }
    }
}
