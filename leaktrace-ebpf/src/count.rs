//! Owns the counting of losses: nothing that a probe drops goes uncounted.
//! Must not know why something was dropped.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use leaktrace_common::counter::{Counter, LossKey, total};

use crate::maps::{LOSSES, TOTALS};

/// Adds one to a counter of a process.
#[inline(always)]
pub fn bump(tgid: u32, counter: Counter) {
    let key = LossKey {
        tgid,
        counter: counter as u32,
    };
    if let Some(count) = LOSSES.get_ptr_mut(&key) {
        add_one(count);
        return;
    }
    // Another thread may insert first, then this only fails to, and the second look finds it.
    let inserted = LOSSES.insert(&key, &0, BPF_NOEXIST);
    if let Some(count) = LOSSES.get_ptr_mut(&key) {
        add_one(count);
    } else if inserted.is_err() {
        bump_total(total::LOSSES_UNTOLD);
    }
}

/// Adds one to a count over all processes.
#[inline(always)]
pub fn bump_total(index: u32) {
    if let Some(count) = TOTALS.get_ptr_mut(index) {
        add_one(count);
    }
}

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h: insert only what is not there.
const BPF_NOEXIST: u64 = 1;

/// Adds to a counter that only grows and that several threads add to.
#[inline(always)]
pub fn add(count: *mut u64, more: u64) {
    // SAFETY: as for `add_one`.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, more) };
}

#[inline(always)]
fn add_one(count: *mut u64) {
    // SAFETY: the pointer is a map value that the kernel keeps alive while the program runs, is
    // aligned to 8, and is only ever touched by atomic additions here and by copies in the agent.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
}
