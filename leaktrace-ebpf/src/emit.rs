//! Owns the writing end of the ring: the only place that reserves, submits and decides on wake-ups.
//! Must not know what the records mean.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns};
use leaktrace_common::{
    counter::{Counter, LostFreeKey, total},
    limits::WAKE_UP_DIVISOR,
    share::Share,
};

use crate::{
    count,
    maps::{CONFIG, EVENTS, LOST_FREES, SHARES},
};

/// `BPF_RB_NO_WAKEUP` of include/uapi/linux/bpf.h.
const NO_WAKE_UP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP` of include/uapi/linux/bpf.h.
const FORCE_WAKE_UP: u64 = 2;
/// `BPF_RB_AVAIL_DATA` of include/uapi/linux/bpf.h.
const WAITING_BYTES: u64 = 0;
/// `BPF_RB_CONS_POS` of include/uapi/linux/bpf.h.
const READ_TO: u64 = 2;
/// Bytes of the head that the kernel puts before each record; the whole is rounded up to as many.
const HEAD_BYTES: u64 = 8;
/// Wake-ups are asked for while the ring's filling is within this many bytes above the threshold:
/// enough that concurrent writers cannot step over the window, and few enough that a busy agent is
/// not interrupted for each record.
const WAKE_UP_WINDOW_BYTES: u64 = 8_192;

/// Nanoseconds since boot, suspended time included, as processes' start times are counted.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no arguments and no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The part of the ring that only births, execs and exits may fill: a block that is lost is counted,
/// but a process that is not known of is missed as a whole.
const LIFECYCLE_DIVISOR: u64 = 32;

/// Sends a record; `false` when the ring is full.
#[inline(always)]
#[must_use]
pub fn record<T: 'static>(value: T) -> bool {
    if !admits(size_of::<T>() as u64) {
        return false;
    }
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        return false;
    };
    entry.write(value);
    entry.submit(wake_up());
    true
}

/// Sends a record and wakes the agent: what it must look at while the process is still there.
#[inline(always)]
#[must_use]
pub fn urgent_record<T: 'static>(value: T) -> bool {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        return false;
    };
    entry.write(value);
    entry.submit(FORCE_WAKE_UP);
    true
}

/// Sends a record of a length that is only known at run time; `false` when the ring is full.
#[inline(always)]
#[must_use]
pub fn bytes(value: &[u8]) -> bool {
    admits(value.len() as u64) && EVENTS.output(value, wake_up()).is_ok()
}

/// Keeps a free that found no room, so that its block does not become a false leak.
#[inline(always)]
pub fn defer_free(tgid: u32, address: u64) {
    let key = LostFreeKey {
        address,
        tgid,
        reserved: 0,
    };
    match LOST_FREES.insert(&key, &now_ns(), 0) {
        Ok(()) => {
            count::bump(tgid, Counter::FreesDeferred);
            count::bump_total(total::FREES_DEFERRED);
        }
        Err(_) => count::bump(tgid, Counter::FreesLost),
    }
}

/// Takes a deferred free back: the block was not given back after all.
#[inline(always)]
pub fn withdraw_free(tgid: u32, address: u64) {
    let key = LostFreeKey {
        address,
        tgid,
        reserved: 0,
    };
    // Not there means that the agent has fetched it already or that it was counted as lost.
    let _ = LOST_FREES.remove(&key);
}

/// Whether a record may go in: while half of the ring is free anybody's, and then whose process keeps within its share.
#[inline(always)]
fn admits(bytes: u64) -> bool {
    let ring_bytes = u64::from(CONFIG.load().wake_up_bytes) * u64::from(WAKE_UP_DIVISOR);
    let waiting = EVENTS.query(WAITING_BYTES);
    if waiting <= ring_bytes / 2 {
        return true;
    }
    let most = ring_bytes - ring_bytes / LIFECYCLE_DIVISOR;
    waiting <= most && is_within_share(waiting, most - waiting, ring_bytes, HEAD_BYTES + bytes)
}

/// Whether the process has put no more into the upper half of the ring than it may, counting this record.
#[inline(always)]
fn is_within_share(waiting: u64, free_bytes: u64, ring_bytes: u64, bytes: u64) -> bool {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(share) = share(tgid) else {
        return true;
    };
    let read_to = EVENTS.query(READ_TO);
    // SAFETY: a map value, alive while the program runs. Other threads of the process may change it meanwhile: two that begin
    // a turn at the same time, or one that adds to the turn before, leave some records of that moment uncounted.
    let mut now = unsafe { share.read_volatile() };
    if now.is_over(read_to) {
        now = now.next(read_to, read_to + waiting);
        // SAFETY: as above.
        unsafe { share.write_volatile(now) };
    }
    if !now.has_room(bytes, free_bytes, ring_bytes) {
        count::bump(tgid, Counter::RecordsRefused);
        return false;
    }
    // SAFETY: as above; taking a field's address reads nothing.
    count::add(unsafe { &raw mut (*share).bytes }, bytes);
    // SAFETY: as above.
    unsafe { (&raw mut (*share).last_at).write_volatile(read_to + waiting + bytes) };
    true
}

#[inline(always)]
fn share(tgid: u32) -> Option<*mut Share> {
    if let Some(share) = SHARES.get_ptr_mut(&tgid) {
        return Some(share);
    }
    // Another thread may insert first; then this only fails to.
    let _ = SHARES.insert(&tgid, &Share::default(), BPF_NOEXIST);
    SHARES.get_ptr_mut(&tgid)
}

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h: insert only what is not there.
const BPF_NOEXIST: u64 = 1;

/// Whether the agent is woken for a record.
#[inline(always)]
pub fn wake_up() -> u64 {
    wake_up_at(
        EVENTS.query(WAITING_BYTES),
        u64::from(CONFIG.load().wake_up_bytes),
        WAKE_UP_WINDOW_BYTES,
    )
}

/// Whether the agent is woken for a record of a ring in which so many bytes wait.
#[inline(always)]
pub fn wake_up_at(waiting: u64, threshold: u64, window: u64) -> u64 {
    if waiting >= threshold && waiting < threshold + window {
        FORCE_WAKE_UP
    } else {
        NO_WAKE_UP
    }
}
