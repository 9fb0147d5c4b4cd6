//! Owns the numbers of the probed functions, which travel as attach cookies and in records.
//! Must not know where those functions live or how they are probed.

/// A probed function, or several that do the same. The number is part of the attach cookie and is
/// never reused.
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
    /// `void *operator new(size_t size, …)`, in all its overloads, and functions like it
    OperatorNew = 11,
    /// `void operator delete(void *block, …)`, in all its overloads
    OperatorDelete = 12,
    /// `void *mallocx(size_t size, int flags)` of jemalloc
    Mallocx = 13,
    /// `void *rallocx(void *block, size_t size, int flags)` of jemalloc
    Rallocx = 14,
    /// `size_t xallocx(void *block, size_t size, size_t extra, int flags)` of jemalloc
    Xallocx = 15,
    /// `void dallocx(void *block, int flags)` and `sdallocx` of jemalloc
    Dallocx = 16,
    /// `void *mi_malloc(size_t size)` of mimalloc and functions like it
    MiMalloc = 17,
    /// `void *mi_realloc(void *block, size_t size)` of mimalloc and functions like it
    MiRealloc = 18,
    /// `void mi_free(void *block)` of mimalloc and functions like it
    MiFree = 19,
    /// `fn __rust_alloc(size: usize, align: usize) -> *mut u8`, and zeroed
    RustAlloc = 20,
    /// `fn __rust_realloc(block: *mut u8, old: usize, align: usize, size: usize) -> *mut u8`
    RustRealloc = 21,
    /// `fn __rust_dealloc(block: *mut u8, size: usize, align: usize)`
    RustDealloc = 22,
    /// `void free_sized(void *block, size_t size)` and `free_aligned_sized`
    FreeSized = 23,
    /// `void *__cxa_allocate_exception(size_t size)`: a C++ exception begins
    Throw = 24,
    /// `func mallocgc(size uintptr, typ *_type, needzero bool) unsafe.Pointer` of Go's runtime, and
    /// those that stand for it
    Mallocgc = 64,
}

impl Call {
    /// Every call, in the order of its number.
    pub const ALL: [Self; 25] = [
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
        Self::OperatorNew,
        Self::OperatorDelete,
        Self::Mallocx,
        Self::Rallocx,
        Self::Xallocx,
        Self::Dallocx,
        Self::MiMalloc,
        Self::MiRealloc,
        Self::MiFree,
        Self::RustAlloc,
        Self::RustRealloc,
        Self::RustDealloc,
        Self::FreeSized,
        Self::Throw,
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
            11 => Some(Self::OperatorNew),
            12 => Some(Self::OperatorDelete),
            13 => Some(Self::Mallocx),
            14 => Some(Self::Rallocx),
            15 => Some(Self::Xallocx),
            16 => Some(Self::Dallocx),
            17 => Some(Self::MiMalloc),
            18 => Some(Self::MiRealloc),
            19 => Some(Self::MiFree),
            20 => Some(Self::RustAlloc),
            21 => Some(Self::RustRealloc),
            22 => Some(Self::RustDealloc),
            23 => Some(Self::FreeSized),
            24 => Some(Self::Throw),
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
            Self::OperatorNew => "operator new",
            Self::OperatorDelete => "operator delete",
            Self::Mallocx => "mallocx",
            Self::Rallocx => "rallocx",
            Self::Xallocx => "xallocx",
            Self::Dallocx => "dallocx",
            Self::MiMalloc => "mi_malloc",
            Self::MiRealloc => "mi_realloc",
            Self::MiFree => "mi_free",
            Self::RustAlloc => "__rust_alloc",
            Self::RustRealloc => "__rust_realloc",
            Self::RustDealloc => "__rust_dealloc",
            Self::FreeSized => "free_sized",
            Self::Throw => "__cxa_allocate_exception",
            Self::Mallocgc => "mallocgc",
        }
    }
}
