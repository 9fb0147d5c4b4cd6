//! Owns the walk by unwind tables: which rule an address has, and the loop over frames.
//! Must not know what the frames are for. The step itself is `leaktrace_common::unwind`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use leaktrace_common::{
    code::{CodePiece, CodeSpace},
    limits::{
        CODE_PIECES_MAX, ROWS_PER_SHARD, RULE_CACHE_SLOTS, STACK_FRAMES_MAX, STACK_WINDOW_BYTES,
    },
    unwind::{RULE_ID_BAD, RULE_ID_NONE, Registers, outcome, step},
};

use crate::{
    early,
    maps::{CODE_SPACES, CONFIG, ROW_ADDRESSES, ROW_RULES, RULE_CACHE, RULES, SCRATCH},
    scratch::Scratch,
};

/// Halvings that find one of `CODE_PIECES_MAX` pieces.
const PIECE_STEPS: u32 = CODE_PIECES_MAX.trailing_zeros();
/// Halvings that find one of `ROWS_PER_SHARD` rows.
const ROW_STEPS: u32 = ROWS_PER_SHARD.trailing_zeros();
/// The part of a word of the cache that holds the rule; the rest is a mark of the address.
const RULE_BITS: u64 = 0xffff;
/// Multipliers with well-mixed bits, from the golden ratio and from xxHash's second prime.
const MIX_SLOT: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX_MARK: u64 = 0xC2B2_AE3D_27D4_EB4F;

/// Walks from an allocator's entry into `scratch.record.frames`, innermost return address first.
/// The process's code must be known (`scratch.code.generation` is not 0).
#[inline(always)]
pub fn walk(number: u32, scratch: &mut Scratch, rsp: u64, rbp: u64) {
    copy_window(scratch, rsp);
    scratch.registers = Registers { rip: 0, rsp, rbp };
    scratch.frame_count = 0;
    scratch.outcome = outcome::UNREADABLE;
    // The allocator's own frame needs no table: its return address is on top of the stack.
    let Some(caller) = read(scratch, rsp) else {
        return;
    };
    scratch.registers.rip = caller;
    scratch.registers.rsp = rsp.wrapping_add(8);
    scratch.record.frames[0] = caller;
    scratch.frame_count = 1;
    scratch.outcome = outcome::CONTINUE;
    let mut context = number;
    if CONFIG.load().has_loop == 0 {
        // The verifier follows every one of the frames: a third of the million instructions that it allows, and most of
        // a second.
        for _ in 0..STACK_FRAMES_MAX - 1 {
            // SAFETY: the context is as the function wants it, and outlives the call.
            if unsafe { next_frame(0, (&raw mut context).cast()) } != 0 {
                break;
            }
        }
        return;
    }
    // SAFETY: the callback has the signature that the helper demands, and the context outlives
    // the call.
    unsafe {
        bpf_loop(
            STACK_FRAMES_MAX as u32 - 1,
            next_frame as *mut c_void,
            (&raw mut context).cast(),
            0,
        )
    };
}

/// Callback of `bpf_loop`: one frame; 1 ends the loop. It is given the buffer's number, since the
/// buffer's address cannot be kept where the verifier would lose track of it.
///
/// A function of its own, also where a loop of ours calls it: each iteration would be another copy.
#[inline(never)]
unsafe extern "C" fn next_frame(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `walk` passes the address of a `u32` that outlives the loop.
    let number = unsafe { *context.cast::<u32>() };
    let Some(scratch) = SCRATCH.get_ptr_mut(number) else {
        return 1;
    };
    // SAFETY: a map value, alive while the program runs, and claimed by it.
    let scratch = unsafe { &mut *scratch };
    // A return address may be the first of the next function; the call is just before it.
    let pc = scratch.registers.rip.wrapping_sub(1);
    let rule_id = rule_of(scratch, pc);
    let Some(rule) = RULES.get(u32::from(rule_id)).copied() else {
        return 1;
    };
    let mut registers = scratch.registers;
    let outcome = step(rule, pc, &mut registers, |address| read(scratch, address));
    scratch.outcome = outcome;
    if outcome != outcome::CONTINUE {
        return 1;
    }
    scratch.registers = registers;
    let index = scratch.frame_count as usize & (STACK_FRAMES_MAX - 1);
    scratch.record.frames[index] = registers.rip;
    scratch.frame_count += 1;
    0
}

/// Copies the innermost part of the stack, as far as it goes.
#[inline(always)]
fn copy_window(scratch: &mut Scratch, stack_pointer: u64) {
    const PAGE: u64 = 4_096;
    let base = stack_pointer & !7;
    scratch.window_base = base;
    scratch.window_bytes = STACK_WINDOW_BYTES as u64;
    let window = scratch.window.as_mut_ptr().cast::<c_void>();
    // SAFETY: the helper checks the source, and the window holds as many bytes.
    if unsafe { bpf_probe_read_user(window, STACK_WINDOW_BYTES as u32, base as *const c_void) } == 0
    {
        return;
    }
    // The stack ends within the window, and it ends with a page.
    let rest = (PAGE - (base & (PAGE - 1))) & (STACK_WINDOW_BYTES as u64 - 1);
    // SAFETY: as above; `rest` is less than the window's size.
    let failed = unsafe { bpf_probe_read_user(window, rest as u32, base as *const c_void) } != 0;
    scratch.window_bytes = if failed { 0 } else { rest };
}

/// Reads a word of the program's memory, from the window where it has it.
#[inline(always)]
fn read(scratch: &Scratch, address: u64) -> Option<u64> {
    let offset = address.wrapping_sub(scratch.window_base);
    if offset < STACK_WINDOW_BYTES as u64 && offset + 8 <= scratch.window_bytes {
        let offset = offset as usize & (STACK_WINDOW_BYTES - 1);
        // SAFETY: the offset is below the window's size, and the window has a word more.
        return Some(unsafe {
            core::ptr::read_unaligned(scratch.window.as_ptr().add(offset).cast::<u64>())
        });
    }
    let mut word = 0u64;
    // SAFETY: the helper checks the source, and the destination holds as many bytes.
    let failed = unsafe {
        bpf_probe_read_user(
            (&raw mut word).cast(),
            size_of::<u64>() as u32,
            address as *const c_void,
        )
    };
    if failed == 0 { Some(word) } else { None }
}

/// The id of the rule at an address, from the cache or by search.
#[inline(always)]
fn rule_of(scratch: &Scratch, pc: u64) -> u16 {
    let generation = u64::from(scratch.code.generation);
    let mixed = (pc ^ (generation << 48)).wrapping_mul(MIX_SLOT);
    let slot = (mixed >> 48) as usize & (RULE_CACHE_SLOTS - 1);
    // The generation counts in whole here: its upper half would be lost in the address above.
    let mark = (mixed ^ (mixed >> 32))
        .wrapping_add(generation)
        .wrapping_mul(MIX_MARK)
        & !RULE_BITS;
    let Some(cache) = RULE_CACHE.get_ptr_mut(0) else {
        return RULE_ID_NONE;
    };
    // SAFETY: the slot is within the array, a map value that is alive while the program runs. Mark
    // and rule are one word, so that another CPU's write is seen whole or not at all.
    let word = unsafe { core::ptr::read_volatile(cache.cast::<u64>().add(slot)) };
    if word & !RULE_BITS == mark {
        return (word & RULE_BITS) as u16;
    }
    let found = search(scratch, pc);
    if found == RULE_ID_BAD {
        // It may be no rule but code that is about to be told.
        return found;
    }
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(cache.cast::<u64>().add(slot), mark | u64::from(found)) };
    found
}

/// Whether the table of the frame that was reached is still being made, or its file may be about to be told.
#[inline(always)]
pub fn is_pending(scratch: &Scratch) -> bool {
    let Some(space) = CODE_SPACES.get_ptr(scratch.code.space) else {
        return false;
    };
    let pc = scratch.registers.rip.wrapping_sub(1);
    // SAFETY: as in `search`.
    match find_piece(unsafe { &*space }, pc) {
        Some(piece) => piece.is_pending != 0,
        None => early::is_new(scratch.tgid),
    }
}

/// The id of the rule at an address by search: the piece of code, then the row.
#[inline(always)]
fn search(scratch: &Scratch, pc: u64) -> u16 {
    let Some(space) = CODE_SPACES.get_ptr(scratch.code.space) else {
        return RULE_ID_NONE;
    };
    // SAFETY: a map value, alive while the program runs; the agent does not change it while a
    // process refers to it.
    let piece = find_piece(unsafe { &*space }, pc);
    if piece.is_none_or(|piece| piece.is_pending != 0) && early::is_new(scratch.tgid) {
        // A step by frame pointer might leave out callers that keep none.
        return RULE_ID_BAD;
    }
    let Some(piece) = piece.filter(|piece| piece.row_count != 0) else {
        return RULE_ID_NONE;
    };
    let (Some(addresses), Some(rules)) = (
        ROW_ADDRESSES.get_ptr(piece.shard),
        ROW_RULES.get_ptr(piece.shard),
    ) else {
        return RULE_ID_NONE;
    };
    let wanted = pc.wrapping_sub(piece.bias) as u32;
    let mut low = piece.first_row;
    let mut count = piece.row_count;
    for _ in 0..ROW_STEPS {
        let half = count >> 1;
        let middle = low.wrapping_add(half);
        // SAFETY: the index is masked to the array, a map value.
        let address = unsafe {
            *addresses
                .cast::<u32>()
                .add(middle as usize & (ROWS_PER_SHARD - 1))
        };
        if address <= wanted {
            low = middle;
        }
        count -= half;
    }
    let index = low as usize & (ROWS_PER_SHARD - 1);
    // SAFETY: the index is masked to the array, a map value.
    let address = unsafe { *addresses.cast::<u32>().add(index) };
    if address > wanted {
        return RULE_ID_NONE;
    }
    // SAFETY: the index is masked to the array, a map value.
    unsafe { *rules.cast::<u16>().add(index) }
}

#[inline(always)]
fn find_piece(space: &CodeSpace, pc: u64) -> Option<&CodePiece> {
    let mut low = 0;
    let mut count = space.piece_count;
    for _ in 0..PIECE_STEPS {
        let half = count >> 1;
        let middle = low + half;
        if space.pieces[middle as usize & (CODE_PIECES_MAX - 1)].begin <= pc {
            low = middle;
        }
        count -= half;
    }
    let piece = &space.pieces[low as usize & (CODE_PIECES_MAX - 1)];
    (piece.begin <= pc && pc < piece.end).then_some(piece)
}
