//! Owns a stack's identity, and its walk where no unwind tables are in place.
//! Must not know which allocator was called.
//!
//! Without tables the chain of frame pointers is all there is. The direct caller comes from the
//! stack pointer, because at an allocator's first instructions its own frame is not linked yet. A
//! frame pointer that does not point further up the stack is not followed: reading through a stray
//! one would cost a page fault, which is dearer than the whole walk.

use aya_ebpf::helpers::bpf_probe_read_user;
use leaktrace_common::{
    code::CodeRef,
    counter::Counter,
    event::{Header, Kind, STACK_PREFIX_BYTES, StackEnd},
    limits::STACK_FRAMES_MAX,
    stack::identity,
    unwind::outcome,
};

use crate::{
    count, early, emit,
    maps::{CODE_REFS, CODE_SPACES, CONFIG, STACKS},
    oracle,
    registers::{Origin, UserRegisters, code_address},
    scratch::{self, Scratch},
    unwind,
};

/// The largest frame that is believed: a frame pointer further up than this is taken for a stray
/// one. Linux gives a main thread 8 MiB by default, and frames of a megabyte are seen in practice.
const FRAME_BYTES_MAX: u64 = 2 << 20;

/// Return addresses below this are none: Linux maps nothing there by default (`mmap_min_addr`).
const CODE_ADDRESS_MIN: u64 = 4_096;

/// Walks the stack of the current thread at an allocator's entry, sends it if it is new, and
/// returns its id; 0 where there is none.
#[inline(always)]
pub fn capture(registers: &UserRegisters, tgid: u32, image: u32) -> u64 {
    walk(
        registers.origin(),
        tgid,
        image,
        CONFIG.load().sends_early != 0,
    )
}

/// The same from any point.
#[inline(always)]
pub fn capture_from(origin: Origin, tgid: u32, image: u32) -> u64 {
    walk(origin, tgid, image, false)
}

/// Where the code of a new process is not known yet, its stack may be sent to be walked by the agent.
#[inline(always)]
fn walk(origin: Origin, tgid: u32, image: u32, sends_early: bool) -> u64 {
    let Some((number, slot)) = scratch::claim() else {
        count::bump(tgid, Counter::StacksWithoutScratch);
        return 0;
    };
    // SAFETY: the slot is a map value, alive while the program runs, and ours until it is released.
    let scratch = unsafe { &mut *slot };
    scratch.tgid = tgid;
    scratch.code = code_of(tgid);
    let (stack_pointer, frame_pointer) = (origin.stack_pointer, origin.frame_pointer);
    // The rules of tables are x86-64's.
    let has_tables = scratch.code.generation != 0 && !cfg!(bpf_target_arch = "aarch64");
    let mut end = StackEnd::NoTables;
    if has_tables {
        unwind::walk(number, scratch, stack_pointer, frame_pointer);
        end = end_of(scratch);
    }
    if sends_early && end == StackEnd::NoTables {
        let id = early::send(origin, tgid, image);
        if id != 0 {
            scratch::release(slot);
            return id;
        }
    }
    if !has_tables {
        let frame_count;
        (frame_count, end) = walk_frame_pointers(&mut scratch.record.frames, origin);
        scratch.frame_count = frame_count as u32;
    }
    let id = identify_and_send(scratch, end, image);
    oracle::ship(scratch, stack_pointer, frame_pointer, end);
    scratch::release(slot);
    id
}

/// The code of a process; generation 0 where it is not known.
#[inline(always)]
fn code_of(tgid: u32) -> CodeRef {
    // SAFETY: the value is copied at once.
    let Some(code) = (unsafe { CODE_REFS.get(&tgid) }).copied() else {
        return CodeRef::default();
    };
    match CODE_SPACES.get(code.space) {
        Some(space) if space.generation == code.generation => code,
        _ => CodeRef::default(),
    }
}

/// Why a walk by tables ended.
#[inline(always)]
fn end_of(scratch: &Scratch) -> StackEnd {
    match scratch.outcome {
        outcome::CONTINUE => StackEnd::TooDeep,
        outcome::ROOT => StackEnd::Root,
        outcome::BAD_RULE | outcome::NO_FRAME_POINTER if unwind::is_pending(scratch) => {
            StackEnd::NoTables
        }
        outcome::BAD_RULE => StackEnd::BadRule,
        outcome::NO_FRAME_POINTER => StackEnd::NoFramePointer,
        _ => StackEnd::Unreadable,
    }
}

#[inline(always)]
fn identify_and_send(scratch: &mut Scratch, end: StackEnd, image: u32) -> u64 {
    let tgid = scratch.tgid;
    let record = &mut scratch.record;
    // The verifier must see that it is no more than there are.
    let frame_count = (scratch.frame_count as usize).min(STACK_FRAMES_MAX);
    let (id, check) = identity(&record.frames, frame_count, tgid, image);
    // SAFETY: the value is only read once, at once; elements are removed only for processes that
    // are gone, so that a recycled element can at worst cause one more record of a known stack.
    match unsafe { STACKS.get(&id) } {
        Some(known) if *known == check => return id,
        Some(_) => {
            count::bump(tgid, Counter::StackCollisions);
            return 0;
        }
        None => {}
    }
    record.header = Header {
        kind: Kind::Stack as u8,
        call: 0,
        flags: 0,
        tgid,
    };
    record.id = id;
    record.time_ns = emit::now_ns();
    record.frame_count = frame_count as u32;
    record.end = end as u32;
    // Read back, so that the bound is checked on the very register that becomes the length: the
    // verifier of Linux 6.1 loses it where the compiler keeps the number in two places.
    // SAFETY: the field was written just above.
    let sent = unsafe { (&raw const record.frame_count).read_volatile() } as usize;
    let length = STACK_PREFIX_BYTES + sent.min(STACK_FRAMES_MAX) * size_of::<u64>();
    // SAFETY: `length` is at most the record's size, since `sent` is capped at its frames.
    let bytes =
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(record).cast::<u8>(), length) };
    // Sent first and remembered after: a stack that could not be sent is tried again next time.
    if !emit::bytes(bytes) {
        count::bump(tgid, Counter::StacksDeferred);
    } else if STACKS.insert(&id, &check, 0).is_err() {
        count::bump(tgid, Counter::StackTableFull);
    }
    id
}

/// Fills in return addresses, innermost first; tells how many and why no more.
#[inline(always)]
fn walk_frame_pointers(frames: &mut [u64; STACK_FRAMES_MAX], origin: Origin) -> (usize, StackEnd) {
    let mut low = origin.stack_pointer;
    // SAFETY: the helper checks the address and fails on one that cannot be read.
    let read = |address| unsafe { bpf_probe_read_user(address as *const u64) }.ok();
    let Some(caller) = origin.caller(read) else {
        return (0, StackEnd::Unreadable);
    };
    frames[0] = caller;
    let mut frame_pointer = origin.frame_pointer;
    let mut frame_count = 1;
    while frame_count < STACK_FRAMES_MAX {
        if frame_pointer == 0 {
            // The end of a chain; where there is none yet, it is what the kernel starts a program with, whose code may keep
            // no frame pointers at all.
            let end = if frame_count == 1 {
                StackEnd::NoTables
            } else {
                StackEnd::Root
            };
            return (frame_count, end);
        }
        let climb = frame_pointer.wrapping_sub(low);
        if climb == 0 || climb > FRAME_BYTES_MAX || frame_pointer & 7 != 0 {
            return (frame_count, StackEnd::NoTables);
        }
        // SAFETY: the helper checks the address and fails on one that cannot be read.
        let Ok([next, caller]) = (unsafe { bpf_probe_read_user(frame_pointer as *const [u64; 2]) })
        else {
            return (frame_count, StackEnd::Unreadable);
        };
        let caller = code_address(caller);
        if caller < CODE_ADDRESS_MIN {
            return (frame_count, StackEnd::Root);
        }
        frames[frame_count & (STACK_FRAMES_MAX - 1)] = caller;
        frame_count += 1;
        low = frame_pointer;
        frame_pointer = next;
    }
    (frame_count, StackEnd::TooDeep)
}
