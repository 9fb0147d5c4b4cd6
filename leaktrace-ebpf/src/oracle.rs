//! Owns sending what a stack was walked from, so that another unwinder can walk it too.
//! Must not know how it was walked. In a user's trace the kernel leaves all of this out.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_prandom_u32,
    generated::{bpf_probe_read_kernel, bpf_probe_read_user},
};
use leaktrace_common::{
    event::{Header, Kind, Oracle, StackEnd},
    limits::{ORACLE_SLICE_BYTES, STACK_FRAMES_MAX},
};

use crate::{
    emit,
    maps::{CONFIG, EVENTS},
    scratch::Scratch,
};

/// The stack is copied by pieces of a page, since it can end at each.
const PAGE: usize = 4_096;

/// Sends one in so many stacks. What finds no room in the ring is not missed: it is a sample.
#[inline(always)]
pub fn ship(scratch: &Scratch, rsp: u64, rbp: u64, end: StackEnd) {
    let one_in = CONFIG.load().oracle_one_in;
    if one_in == 0 {
        return;
    }
    // SAFETY: the helper has no arguments and no preconditions.
    if unsafe { bpf_get_prandom_u32() } % one_in != 0 {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Oracle>(0) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record's memory is ours until it is submitted, and the helpers write no more than
    // the fields hold; the frames are a map value.
    unsafe {
        (*record).header = Header {
            kind: Kind::Oracle as u8,
            call: 0,
            flags: 0,
            tgid: scratch.tgid,
        };
        (*record).stack_pointer = rsp;
        (*record).frame_pointer = rbp;
        (*record).frame_count = scratch.frame_count;
        (*record).end = end as u32;
        (*record).reserved = 0;
        bpf_probe_read_kernel(
            (&raw mut (*record).frames).cast::<c_void>(),
            (8 * STACK_FRAMES_MAX) as u32,
            (&raw const scratch.record.frames).cast::<c_void>(),
        );
        (*record).slice_bytes = copy(&raw mut (*record).slice, rsp);
    }
    entry.submit(emit::wake_up());
}

/// Copies the stack up to its end; tells how many bytes.
///
/// # Safety
///
/// The slice must be a record's in the ring.
#[inline(always)]
unsafe fn copy(slice: *mut [u8; ORACLE_SLICE_BYTES], stack_pointer: u64) -> u32 {
    // Up to the end of the page first, so that a piece is readable as a whole or not at all.
    let first = (PAGE - (stack_pointer as usize & (PAGE - 1))) & (PAGE - 1);
    // SAFETY: less than a page is written at the slice's beginning.
    let failed = unsafe {
        bpf_probe_read_user(
            slice.cast::<c_void>(),
            first as u32,
            stack_pointer as *const c_void,
        )
    };
    if failed != 0 {
        return 0;
    }
    let mut copied = first;
    for _ in 0..ORACLE_SLICE_BYTES / PAGE - 1 {
        let at = copied & (ORACLE_SLICE_BYTES - 1);
        if at > ORACLE_SLICE_BYTES - PAGE {
            break;
        }
        // SAFETY: a page from there on is within the slice.
        let failed = unsafe {
            bpf_probe_read_user(
                slice.cast::<u8>().add(at).cast::<c_void>(),
                PAGE as u32,
                (stack_pointer + at as u64) as *const c_void,
            )
        };
        if failed != 0 {
            break;
        }
        copied = at + PAGE;
    }
    copied as u32
}
