//! Owns the buffers in which stacks are walked, and who may use which.
//! Must not know what is written into them.
//!
//! Probes can be preempted and re-entered on the same CPU, so a buffer per CPU would mix two
//! threads' stacks. A slot is claimed by an atomic exchange instead: whoever
//! finds it free has it, and whoever finds it busy leaves it as busy as it was.

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use leaktrace_common::{
    code::CodeRef,
    event::Stack,
    limits::{SCRATCH_SLOTS, SCRATCH_TRIES, STACK_WINDOW_BYTES},
    unwind::Registers,
};

use crate::maps::SCRATCH;

/// A buffer and its lock. All that a walk needs is in here and nothing on the BPF stack: the
/// verifier follows every byte of that through every iteration, but takes a map value as it is.
#[repr(C)]
pub struct Scratch {
    busy: u64,
    /// The walk's registers, in the frame that was reached.
    pub registers: Registers,
    /// Address of the first byte in `window`.
    pub window_base: u64,
    /// How many bytes of it were copied.
    pub window_bytes: u64,
    /// The process.
    pub tgid: u32,
    /// Its code; generation 0 where it is not known.
    pub code: CodeRef,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
    /// Why the walk ended: an `outcome`.
    pub outcome: u32,
    /// Frames found so far.
    pub frame_count: u32,
    /// The record under construction.
    pub record: Stack,
    /// The innermost part of the stack; a word more than its size, so that a word can be read at
    /// each of its bytes.
    pub window: [u8; STACK_WINDOW_BYTES + 8],
}

/// Claims a buffer and tells its number; `None` when those near this CPU are all in use.
#[inline(always)]
pub fn claim() -> Option<(u32, *mut Scratch)> {
    // SAFETY: the helper has no arguments and no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    for attempt in 0..SCRATCH_TRIES {
        let index = (cpu * SCRATCH_TRIES + attempt) & (SCRATCH_SLOTS - 1);
        let slot = SCRATCH.get_ptr_mut(index)?;
        // SAFETY: the slot is a map value, which lives as long as the program; taking the address
        // of a field does not read it.
        let busy = unsafe { &raw mut (*slot).busy };
        // SAFETY: `busy` is aligned to 8 and only accessed atomically while it is shared.
        let was_busy = unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(busy, 1) };
        if was_busy == 0 {
            return Some((index, slot));
        }
    }
    None
}

/// Gives a buffer back. The caller must be the one who claimed it.
#[inline(always)]
pub fn release(slot: *mut Scratch) {
    // SAFETY: the slot is a map value that this program claimed, so nobody else writes `busy`.
    unsafe { core::ptr::write_volatile(&raw mut (*slot).busy, 0) };
}
