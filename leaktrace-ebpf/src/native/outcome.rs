//! Owns what came of a call: the block that it gave, or that it moved.
//! Must not know what the call's arguments were, or which of several nested calls counts.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use leaktrace_common::{
    cookie::Shape,
    counter::Counter,
    event::{Alloc, FLAG_NOT_FOLLOWED, Header, Kind, ReallocEnd},
};

use super::{Thread, request::is_resize};
use crate::{
    count, emit,
    maps::{CONFIG, THREADS},
    registers::UserRegisters,
    sampling,
};

/// A function is left, and has popped so many bytes of the stack already.
#[inline(always)]
pub(super) fn leave(registers: &UserRegisters, popped_bytes: u64) -> u32 {
    let thread_id = bpf_get_current_pid_tgid();
    let Some(thread) = THREADS.get_ptr_mut(&thread_id) else {
        return 0;
    };
    // SAFETY: a map value, alive while the program runs; only its own thread touches it.
    let thread = unsafe { &mut *thread };
    if thread.call == 0 || registers.stack_pointer() != thread.stack_pointer + popped_bytes {
        return 0;
    }
    let tgid = (thread_id >> 32) as u32;
    if let Err(counter) = try_leave(registers.result(), thread, thread_id as u32, tgid) {
        count::bump(tgid, counter);
    }
    thread.call = 0;
    0
}

#[inline(always)]
fn try_leave(result: u64, thread: &Thread, tid: u32, tgid: u32) -> Result<(), Counter> {
    if is_resize(thread.shape, thread.pointer) {
        return end_resize(result, thread, tid, tgid);
    }
    if thread.is_followed == 0 {
        return Ok(());
    }
    let mut address = result;
    if thread.shape == Shape::BlockAt as u8 {
        if result as u32 != 0 {
            return Ok(());
        }
        // SAFETY: the helper checks the address and fails on one that cannot be read.
        address = unsafe { bpf_probe_read_user(thread.pointer as *const u64) }
            .map_err(|_errno| Counter::ResultsUnreadable)?;
    }
    if address == 0 {
        return Ok(());
    }
    let alloc = block(thread, address, tgid, emit::now_ns());
    if thread.keeps != 0 {
        sampling::record(alloc, thread.sample_bytes)
    } else if emit::record(alloc) {
        sampling::count_record(tgid, &CONFIG.load());
        Ok(())
    } else {
        Err(Counter::AllocationsLost)
    }
}

#[inline(always)]
fn end_resize(result: u64, thread: &Thread, tid: u32, tgid: u32) -> Result<(), Counter> {
    let mut address = result;
    let mut size = thread.size;
    if thread.shape == Shape::ResizeInPlace as u8 {
        let has_grown = result >= size;
        address = if has_grown { thread.pointer } else { 0 };
    } else if thread.shape == Shape::ResizeOrFree as u8 && result == 0 {
        // As if it had been asked for: the old block is gone.
        size = 0;
    }
    let has_failed = address == 0 && size != 0;
    if has_failed && thread.is_begin_lost != 0 {
        emit::withdraw_free(tgid, thread.pointer);
    }
    if has_failed && thread.keeps != 0 {
        sampling::keep(tgid, thread.pointer);
    }
    // A block that is kept has a record of its own.
    let is_not_followed = if thread.is_followed == 0 || thread.keeps != 0 {
        FLAG_NOT_FOLLOWED
    } else {
        0
    };
    let end = ReallocEnd {
        header: Header {
            kind: Kind::ReallocEnd as u8,
            call: thread.call,
            flags: is_not_followed | u16::from(thread.family) << 8,
            tgid,
        },
        old_address: thread.pointer,
        address,
        size,
        stack: thread.stack,
        time_ns: emit::now_ns(),
        tid,
        reserved: 0,
    };
    if !emit::record(end) {
        return Err(Counter::AllocationsLost);
    }
    if thread.keeps == 0 || thread.is_followed == 0 || address == 0 {
        sampling::count_record(tgid, &CONFIG.load());
        return Ok(());
    }
    sampling::record(
        block(thread, address, tgid, end.time_ns),
        thread.sample_bytes,
    )
}

/// The record of a block that was handed out.
#[inline(always)]
fn block(thread: &Thread, address: u64, tgid: u32, time_ns: u64) -> Alloc {
    Alloc {
        header: Header {
            kind: Kind::Alloc as u8,
            call: thread.call,
            flags: u16::from(thread.family) << 8,
            tgid,
        },
        address,
        size: thread.size,
        stack: thread.stack,
        time_ns,
    }
}
