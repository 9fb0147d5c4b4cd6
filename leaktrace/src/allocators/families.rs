//! Owns the tables of functions through which programs allocate and free, by family.
//! Must not know files, addresses or how anything is probed.

use leaktrace_common::{
    call::Call,
    cookie::{Layout, NO_ARGUMENT, Shape},
};

/// A function through which a program allocates or frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// The symbol's name, without a prefix that the program's build may have added.
    pub name: &'static str,
    /// What it does.
    pub call: Call,
    /// Which arguments say what.
    pub layout: Layout,
    /// Whether an exception may leave it: a return probe would end the program then.
    pub throws: bool,
}

impl EntryPoint {
    /// How many integer arguments the probe reads.
    #[must_use]
    pub fn arguments(&self) -> u8 {
        let Layout {
            size,
            count,
            pointer,
            ..
        } = self.layout;
        let numbers = [size, count, pointer];
        let present = numbers.into_iter().filter(|it| *it != NO_ARGUMENT);
        present.max().map_or(0, |last| last + 1)
    }
}

const fn entry(
    name: &'static str,
    call: Call,
    shape: Shape,
    size: u8,
    count: u8,
    pointer: u8,
) -> EntryPoint {
    EntryPoint {
        name,
        call,
        layout: Layout {
            shape,
            size,
            count,
            pointer,
        },
        throws: false,
    }
}

const fn block(name: &'static str, call: Call, size: u8) -> EntryPoint {
    entry(name, call, Shape::Block, size, NO_ARGUMENT, NO_ARGUMENT)
}

const fn array(name: &'static str, call: Call, count: u8, size: u8) -> EntryPoint {
    entry(name, call, Shape::Block, size, count, NO_ARGUMENT)
}

const fn block_at(name: &'static str, call: Call, pointer: u8, size: u8) -> EntryPoint {
    entry(name, call, Shape::BlockAt, size, NO_ARGUMENT, pointer)
}

const fn resize(name: &'static str, call: Call, pointer: u8, size: u8) -> EntryPoint {
    entry(name, call, Shape::Resize, size, NO_ARGUMENT, pointer)
}

const fn resize_array(
    name: &'static str,
    call: Call,
    pointer: u8,
    count: u8,
    size: u8,
) -> EntryPoint {
    entry(name, call, Shape::Resize, size, count, pointer)
}

const fn release(name: &'static str, call: Call) -> EntryPoint {
    entry(name, call, Shape::Free, NO_ARGUMENT, NO_ARGUMENT, 0)
}

/// Throws where there is no memory.
const fn new(name: &'static str) -> EntryPoint {
    EntryPoint {
        throws: true,
        ..block(name, Call::OperatorNew, 0)
    }
}

const fn new_nothrow(name: &'static str) -> EntryPoint {
    block(name, Call::OperatorNew, 0)
}

const fn delete(name: &'static str) -> EntryPoint {
    release(name, Call::OperatorDelete)
}

/// The C library's functions, by which every replacement goes too. `cfree` is an old name of `free`
/// that programs built before glibc 2.26 may call; `reallocarray` came with 2.26, `free_sized` with
/// C23.
pub const MALLOC: &[EntryPoint] = &[
    block("malloc", Call::Malloc, 0),
    array("calloc", Call::Calloc, 0, 1),
    resize("realloc", Call::Realloc, 0, 1),
    resize_array("reallocarray", Call::Reallocarray, 0, 1, 2),
    release("free", Call::Free),
    release("cfree", Call::Free),
    release("free_sized", Call::FreeSized),
    release("free_aligned_sized", Call::FreeSized),
    block_at("posix_memalign", Call::PosixMemalign, 0, 2),
    block("aligned_alloc", Call::AlignedAlloc, 1),
    block("memalign", Call::Memalign, 1),
    block("valloc", Call::Valloc, 0),
    block("pvalloc", Call::Pvalloc, 0),
];

/// C++'s own, as the Itanium ABI mangles them.
/// <https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling-operator>
pub const CPP: &[EntryPoint] = &[
    new("_Znwm"),
    new("_Znam"),
    new("_ZnwmSt11align_val_t"),
    new("_ZnamSt11align_val_t"),
    new_nothrow("_ZnwmRKSt9nothrow_t"),
    new_nothrow("_ZnamRKSt9nothrow_t"),
    new_nothrow("_ZnwmSt11align_val_tRKSt9nothrow_t"),
    new_nothrow("_ZnamSt11align_val_tRKSt9nothrow_t"),
    delete("_ZdlPv"),
    delete("_ZdaPv"),
    delete("_ZdlPvm"),
    delete("_ZdaPvm"),
    delete("_ZdlPvSt11align_val_t"),
    delete("_ZdaPvSt11align_val_t"),
    delete("_ZdlPvmSt11align_val_t"),
    delete("_ZdaPvmSt11align_val_t"),
    delete("_ZdlPvRKSt9nothrow_t"),
    delete("_ZdaPvRKSt9nothrow_t"),
    delete("_ZdlPvSt11align_val_tRKSt9nothrow_t"),
    delete("_ZdaPvSt11align_val_tRKSt9nothrow_t"),
    entry(
        "__cxa_allocate_exception",
        Call::Throw,
        Shape::Throw,
        NO_ARGUMENT,
        NO_ARGUMENT,
        NO_ARGUMENT,
    ),
];

/// What jemalloc has beyond the C library's functions. A build's prefix stands before these too.
pub const JEMALLOC: &[EntryPoint] = &[
    block("mallocx", Call::Mallocx, 0),
    resize("rallocx", Call::Rallocx, 0, 1),
    entry(
        "xallocx",
        Call::Xallocx,
        Shape::ResizeInPlace,
        1,
        NO_ARGUMENT,
        0,
    ),
    release("dallocx", Call::Dallocx),
    release("sdallocx", Call::Dallocx),
];

/// gperftools' names for its functions, and those of Google's own tcmalloc.
pub const TCMALLOC: &[EntryPoint] = &[
    block("tc_malloc", Call::Malloc, 0),
    array("tc_calloc", Call::Calloc, 0, 1),
    resize("tc_realloc", Call::Realloc, 0, 1),
    release("tc_free", Call::Free),
    release("tc_free_sized", Call::FreeSized),
    release("tc_cfree", Call::Free),
    block_at("tc_posix_memalign", Call::PosixMemalign, 0, 2),
    block("tc_memalign", Call::Memalign, 1),
    block("tc_valloc", Call::Valloc, 0),
    block("tc_pvalloc", Call::Pvalloc, 0),
    block("tc_malloc_skip_new_handler", Call::Malloc, 0),
    new("tc_new"),
    new("tc_newarray"),
    new("tc_new_aligned"),
    new("tc_newarray_aligned"),
    new_nothrow("tc_new_nothrow"),
    new_nothrow("tc_newarray_nothrow"),
    new_nothrow("tc_new_aligned_nothrow"),
    new_nothrow("tc_newarray_aligned_nothrow"),
    delete("tc_delete"),
    delete("tc_deletearray"),
    delete("tc_delete_sized"),
    delete("tc_deletearray_sized"),
    delete("tc_delete_nothrow"),
    delete("tc_deletearray_nothrow"),
    delete("tc_delete_aligned"),
    delete("tc_deletearray_aligned"),
    delete("tc_delete_sized_aligned"),
    delete("tc_deletearray_sized_aligned"),
    delete("tc_delete_aligned_nothrow"),
    delete("tc_deletearray_aligned_nothrow"),
    block("TCMallocInternalMalloc", Call::Malloc, 0),
    array("TCMallocInternalCalloc", Call::Calloc, 0, 1),
    resize("TCMallocInternalRealloc", Call::Realloc, 0, 1),
    resize_array("TCMallocInternalReallocArray", Call::Reallocarray, 0, 1, 2),
    release("TCMallocInternalFree", Call::Free),
    release("TCMallocInternalCfree", Call::Free),
    release("TCMallocInternalFreeSized", Call::FreeSized),
    release("TCMallocInternalFreeAlignedSized", Call::FreeSized),
    release("TCMallocInternalSdallocx", Call::Dallocx),
    block_at("TCMallocInternalPosixMemalign", Call::PosixMemalign, 0, 2),
    block("TCMallocInternalAlignedAlloc", Call::AlignedAlloc, 1),
    block("TCMallocInternalMemalign", Call::Memalign, 1),
    block("TCMallocInternalValloc", Call::Valloc, 0),
    block("TCMallocInternalPvalloc", Call::Pvalloc, 0),
    new("TCMallocInternalNew"),
    new("TCMallocInternalNewArray"),
    new("TCMallocInternalNewAligned"),
    new("TCMallocInternalNewArrayAligned"),
    new_nothrow("TCMallocInternalNewNothrow"),
    new_nothrow("TCMallocInternalNewArrayNothrow"),
    new_nothrow("TCMallocInternalNewAlignedNothrow"),
    new_nothrow("TCMallocInternalNewArrayAlignedNothrow"),
    delete("TCMallocInternalDelete"),
    delete("TCMallocInternalDeleteArray"),
    delete("TCMallocInternalDeleteSized"),
    delete("TCMallocInternalDeleteArraySized"),
    delete("TCMallocInternalDeleteAligned"),
    delete("TCMallocInternalDeleteArrayAligned"),
    delete("TCMallocInternalDeleteNothrow"),
    delete("TCMallocInternalDeleteArrayNothrow"),
    delete("TCMallocInternalDeleteSizedAligned"),
    delete("TCMallocInternalDeleteArraySizedAligned"),
    delete("TCMallocInternalDeleteAlignedNothrow"),
    delete("TCMallocInternalDeleteArrayAlignedNothrow"),
    new("tcmalloc_size_returning_operator_new"),
];

/// mimalloc's own names. Of a heap's functions the heap is the first argument; aligned ones take the
/// size before the alignment, but for those that C has too.
pub const MIMALLOC: &[EntryPoint] = &[
    block("mi_malloc", Call::MiMalloc, 0),
    block("mi_malloc_small", Call::MiMalloc, 0),
    block("mi_zalloc", Call::MiMalloc, 0),
    block("mi_zalloc_small", Call::MiMalloc, 0),
    array("mi_calloc", Call::MiMalloc, 0, 1),
    array("mi_mallocn", Call::MiMalloc, 0, 1),
    block("mi_malloc_aligned", Call::MiMalloc, 0),
    block("mi_malloc_aligned_at", Call::MiMalloc, 0),
    block("mi_zalloc_aligned", Call::MiMalloc, 0),
    block("mi_zalloc_aligned_at", Call::MiMalloc, 0),
    array("mi_calloc_aligned", Call::MiMalloc, 0, 1),
    array("mi_calloc_aligned_at", Call::MiMalloc, 0, 1),
    block("mi_umalloc", Call::MiMalloc, 0),
    array("mi_ucalloc", Call::MiMalloc, 0, 1),
    resize("mi_realloc", Call::MiRealloc, 0, 1),
    resize_array("mi_reallocn", Call::MiRealloc, 0, 1, 2),
    entry(
        "mi_reallocf",
        Call::MiRealloc,
        Shape::ResizeOrFree,
        1,
        NO_ARGUMENT,
        0,
    ),
    resize_array("mi_reallocarray", Call::MiRealloc, 0, 1, 2),
    resize("mi_rezalloc", Call::MiRealloc, 0, 1),
    resize_array("mi_recalloc", Call::MiRealloc, 0, 1, 2),
    resize("mi_expand", Call::MiRealloc, 0, 1),
    resize("mi_realloc_aligned", Call::MiRealloc, 0, 1),
    resize("mi_realloc_aligned_at", Call::MiRealloc, 0, 1),
    resize("mi_rezalloc_aligned", Call::MiRealloc, 0, 1),
    resize("mi_rezalloc_aligned_at", Call::MiRealloc, 0, 1),
    resize_array("mi_recalloc_aligned", Call::MiRealloc, 0, 1, 2),
    resize_array("mi_recalloc_aligned_at", Call::MiRealloc, 0, 1, 2),
    block_at("mi_posix_memalign", Call::MiMalloc, 0, 2),
    block("mi_memalign", Call::MiMalloc, 1),
    block("mi_aligned_alloc", Call::MiMalloc, 1),
    block("mi_valloc", Call::MiMalloc, 0),
    block("mi_pvalloc", Call::MiMalloc, 0),
    block("mi_heap_malloc", Call::MiMalloc, 1),
    block("mi_heap_malloc_small", Call::MiMalloc, 1),
    block("mi_heap_zalloc", Call::MiMalloc, 1),
    array("mi_heap_calloc", Call::MiMalloc, 1, 2),
    array("mi_heap_mallocn", Call::MiMalloc, 1, 2),
    block("mi_heap_malloc_aligned", Call::MiMalloc, 1),
    block("mi_heap_malloc_aligned_at", Call::MiMalloc, 1),
    block("mi_heap_zalloc_aligned", Call::MiMalloc, 1),
    block("mi_heap_zalloc_aligned_at", Call::MiMalloc, 1),
    array("mi_heap_calloc_aligned", Call::MiMalloc, 1, 2),
    array("mi_heap_calloc_aligned_at", Call::MiMalloc, 1, 2),
    resize("mi_heap_realloc", Call::MiRealloc, 1, 2),
    resize_array("mi_heap_reallocn", Call::MiRealloc, 1, 2, 3),
    entry(
        "mi_heap_reallocf",
        Call::MiRealloc,
        Shape::ResizeOrFree,
        2,
        NO_ARGUMENT,
        1,
    ),
    resize("mi_heap_rezalloc", Call::MiRealloc, 1, 2),
    resize_array("mi_heap_recalloc", Call::MiRealloc, 1, 2, 3),
    resize("mi_heap_realloc_aligned", Call::MiRealloc, 1, 2),
    resize("mi_heap_realloc_aligned_at", Call::MiRealloc, 1, 2),
    resize("mi_heap_rezalloc_aligned", Call::MiRealloc, 1, 2),
    resize("mi_heap_rezalloc_aligned_at", Call::MiRealloc, 1, 2),
    resize_array("mi_heap_recalloc_aligned", Call::MiRealloc, 1, 2, 3),
    resize_array("mi_heap_recalloc_aligned_at", Call::MiRealloc, 1, 2, 3),
    block("mi_theap_malloc", Call::MiMalloc, 1),
    block("mi_theap_malloc_small", Call::MiMalloc, 1),
    block("mi_theap_zalloc", Call::MiMalloc, 1),
    array("mi_theap_calloc", Call::MiMalloc, 1, 2),
    array("mi_theap_mallocn", Call::MiMalloc, 1, 2),
    block("mi_theap_malloc_aligned", Call::MiMalloc, 1),
    block("mi_theap_zalloc_aligned", Call::MiMalloc, 1),
    resize("mi_theap_realloc", Call::MiRealloc, 1, 2),
    resize_array("mi_theap_reallocn", Call::MiRealloc, 1, 2, 3),
    resize("mi_theap_realloc_aligned", Call::MiRealloc, 1, 2),
    resize("mi_theap_rezalloc", Call::MiRealloc, 1, 2),
    release("mi_free", Call::MiFree),
    release("mi_cfree", Call::MiFree),
    release("mi_ufree", Call::MiFree),
    release("mi_free_size", Call::MiFree),
    release("mi_free_size_aligned", Call::MiFree),
    release("mi_free_aligned", Call::MiFree),
    new("mi_new"),
    new("mi_new_aligned"),
    new_nothrow("mi_new_nothrow"),
    new_nothrow("mi_new_aligned_nothrow"),
    EntryPoint {
        throws: true,
        ..array("mi_new_n", Call::OperatorNew, 0, 1)
    },
    EntryPoint {
        throws: true,
        ..resize("mi_new_realloc", Call::MiRealloc, 0, 1)
    },
    EntryPoint {
        throws: true,
        ..resize_array("mi_new_reallocn", Call::MiRealloc, 0, 1, 2)
    },
    EntryPoint {
        throws: true,
        ..block("mi_heap_alloc_new", Call::OperatorNew, 1)
    },
    EntryPoint {
        throws: true,
        ..array("mi_heap_alloc_new_n", Call::OperatorNew, 1, 2)
    },
];

/// Rust's global allocator, probed only where nothing below it is: before 1.89 the names were
/// plain, since then they are mangled.
/// <https://github.com/rust-lang/rust/pull/127173>
pub const RUST: &[EntryPoint] = &[
    block("__rust_alloc", Call::RustAlloc, 0),
    block("__rust_alloc_zeroed", Call::RustAlloc, 0),
    resize("__rust_realloc", Call::RustRealloc, 0, 3),
    release("__rust_dealloc", Call::RustDealloc),
];
