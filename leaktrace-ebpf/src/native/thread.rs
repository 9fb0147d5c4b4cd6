//! Owns what is kept of a thread between the probes of its calls.
//! Must not know what a call means.

use leaktrace_common::{counter::Counter, limits::THREAD_WORDS};

use crate::maps::{IMAGES, THREADS};

/// What a thread is doing inside an allocator. Only its own thread touches it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// The stack pointer at the call, which points at the return address.
    pub(super) stack_pointer: u64,
    /// Where its probe stands, which tells one function from another.
    pub(super) entry: u64,
    /// Bytes asked for.
    pub(super) size: u64,
    /// The block to resize, or where `posix_memalign` stores its result.
    pub(super) pointer: u64,
    /// The stack's id.
    pub(super) stack: u64,
    /// Mean bytes between samples at the call.
    pub(super) sample_bytes: u64,
    /// What an outer function told: the same of its own call, until another takes it over.
    pub(super) outer: Outer,
    /// Which image of the process, for the stack's id.
    pub(super) image: u32,
    /// The `Call`, 0 outside.
    pub(super) call: u8,
    /// Its `Shape`.
    pub(super) shape: u8,
    /// Its `Family`.
    pub(super) family: u8,
    /// Whether the size is one that is followed.
    pub(super) is_followed: u8,
    /// Whether `ReallocBegin` was lost.
    pub(super) is_begin_lost: u8,
    /// Whether the block is kept, so that its free is told from others.
    pub(super) keeps: u8,
    reserved: [u8; 6],
}

/// What a function that has another make its block told of its call.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Outer {
    /// The stack pointer at the call.
    pub(super) stack_pointer: u64,
    /// Where its probe stands.
    pub(super) entry: u64,
    /// How much of its code lies behind that; 0 where there is no such call.
    pub(super) span: u64,
    /// Bytes asked for.
    pub(super) size: u64,
    /// The stack's id.
    pub(super) stack: u64,
    /// 1 where the block is to be recorded.
    pub(super) is_followed: u64,
}

const NO_OUTER: Outer = Outer {
    stack_pointer: 0,
    entry: 0,
    span: 0,
    size: 0,
    stack: 0,
    is_followed: 0,
};

const _: () = assert!(size_of::<Thread>() == 8 * THREAD_WORDS);

/// Makes room for a thread that was not seen before.
#[inline(always)]
pub(super) fn begin_thread(thread_id: u64, tgid: u32) -> Result<*mut Thread, Counter> {
    // SAFETY: the value is copied at once; the element is only removed when the process ends.
    let image = unsafe { IMAGES.get(&tgid) }.copied().unwrap_or(0);
    let fresh = Thread {
        stack_pointer: 0,
        entry: 0,
        size: 0,
        pointer: 0,
        stack: 0,
        sample_bytes: 0,
        outer: NO_OUTER,
        image,
        call: 0,
        shape: 0,
        family: 0,
        is_followed: 0,
        is_begin_lost: 0,
        keeps: 0,
        reserved: [0; 6],
    };
    if THREADS.insert(&thread_id, &fresh, 0).is_err() {
        return Err(Counter::ThreadTableFull);
    }
    THREADS
        .get_ptr_mut(&thread_id)
        .ok_or(Counter::ThreadTableFull)
}
