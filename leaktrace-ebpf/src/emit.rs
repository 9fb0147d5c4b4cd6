//! Owns the writing end of the ring: the only place that reserves, submits and decides on wake-ups.
//! Must not know what the records mean.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use leaktrace_common::{
    counter::{Counter, LostFreeKey, total},
    limits::WAKE_UP_DIVISOR,
};

use crate::{
    count,
    maps::{CONFIG, EVENTS, LOST_FREES},
};

/// `BPF_RB_NO_WAKEUP` of include/uapi/linux/bpf.h.
const NO_WAKE_UP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP` of include/uapi/linux/bpf.h.
const FORCE_WAKE_UP: u64 = 2;
/// `BPF_RB_AVAIL_DATA` of include/uapi/linux/bpf.h.
const WAITING_BYTES: u64 = 0;
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
    if is_nearly_full() {
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
    !is_nearly_full() && EVENTS.output(value, wake_up()).is_ok()
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

#[inline(always)]
fn is_nearly_full() -> bool {
    let ring_bytes = u64::from(CONFIG.load().wake_up_bytes) * u64::from(WAKE_UP_DIVISOR);
    EVENTS.query(WAITING_BYTES) > ring_bytes - ring_bytes / LIFECYCLE_DIVISOR
}

/// Whether the agent is woken for a record.
#[inline(always)]
pub fn wake_up() -> u64 {
    let waiting = EVENTS.query(WAITING_BYTES);
    let threshold = u64::from(CONFIG.load().wake_up_bytes);
    if waiting >= threshold && waiting < threshold + WAKE_UP_WINDOW_BYTES {
        FORCE_WAKE_UP
    } else {
        NO_WAKE_UP
    }
}
