//! Owns sending what a new process's stacks are to be walked from, until its code is known to the probes.
//! Must not know how they are walked. Where nothing is to be sent the kernel leaves all of this out.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user};
use leaktrace_common::{
    counter::Counter,
    event::{EarlyStack, Header, Kind, Newcomer},
    limits::{
        EARLY_RING_BYTES, EARLY_SLICE_BYTES, EARLY_STACKS_FEW, EARLY_STACKS_MAX, NEWCOMER_NS,
        WAKE_UP_DIVISOR,
    },
    stack::provisional,
};

use crate::{
    count, emit,
    maps::{CONFIG, EARLY_STACKS, NEWCOMERS},
    registers::Origin,
};

const PAGE: usize = 4_096;

/// The agent is woken while the ring's filling is within this many bytes above the threshold: concurrent writers cannot
/// step over eight records.
const WAKE_UP_WINDOW_BYTES: u64 = 8 * size_of::<EarlyStack>() as u64;

/// A process has executed a new image.
#[inline(always)]
pub fn welcome(tgid: u32) {
    if CONFIG.load().sends_early == 0 {
        return;
    }
    let newcomer = Newcomer {
        since_ns: emit::now_ns(),
        stack_count: 0,
    };
    // Without it the first stacks are cut, and say so.
    let _ = NEWCOMERS.insert(&tgid, &newcomer, 0);
}

/// A child has its parent's image, and is as new.
#[inline(always)]
pub fn inherit(tgid: u32, child_tgid: u32) {
    if CONFIG.load().sends_early == 0 {
        return;
    }
    // SAFETY: the value is copied at once.
    if let Some(newcomer) = unsafe { NEWCOMERS.get(&tgid) }.copied() {
        // As above.
        let _ = NEWCOMERS.insert(&child_tgid, &newcomer, 0);
    }
}

/// A process has ended.
#[inline(always)]
pub fn forget(tgid: u32) {
    if CONFIG.load().sends_early != 0 {
        // One that is not there is what was wanted.
        let _ = NEWCOMERS.remove(&tgid);
    }
}

/// Whether code of a process of which nothing is known may be about to be told.
#[inline(always)]
pub fn is_new(tgid: u32) -> bool {
    CONFIG.load().sends_early != 0 && newcomer(tgid).is_some()
}

#[inline(always)]
fn newcomer(tgid: u32) -> Option<*mut Newcomer> {
    let newcomer = NEWCOMERS.get_ptr_mut(&tgid)?;
    // SAFETY: a map value, alive while the program runs.
    let since_ns = unsafe { (&raw const (*newcomer).since_ns).read_volatile() };
    (emit::now_ns().wrapping_sub(since_ns) < NEWCOMER_NS).then_some(newcomer)
}

/// Sends what a stack is to be walked from; its provisional id, or 0 where it must be walked here, as far as that goes.
#[inline(always)]
pub fn send(origin: Origin, tgid: u32, image: u32) -> u64 {
    let Some(newcomer) = newcomer(tgid) else {
        return 0;
    };
    let waiting = EARLY_STACKS.query(0);
    // SAFETY: a map value, alive while the program runs; threads of the process may count past each other.
    let count = unsafe { (&raw const (*newcomer).stack_count).read_volatile() };
    let is_crowded = waiting > u64::from(EARLY_RING_BYTES / 4 * 3);
    let most = if is_crowded {
        EARLY_STACKS_FEW
    } else {
        EARLY_STACKS_MAX
    };
    if count >= most {
        count::bump(tgid, Counter::EarlyStacksRefused);
        return 0;
    }
    let Some(mut entry) = EARLY_STACKS.reserve::<EarlyStack>(0) else {
        count::bump(tgid, Counter::EarlyStacksRefused);
        return 0;
    };
    // SAFETY: as above.
    unsafe { (&raw mut (*newcomer).stack_count).write_volatile(count + 1) };
    let time_ns = emit::now_ns();
    let id = provisional(bpf_get_current_pid_tgid(), time_ns);
    let record = entry.as_mut_ptr();
    // SAFETY: the record's memory is ours until it is submitted, and no more is written than its fields hold.
    unsafe {
        (*record).header = Header {
            kind: Kind::EarlyStack as u8,
            call: 0,
            flags: 0,
            tgid,
        };
        (*record).id = id;
        (*record).time_ns = time_ns;
        (*record).stack_pointer = origin.stack_pointer;
        (*record).frame_pointer = origin.frame_pointer;
        (*record).image = image;
        (*record).slice_bytes = copy(&raw mut (*record).slice, origin.stack_pointer);
    }
    entry.submit(emit::wake_up_at(
        waiting,
        u64::from(EARLY_RING_BYTES / WAKE_UP_DIVISOR),
        WAKE_UP_WINDOW_BYTES,
    ));
    id
}

/// Copies the stack as far as it goes; tells how many bytes.
///
/// # Safety
///
/// The slice must be a record's in the ring.
#[inline(always)]
unsafe fn copy(slice: *mut [u8; EARLY_SLICE_BYTES], stack_pointer: u64) -> u32 {
    // SAFETY: as many bytes are written as the slice has.
    if unsafe { copy_piece(slice.cast(), EARLY_SLICE_BYTES as u32, stack_pointer) } {
        return EARLY_SLICE_BYTES as u32;
    }
    // The stack ends before, and it ends with a page.
    let first = (PAGE - (stack_pointer as usize & (PAGE - 1))) & (PAGE - 1);
    // SAFETY: less than a page is written at the slice's beginning.
    if !unsafe { copy_piece(slice.cast(), first as u32, stack_pointer) } {
        return 0;
    }
    // SAFETY: a page from there on is within the slice of two.
    let second = unsafe { slice.cast::<u8>().add(first) };
    // SAFETY: as above.
    if unsafe { copy_piece(second, PAGE as u32, stack_pointer + first as u64) } {
        (first + PAGE) as u32
    } else {
        first as u32
    }
}

/// # Safety
///
/// So many bytes must be the caller's from there on.
#[inline(always)]
unsafe fn copy_piece(to: *mut u8, bytes: u32, from: u64) -> bool {
    // SAFETY: the helper checks the source, and the caller the destination.
    unsafe { bpf_probe_read_user(to.cast::<c_void>(), bytes, from as *const c_void) == 0 }
}
