//! Owns the buffers in which stacks are walked, and who may use which.
//! Must not know what is written into them.
//!
//! Probes can be preempted and re-entered on the same CPU, so a buffer per CPU would mix two
//! threads' stacks. A slot is claimed by an atomic exchange instead: whoever
//! finds it free has it, and whoever finds it busy leaves it as busy as it was.

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use leaktrace_common::{
    event::Stack,
    limits::{SCRATCH_SLOTS, SCRATCH_TRIES},
};

use crate::maps::SCRATCH;

/// A buffer and its lock.
#[repr(C)]
pub struct Scratch {
    busy: u64,
    /// The record under construction.
    pub record: Stack,
}

/// Claims a buffer; `None` when those near this CPU are all in use.
#[inline(always)]
pub fn claim() -> Option<*mut Scratch> {
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
            return Some(slot);
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
