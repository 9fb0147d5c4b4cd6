//! Owns the probes of the malloc family: what a call asked for, what it gave, and which of several
//! nested calls counts.
//! Must not know how stacks are walked or records sent.
//!
//! A call counts when it is the outermost of its thread. Whether it is needs no depth counter,
//! which a missed return would put off for ever: the outermost call is the one whose return slot
//! lies highest, so that the stack pointer alone tells.

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, generated::bpf_get_attach_cookie},
    programs::{ProbeContext, RetProbeContext},
};
use leaktrace_common::{
    call::Call,
    config::ProbeConfig,
    counter::Counter,
    event::{Alloc, FLAG_NOT_FOLLOWED, Free, Header, Kind, ReallocBegin, ReallocEnd},
    limits::THREAD_WORDS,
    policy::{Policy, watched},
};

use crate::{
    count, emit,
    maps::{CONFIG, IMAGES, THREADS},
    sampling, stack,
};

/// What a thread is doing inside an allocator. Only its own thread touches it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// The stack pointer at the call, which points at the return address.
    stack_pointer: u64,
    /// Bytes asked for.
    size: u64,
    /// The block to resize, or where `posix_memalign` stores its result.
    pointer: u64,
    /// The stack's id.
    stack: u64,
    /// Mean bytes between samples at the call.
    sample_bytes: u64,
    /// Which image of the process, for the stack's id.
    image: u32,
    /// The `Call`, 0 outside.
    call: u8,
    /// Whether the size is one that is followed.
    is_followed: u8,
    /// Whether `ReallocBegin` was lost.
    is_begin_lost: u8,
    /// Whether the block is kept, so that its free is told from others.
    keeps: u8,
}

const _: () = assert!(size_of::<Thread>() == 8 * THREAD_WORDS);

/// A call of an allocator, as its arguments tell.
struct Request {
    call: u8,
    size: u64,
    pointer: u64,
}

#[inline(always)]
fn registers(ctx: &impl EbpfContext) -> &pt_regs {
    // SAFETY: the context of a uprobe program is a `pt_regs`, valid while the program runs.
    unsafe { &*ctx.as_ptr().cast::<pt_regs>() }
}

/// hook: any entry point of an allocator, at its entry; the cookie is its `Call`.
#[inline(always)]
pub fn enter(ctx: &ProbeContext) -> u32 {
    let thread_id = bpf_get_current_pid_tgid();
    let tgid = (thread_id >> 32) as u32;
    let config = CONFIG.load();
    if tgid != config.agent_tgid {
        // SAFETY: the helper takes the program's own context.
        let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
        let call = cookie as u8;
        let policy = sampling::policy_at_hit(tgid, call, &config);
        if let Err(counter) = try_enter(registers(ctx), thread_id, call, &config, &policy) {
            count::bump(tgid, counter);
        }
    }
    0
}

#[inline(always)]
fn try_enter(
    registers: &pt_regs,
    thread_id: u64,
    call: u8,
    config: &ProbeConfig,
    policy: &Policy,
) -> Result<(), Counter> {
    let tgid = (thread_id >> 32) as u32;
    let known = THREADS.get_ptr_mut(&thread_id);
    if let Some(thread) = known {
        // SAFETY: a map value, alive while the program runs; only its own thread touches it.
        let thread = unsafe { &mut *thread };
        if thread.call != 0 && is_nested(thread, registers.rsp, call) {
            return Ok(());
        }
        if thread.call != 0 {
            thread.call = 0;
            count::bump(tgid, Counter::CallsAbandoned);
        }
    }
    if call == Call::Free as u8 {
        free(registers.rdi, tgid, policy);
        return Ok(());
    }
    let mut request = request(registers, call);
    if policy.keeps() || !policy.watches(watched::ALLOCATIONS) {
        if !policy.watches(watched::ALLOCATIONS) {
            // Resizing a block ends the one that was.
            if is_resize(&request) {
                free(request.pointer, tgid, policy);
            }
            return Ok(());
        }
        // One that nobody waits for is resized like one that is made.
        if is_resize(&request)
            && !sampling::release(tgid, request.pointer)
            && policy.watches(watched::KEPT_ONLY)
        {
            request.pointer = 0;
        }
    }
    let thread = match known {
        Some(thread) => thread,
        None => begin_thread(thread_id, tgid)?,
    };
    // SAFETY: a map value, alive while the program runs; only its own thread touches it.
    let thread = unsafe { &mut *thread };
    let is_followed = request.size >= config.min_size
        && request.size <= config.max_size
        && sampling::takes(request.size, policy);
    thread.stack_pointer = registers.rsp;
    thread.size = request.size;
    thread.pointer = request.pointer;
    thread.is_followed = u8::from(is_followed);
    thread.is_begin_lost = 0;
    thread.keeps = u8::from(policy.keeps());
    thread.sample_bytes = policy.sample_bytes;
    thread.stack = if is_followed {
        stack::capture(registers, tgid, thread.image)
    } else {
        0
    };
    if is_resize(&request) {
        let begin = ReallocBegin {
            header: Header {
                kind: Kind::ReallocBegin as u8,
                call,
                flags: 0,
                tgid,
            },
            address: request.pointer,
            tid: thread_id as u32,
            reserved: 0,
        };
        if !emit::record(begin) {
            thread.is_begin_lost = 1;
            emit::defer_free(tgid, request.pointer);
        }
    }
    // Last, so that the call is only pending when all else is in place.
    thread.call = call;
    Ok(())
}

/// A call further down the stack than a pending one is part of it. One at the same place is too
/// where an allocator jumps to another of its functions (`realloc(NULL, n)` to `malloc`), but not
/// where the function is the same: then the pending call never returned.
#[inline(always)]
fn is_nested(thread: &Thread, stack_pointer: u64, call: u8) -> bool {
    stack_pointer < thread.stack_pointer
        || (stack_pointer == thread.stack_pointer && call != thread.call)
}

#[inline(always)]
fn is_resize(request: &Request) -> bool {
    (request.call == Call::Realloc as u8 || request.call == Call::Reallocarray as u8)
        && request.pointer != 0
}

#[inline(always)]
fn request(registers: &pt_regs, call: u8) -> Request {
    let (first, second, third) = (registers.rdi, registers.rsi, registers.rdx);
    let (size, pointer) = if call == Call::Calloc as u8 {
        (product(first, second), 0)
    } else if call == Call::Realloc as u8 {
        (second, first)
    } else if call == Call::Reallocarray as u8 {
        (product(second, third), first)
    } else if call == Call::PosixMemalign as u8 {
        (third, first)
    } else if call == Call::AlignedAlloc as u8 || call == Call::Memalign as u8 {
        (second, 0)
    } else {
        (first, 0)
    };
    Request {
        call,
        size,
        pointer,
    }
}

/// The product, or the largest number where it is 2^63 or more: no allocator grants that.
#[inline(always)]
fn product(count: u64, size: u64) -> u64 {
    // BPF has no 128-bit multiplication, which an exact check would need. Factors of i and j bits
    // have a product below 2^(i+j) and, unless it is 0, of at least 2^(i+j-2).
    let is_large = (count | size) >> 32 != 0
        && count != 0
        && size != 0
        && count.leading_zeros() + size.leading_zeros() < 64;
    if is_large {
        u64::MAX
    } else {
        count.wrapping_mul(size)
    }
}

#[inline(always)]
fn begin_thread(thread_id: u64, tgid: u32) -> Result<*mut Thread, Counter> {
    // SAFETY: the value is copied at once; the element is only removed when the process ends.
    let image = unsafe { IMAGES.get(&tgid) }.copied().unwrap_or(0);
    let fresh = Thread {
        stack_pointer: 0,
        size: 0,
        pointer: 0,
        stack: 0,
        sample_bytes: 0,
        image,
        call: 0,
        is_followed: 0,
        is_begin_lost: 0,
        keeps: 0,
    };
    if THREADS.insert(&thread_id, &fresh, 0).is_err() {
        return Err(Counter::ThreadTableFull);
    }
    THREADS
        .get_ptr_mut(&thread_id)
        .ok_or(Counter::ThreadTableFull)
}

#[inline(always)]
fn free(address: u64, tgid: u32, policy: &Policy) {
    if address == 0 || !sampling::takes_free(tgid, address, policy) {
        return;
    }
    let header = Header {
        kind: Kind::Free as u8,
        call: Call::Free as u8,
        flags: 0,
        tgid,
    };
    if !emit::record(Free { header, address }) {
        emit::defer_free(tgid, address);
    }
}

/// hook: any entry point of an allocator that hands out blocks, at its return.
#[inline(always)]
pub fn exit(ctx: &RetProbeContext) -> u32 {
    let thread_id = bpf_get_current_pid_tgid();
    let Some(thread) = THREADS.get_ptr_mut(&thread_id) else {
        return 0;
    };
    // SAFETY: a map value, alive while the program runs; only its own thread touches it.
    let thread = unsafe { &mut *thread };
    let registers = registers(ctx);
    // The return has popped its address, so the outermost call is left 8 bytes above its slot.
    if thread.call == 0 || registers.rsp != thread.stack_pointer + 8 {
        return 0;
    }
    let tgid = (thread_id >> 32) as u32;
    if let Err(counter) = try_exit(registers, thread, thread_id as u32, tgid) {
        count::bump(tgid, counter);
    }
    thread.call = 0;
    0
}

#[inline(always)]
fn try_exit(registers: &pt_regs, thread: &Thread, tid: u32, tgid: u32) -> Result<(), Counter> {
    let call = thread.call;
    let request = Request {
        call,
        size: thread.size,
        pointer: thread.pointer,
    };
    if is_resize(&request) {
        return end_resize(registers.rax, thread, tid, tgid);
    }
    if thread.is_followed == 0 {
        return Ok(());
    }
    let mut address = registers.rax;
    if call == Call::PosixMemalign as u8 {
        if registers.rax as u32 != 0 {
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
fn end_resize(address: u64, thread: &Thread, tid: u32, tgid: u32) -> Result<(), Counter> {
    let has_failed = address == 0 && thread.size != 0;
    if has_failed && thread.is_begin_lost != 0 {
        emit::withdraw_free(tgid, thread.pointer);
    }
    if has_failed && thread.keeps != 0 {
        sampling::keep(tgid, thread.pointer);
    }
    // A block that is kept has a record of its own.
    let flags = if thread.is_followed == 0 || thread.keeps != 0 {
        FLAG_NOT_FOLLOWED
    } else {
        0
    };
    let end = ReallocEnd {
        header: Header {
            kind: Kind::ReallocEnd as u8,
            call: thread.call,
            flags,
            tgid,
        },
        old_address: thread.pointer,
        address,
        size: thread.size,
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
            flags: 0,
            tgid,
        },
        address,
        size: thread.size,
        stack: thread.stack,
        time_ns,
    }
}
