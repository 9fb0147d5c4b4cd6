//! Owns the probes of native allocators: what a call asked for, what it gave, and which of several
//! nested calls counts.
//! Must not know how stacks are walked or records sent.
//!
//! A call counts when it is the outermost of its thread. Whether it is needs no depth counter,
//! which a missed return would put off for ever: the outermost call is the one whose return slot
//! lies highest, so that the stack pointer alone tells.
//!
//! A function that has another one make its block, as `operator new` has malloc, is probed at its
//! entry only: a return probe there would stop an exception that leaves it. It tells size and site,
//! and the next call that comes out of its own code takes them over.

mod outcome;
mod request;
mod thread;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, generated::bpf_get_attach_cookie},
    programs::{ProbeContext, RetProbeContext},
};
use leaktrace_common::{
    call::Call,
    config::ProbeConfig,
    cookie::{Cookie, Shape},
    counter::Counter,
    event::{Free, Header, Kind, ReallocBegin},
    policy::{Policy, watched},
};

pub use self::thread::Thread;
use self::{
    outcome::leave,
    request::{Request, is_resize, request, returns_block},
    thread::begin_thread,
};
use crate::{
    count, emit,
    maps::{CONFIG, THREADS},
    registers::{self, UserRegisters},
    sampling, stack,
};

/// hook: any entry point of an allocator, at its entry or where that is as good.
#[inline(always)]
pub fn enter(ctx: &ProbeContext) -> u32 {
    let thread_id = bpf_get_current_pid_tgid();
    let tgid = (thread_id >> 32) as u32;
    let config = CONFIG.load();
    if tgid != config.agent_tgid {
        // SAFETY: the helper takes the program's own context.
        let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
        let policy = sampling::policy_at_hit(tgid, returns_block(cookie.shape()), &config);
        if let Err(counter) = try_enter(UserRegisters::of(ctx), thread_id, cookie, &config, &policy)
        {
            count::bump(tgid, counter);
        }
    }
    0
}

#[inline(always)]
fn try_enter(
    registers: &UserRegisters,
    thread_id: u64,
    cookie: Cookie,
    config: &ProbeConfig,
    policy: &Policy,
) -> Result<(), Counter> {
    let tgid = (thread_id >> 32) as u32;
    let known = THREADS.get_ptr_mut(&thread_id);
    if let Some(thread) = known {
        // SAFETY: a map value, alive while the program runs; only its own thread touches it.
        let thread = unsafe { &mut *thread };
        if cookie.shape() == Shape::Throw as u8 {
            leave_by_exception(thread, registers.stack_pointer());
            return Ok(());
        }
        if thread.call != 0 && is_nested(thread, registers) {
            return Ok(());
        }
        if thread.call != 0 {
            thread.call = 0;
            count::bump(tgid, Counter::CallsAbandoned);
        }
    }
    let mut request = request(registers, cookie);
    if cookie.shape() == Shape::Free as u8 {
        free(request.pointer, cookie.call(), tgid, policy);
        return Ok(());
    }
    if cookie.shape() == Shape::Throw as u8 {
        return Ok(());
    }
    if (policy.keeps() || !policy.watches(watched::ALLOCATIONS))
        && !prepare(&mut request, tgid, cookie, policy)
    {
        return Ok(());
    }
    let thread = match known {
        Some(thread) => thread,
        None => begin_thread(thread_id, tgid)?,
    };
    // SAFETY: a map value, alive while the program runs; only its own thread touches it.
    let thread = unsafe { &mut *thread };
    let is_in_outer = is_in_outer(thread, registers.stack_pointer());
    if !is_in_outer {
        // Where one overload of a function calls another, the outermost is what the program called.
        let is_followed = is_followed(request.size, config, policy);
        enter_outer(registers, thread, tgid, request.size, is_followed);
    }
    if cookie.shape() == Shape::Outer as u8 {
        thread.outer.entry = registers.instruction();
        thread.outer.span = u64::from(cookie.span());
    } else {
        thread.keeps = u8::from(policy.keeps());
        thread.sample_bytes = policy.sample_bytes;
        let call = if is_in_outer {
            Call::OperatorNew as u8
        } else {
            cookie.call()
        };
        enter_inner(registers, thread, thread_id, cookie, request.pointer);
        // Last, so that the call is only pending when all else is in place.
        thread.call = call;
    }
    Ok(())
}

/// What a policy has done before a call is followed; `false` where it is not.
#[inline(always)]
fn prepare(request: &mut Request, tgid: u32, cookie: Cookie, policy: &Policy) -> bool {
    let is_resize = is_resize(cookie.shape(), request.pointer);
    if !policy.watches(watched::ALLOCATIONS) {
        // Resizing a block ends the one that was.
        if is_resize {
            free(request.pointer, cookie.call(), tgid, policy);
        }
        return false;
    }
    if is_resize && !sampling::release(tgid, request.pointer) && policy.watches(watched::KEPT_ONLY)
    {
        // One that nobody waits for is resized like one that is made, but in place none is made.
        request.pointer = 0;
        return cookie.shape() != Shape::ResizeInPlace as u8;
    }
    true
}

#[inline(always)]
fn is_followed(size: u64, config: &ProbeConfig, policy: &Policy) -> bool {
    size >= config.min_size && size <= config.max_size && sampling::takes(size, policy)
}

/// An exception begins: a call that is under way above it will not return, and what it asked for
/// was not given. What is allocated for the exception itself is a call of its own.
#[inline(always)]
fn leave_by_exception(thread: &mut Thread, stack_pointer: u64) {
    if stack_pointer < thread.stack_pointer {
        thread.call = 0;
    }
    thread.outer.span = 0;
}

/// Whether the call comes out of the code of the outer function that told of itself last. One that
/// the stack has left behind is forgotten.
#[inline(always)]
fn is_in_outer(thread: &mut Thread, stack_pointer: u64) -> bool {
    if thread.outer.span == 0 {
        return false;
    }
    if stack_pointer > thread.outer.stack_pointer {
        thread.outer.span = 0;
        return false;
    }
    // SAFETY: the helper checks the address and fails on one that cannot be read.
    let caller = unsafe { bpf_probe_read_user(stack_pointer as *const u64) }.unwrap_or(0);
    caller.wrapping_sub(thread.outer.entry) <= thread.outer.span
}

/// Keeps size and site of the call that a program made, which another function may serve.
#[inline(always)]
fn enter_outer(
    registers: &UserRegisters,
    thread: &mut Thread,
    tgid: u32,
    size: u64,
    is_followed: bool,
) {
    thread.outer.stack_pointer = registers.stack_pointer();
    thread.outer.size = size;
    thread.outer.is_followed = u64::from(is_followed);
    thread.outer.stack = if is_followed {
        stack::capture(registers, tgid, thread.image)
    } else {
        0
    };
}

/// Makes a call pending, of the size and the site that were told last.
#[inline(always)]
fn enter_inner(
    registers: &UserRegisters,
    thread: &mut Thread,
    thread_id: u64,
    cookie: Cookie,
    pointer: u64,
) {
    let tgid = (thread_id >> 32) as u32;
    thread.stack_pointer = registers.stack_pointer();
    thread.entry = registers.instruction();
    thread.size = thread.outer.size;
    thread.pointer = pointer;
    thread.shape = cookie.shape();
    thread.family = cookie.family();
    thread.is_followed = thread.outer.is_followed as u8;
    thread.is_begin_lost = 0;
    thread.stack = thread.outer.stack;
    // Taken over once: whatever else an outer function calls is its own affair.
    thread.outer.span = 0;
    if is_resize(cookie.shape(), pointer) {
        let begin = ReallocBegin {
            header: Header {
                kind: Kind::ReallocBegin as u8,
                call: cookie.call(),
                flags: 0,
                tgid,
            },
            address: pointer,
            tid: thread_id as u32,
            reserved: 0,
        };
        if !emit::record(begin) {
            thread.is_begin_lost = 1;
            emit::defer_free(tgid, pointer);
        }
    }
}

/// A call further down the stack than a pending one is part of it. One at the same place is too
/// where an allocator jumps to another of its functions (`realloc(NULL, n)` to `malloc`), but where
/// the function is the same only as long as the pending call's return is awaited: else that never returned.
#[inline(always)]
fn is_nested(thread: &Thread, registers: &UserRegisters) -> bool {
    let stack_pointer = registers.stack_pointer();
    if stack_pointer != thread.stack_pointer {
        return stack_pointer < thread.stack_pointer;
    }
    registers.instruction() != thread.entry || is_awaited(stack_pointer)
}

/// Whether a return slot holds what a return probe puts there, the beginning of a page, as a call leaves it there by rare
/// chance only. Then the function has jumped to itself, as each of glibc's with a hook did once in a process until 2.34.
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/events/uprobes.c>, `uprobe_get_trampoline_vaddr`
/// <https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/hooks.c;hb=refs/tags/glibc-2.31>, `realloc_hook_ini`
#[inline(always)]
fn is_awaited(stack_pointer: u64) -> bool {
    const PAGE_BYTES: u64 = 4096;
    // SAFETY: the helper checks the address and fails on one that cannot be read.
    let slot = unsafe { bpf_probe_read_user(stack_pointer as *const u64) };
    slot.is_ok_and(|address| address != 0 && address.is_multiple_of(PAGE_BYTES))
}

#[inline(always)]
fn free(address: u64, call: u8, tgid: u32, policy: &Policy) {
    if address == 0 || !sampling::takes_free(tgid, address, policy) {
        return;
    }
    let header = Header {
        kind: Kind::Free as u8,
        call,
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
    // The return has popped its address, so the outermost call is left 8 bytes above its slot.
    leave(UserRegisters::of(ctx), registers::POPPED_BY_RETURN)
}

/// hook: each instruction by which such a function returns, where a return probe would do harm.
#[inline(always)]
pub fn ret(ctx: &ProbeContext) -> u32 {
    leave(UserRegisters::of(ctx), 0)
}
