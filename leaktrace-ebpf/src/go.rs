//! Owns the probes of Go's heap: blocks that are handed out, and spans that a collection has judged.
//! Must not know versions: where things are stands in each probe's cookie.

mod refill;

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_user,
        generated::{bpf_get_attach_cookie, bpf_probe_read_user as read_bytes},
    },
    programs::ProbeContext,
};
use leaktrace_common::{
    call::Call,
    config::ProbeConfig,
    counter::Counter,
    event::{
        Alloc, FLAG_GO_TINY, GO_MARK_WORDS, GO_SWEEP_PREFIX_BYTES, GoCycle, GoSweep, Header, Kind,
        Sample,
    },
    go::{
        AllocCookie, INLINE_MARK_BYTES, INLINE_MARK_SLOTS, PAGE_BYTES, SLOTS_MAX, SweepCookie,
        VALUE_IN_RAX, depth, shape, sweep,
    },
    policy::{Policy, watched},
};

use crate::{
    count, emit,
    maps::{CONFIG, IMAGES},
    registers::{Origin, UserRegisters},
    sampling, stack,
};

/// Blocks without pointers below this share slots: `maxTinySize`.
const TINY_BYTES: u64 = 16;
/// Above this, blocks with pointers have a header where they lie in a span with others:
/// `minSizeForMallocHeader`, and the largest such block.
const HEADER_ABOVE: u64 = 512;
const HEADER_UP_TO: u64 = 32_768 - 8;
/// `PtrBytes` of a type: 0 where it has no pointers.
const TYPE_POINTER_BYTES: u64 = 8;

pub use refill::refill;

/// A block's size: that of its slot, or what the agent rounds up to one.
struct Size {
    bytes: u64,
    is_tiny: bool,
}

/// Runs what is to be done at a probe, unless it is in our own process; what is not done is counted.
#[inline(always)]
fn at_probe(
    ctx: &ProbeContext,
    act: impl FnOnce(&UserRegisters, u32, u64, &ProbeConfig) -> Result<(), Counter>,
) -> u32 {
    let thread_id = bpf_get_current_pid_tgid();
    let tgid = (thread_id >> 32) as u32;
    let config = CONFIG.load();
    if tgid != config.agent_tgid {
        // SAFETY: the helper takes the program's own context.
        let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
        if let Err(counter) = act(UserRegisters::of(ctx), tgid, cookie, &config) {
            count::bump(tgid, counter);
        }
    }
    0
}

/// Whether the user asked for blocks of this size.
#[inline(always)]
fn is_asked_for(bytes: u64, config: &ProbeConfig) -> bool {
    bytes >= config.min_size && bytes <= config.max_size
}

/// hook: the instructions that `golang::sites` chose, where a block is about to be returned.
#[inline(always)]
pub fn alloc(ctx: &ProbeContext) -> u32 {
    at_probe(ctx, |registers, tgid, cookie, config| {
        try_alloc(registers, tgid, AllocCookie::unpack(cookie), config)
    })
}

#[inline(always)]
fn try_alloc(
    registers: &UserRegisters,
    tgid: u32,
    cookie: AllocCookie,
    config: &ProbeConfig,
) -> Result<(), Counter> {
    let policy = sampling::policy_at_hit(tgid, false, config);
    if !policy.watches(watched::ALLOCATIONS) {
        return Ok(());
    }
    let unreadable = Counter::GoBlocksUnreadable;
    let address = match cookie.value {
        VALUE_IN_RAX => registers.result(),
        slot => word(registers.stack_pointer().wrapping_add(u64::from(slot))).ok_or(unreadable)?,
    };
    if address == 0 {
        return Ok(());
    }
    let size = size(registers, cookie).ok_or(unreadable)?;
    if !is_asked_for(size.bytes, config) || !sampling::takes(size.bytes, &policy) {
        return Ok(());
    }
    let block = Block {
        address,
        bytes: size.bytes,
        flags: if size.is_tiny { FLAG_GO_TINY } else { 0 },
    };
    send(registers, tgid, cookie.depth, block, &policy, config)
}

/// A block that is recorded.
struct Block {
    address: u64,
    bytes: u64,
    flags: u16,
}

/// Sends a block with its stack, which begins with who called the function that is probed.
#[inline(always)]
fn send(
    registers: &UserRegisters,
    tgid: u32,
    depth: u16,
    block: Block,
    policy: &Policy,
    config: &ProbeConfig,
) -> Result<(), Counter> {
    let unreadable = Counter::GoBlocksUnreadable;
    // SAFETY: the value is copied at once; the element is only removed when the process ends.
    let image = unsafe { IMAGES.get(&tgid) }.copied().unwrap_or(0);
    let above = u64::from(depth & depth::BYTES);
    let mut return_at = registers.stack_pointer().wrapping_add(above);
    let mut rbp = registers.frame_pointer();
    if depth & depth::FRAME_IS_UP != 0 {
        rbp = word(rbp).ok_or(unreadable)?;
    }
    if depth & depth::CALLER_IS_ALLOCATOR != 0 {
        return_at = rbp.wrapping_add(8);
        rbp = word(rbp).ok_or(unreadable)?;
    }
    let stack = stack::capture_from(Origin::at(return_at, rbp), tgid, image);
    let record = Sample {
        alloc: Alloc {
            header: Header {
                kind: Kind::GoAlloc as u8,
                call: Call::Mallocgc as u8,
                flags: block.flags,
                tgid,
            },
            address: block.address,
            size: block.bytes,
            stack,
            time_ns: emit::now_ns(),
        },
        sample_bytes: policy.sample_bytes,
    };
    if emit::record(record) {
        sampling::count_record(tgid, config);
        Ok(())
    } else {
        Err(Counter::AllocationsLost)
    }
}

/// How large a block is, from where the allocator keeps its arguments.
#[inline(always)]
fn size(registers: &UserRegisters, cookie: AllocCookie) -> Option<Size> {
    if cookie.shape == shape::TINY {
        return Some(Size {
            bytes: TINY_BYTES,
            is_tiny: true,
        });
    }
    let mut bytes = u64::from(cookie.size);
    if cookie.shape != shape::SLOT_BYTES {
        bytes = word(
            registers
                .stack_pointer()
                .wrapping_add(u64::from(cookie.size)),
        )?;
    }
    let mut is_tiny = false;
    if cookie.shape < shape::TINY {
        let has_headers = cookie.depth & depth::HAS_HEADERS != 0;
        let may_have_header = has_headers && bytes > HEADER_ABOVE && bytes <= HEADER_UP_TO;
        if bytes < TINY_BYTES || may_have_header {
            let kind = word(
                registers
                    .stack_pointer()
                    .wrapping_add(u64::from(cookie.shape)),
            )?;
            let has_pointers = kind != 0 && word(kind.wrapping_add(TYPE_POINTER_BYTES))? != 0;
            if bytes < TINY_BYTES {
                is_tiny = !has_pointers;
                bytes = if is_tiny { TINY_BYTES } else { bytes };
            } else if has_pointers {
                bytes += 8;
            }
        }
    }
    Some(Size { bytes, is_tiny })
}

/// hook: `runtime.(*sweepLocked).sweep` behind its stack check, and the beginning of a collection.
#[inline(always)]
pub fn sweep(ctx: &ProbeContext) -> u32 {
    at_probe(ctx, |registers, tgid, cookie, config| {
        let cookie = SweepCookie::unpack(cookie);
        if cookie.flags & sweep::BEGIN != 0 {
            try_begin(tgid)
        } else {
            try_sweep(registers, tgid, cookie, config)
        }
    })
}

#[inline(always)]
fn try_begin(tgid: u32) -> Result<(), Counter> {
    let record = GoCycle {
        header: header(Kind::GoCycle, tgid),
        time_ns: emit::now_ns(),
    };
    if emit::record(record) {
        Ok(())
    } else {
        Err(Counter::GoCyclesLost)
    }
}

#[inline(always)]
fn try_sweep(
    registers: &UserRegisters,
    tgid: u32,
    cookie: SweepCookie,
    config: &ProbeConfig,
) -> Result<(), Counter> {
    let policy = sampling::policy_at_hit(tgid, false, config);
    if !policy.watches(watched::FREES) {
        return Ok(());
    }
    let mut record =
        read_span(registers.result(), tgid, cookie).ok_or(Counter::GoSweepsUnreadable)?;
    record.header = header(Kind::GoSweep, tgid);
    record.time_ns = emit::now_ns();
    // The verifier must see that it is no more than there are.
    let words = ((record.slot_count as usize).div_ceil(64)).min(GO_MARK_WORDS);
    let length = GO_SWEEP_PREFIX_BYTES + words * size_of::<u64>();
    // SAFETY: `length` is at most the record's size, since `words` is at most its marks.
    let bytes =
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(&record).cast::<u8>(), length) };
    if emit::bytes(bytes) {
        Ok(())
    } else {
        Err(Counter::GoSweepsLost)
    }
}

/// Reads the span that a `sweepLocked` points at, and its marks.
#[inline(always)]
fn read_span(sweep_locked: u64, tgid: u32, cookie: SweepCookie) -> Option<GoSweep> {
    let span = word(sweep_locked)?;
    let field = |offset: u8| field(span, offset);
    let is_wide = cookie.flags & sweep::WIDE_SLOTS != 0;
    let (free_index, slot_count) = indices(span, cookie.free_index, is_wide)?;
    if cookie.flags & sweep::COUNTS_UNUSED != 0 {
        refill::take_back(tgid, span, free_index, slot_count, cookie)?;
    }
    if slot_count > SLOTS_MAX as u64 {
        return None;
    }
    let mut record = GoSweep {
        header: header(Kind::GoSweep, 0),
        address: field(cookie.start)?,
        span_bytes: field(cookie.pages)?.wrapping_mul(PAGE_BYTES),
        slot_bytes: field(cookie.slot_bytes)?,
        time_ns: 0,
        slot_count: slot_count as u32,
        reserved: 0,
        marks: [0; GO_MARK_WORDS],
    };
    let mark_bytes = (slot_count as usize).div_ceil(64) * size_of::<u64>();
    let mark_bytes = mark_bytes.min(size_of::<[u64; GO_MARK_WORDS]>());
    let is_read = read_into(&mut record.marks, mark_bytes, field(cookie.marks)?);
    let is_inline =
        cookie.flags & sweep::INLINE_MARKS != 0 && INLINE_MARK_SLOTS.contains(&record.slot_bytes);
    // Marks are written into fresh memory: a page of them that is not there was never written to, and
    // nothing is marked. Where they are inline that is the rule, and elsewhere it is told.
    if is_read.is_none() && !is_inline {
        count::bump(tgid, Counter::GoMarksAbsent);
    }
    if is_inline {
        let end = record.address.wrapping_add(record.span_bytes);
        let at = end.wrapping_sub(INLINE_MARK_BYTES);
        let count = INLINE_MARK_BYTES as usize / 8;
        let mut index = 0;
        // Word by word: all frames of a program have 512 bytes of stack, of which the record takes most.
        while index < count {
            let marks = word(at.wrapping_add(index as u64 * 8))?;
            // The last byte is the span's class.
            let is_last = index + 1 == count;
            record.marks[index] |= if is_last {
                marks & (u64::MAX >> 8)
            } else {
                marks
            };
            index += 1;
        }
    }
    Some(record)
}

/// `freeindex` and `nelems` of a span, which lie side by side.
#[inline(always)]
fn indices(span: u64, offset: u8, is_wide: bool) -> Option<(u64, u64)> {
    let at = span.wrapping_add(u64::from(offset));
    let first = word(at)?;
    if is_wide {
        return Some((first, word(at.wrapping_add(8))?));
    }
    Some((first & 0xffff, first >> 16 & 0xffff))
}

/// A word of a span.
#[inline(always)]
fn field(span: u64, offset: u8) -> Option<u64> {
    word(span.wrapping_add(u64::from(offset)))
}

#[inline(always)]
fn header(kind: Kind, tgid: u32) -> Header {
    Header {
        kind: kind as u8,
        call: 0,
        flags: 0,
        tgid,
    }
}

#[inline(always)]
fn word(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address and fails on one that cannot be read.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// Reads `length` bytes, no more than the words have.
#[inline(always)]
fn read_into(words: &mut [u64], length: usize, address: u64) -> Option<()> {
    let into = words.as_mut_ptr().cast::<c_void>();
    // SAFETY: the helper checks the source; the caller sees to the length.
    let failed = unsafe { read_bytes(into, length as u32, address as *const c_void) };
    (failed == 0).then_some(())
}
