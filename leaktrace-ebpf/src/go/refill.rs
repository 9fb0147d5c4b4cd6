//! Owns the probe of Go's allocator where its cache asks for blocks, so that small ones cost one trap in many.
//! Must not know how a block is sent, or who dies.
//!
//! A cache gets up to 64 free slots of a span at once, hands out the first and later the others, without passing
//! here. So a hit stands for all of them, and its own block is recorded with as many times the probability. What
//! a collection takes from the cache before it was handed out was counted too soon: the span's sweep notes how
//! many that are, and the class's next refills count so many less.

use aya_ebpf::programs::ProbeContext;
use leaktrace_common::{
    config::ProbeConfig,
    counter::Counter,
    go::{RefillCookie, SweepCookie, WIDE_SLOTS, left_unasked, place},
    policy::watched,
};

use super::{Block, at_probe, field, indices, is_asked_for, send, word};
use crate::{count, maps::GO_UNUSED, registers::UserRegisters, sampling};

/// hook: `runtime.(*mcache).nextFree` and `runtime.(*mcache).allocLarge`, where the block is known.
#[inline(always)]
pub fn refill(ctx: &ProbeContext) -> u32 {
    at_probe(ctx, |registers, tgid, cookie, config| {
        try_refill(registers, tgid, RefillCookie::unpack(cookie), config)
    })
}

#[inline(always)]
fn try_refill(
    registers: &UserRegisters,
    tgid: u32,
    cookie: RefillCookie,
    config: &ProbeConfig,
) -> Result<(), Counter> {
    let policy = sampling::policy_at_hit(tgid, false, config);
    if !policy.watches(watched::ALLOCATIONS) {
        return Ok(());
    }
    let unreadable = Counter::GoBlocksUnreadable;
    let at = |place| match place {
        place::RAX => Some(registers.result()),
        place::RBX => Some(registers.second_result_of_go()),
        slot => word(registers.stack_pointer().wrapping_add(u64::from(slot) * 8)),
    };
    let span = at(cookie.span).ok_or(unreadable)?;
    let bytes = field(span, cookie.slot_bytes).ok_or(unreadable)?;
    let (address, count) = if cookie.block == place::SPAN {
        let start = field(span, cookie.free_index).ok_or(unreadable)?;
        (start, 1)
    } else {
        let address = at(cookie.block).ok_or(unreadable)?;
        let is_wide = cookie.depth & WIDE_SLOTS != 0;
        let (free_index, slot_count) =
            indices(span, cookie.free_index, is_wide).ok_or(unreadable)?;
        let cache = field(span, cookie.cache).ok_or(unreadable)?;
        let class = class(span, cookie.class).ok_or(unreadable)?;
        let brought = 1 + left_unasked(free_index, slot_count, cache);
        (address, brought - used_up(tgid, class, brought))
    };
    if !is_asked_for(bytes, config) || !sampling::takes_one_of(count, bytes, &policy) {
        return Ok(());
    }
    let block = Block {
        address,
        bytes,
        flags: 0,
    };
    let depth = cookie.depth & !WIDE_SLOTS;
    send(registers, tgid, depth, block, &policy, config)
}

/// The span's class, a byte, of which reads may go beyond.
#[inline(always)]
fn class(span: u64, offset: u8) -> Option<u8> {
    Some(field(span, offset)? as u8)
}

#[inline(always)]
fn key(tgid: u32, class: u8) -> u64 {
    u64::from(tgid) << 32 | u64::from(class)
}

/// How many of so many blocks were counted before, when a cache got them that did not hand them out. They are
/// counted no more then.
#[inline(always)]
fn used_up(tgid: u32, class: u8, brought: u64) -> u64 {
    let Some(unused) = GO_UNUSED.get_ptr_mut(&key(tgid, class)) else {
        return 0;
    };
    // SAFETY: a map value, alive while the program runs; it is aligned, and only ever added to.
    let left = unsafe { unused.read() }.cast_signed();
    // Two threads may both have taken the last.
    if left <= 0 {
        return 0;
    }
    let used = left.cast_unsigned().min(brought);
    count::add(unused, used.wrapping_neg());
    used
}

/// Notes the slots of a span that is swept which its refills counted, and which were not handed out.
#[inline(always)]
pub fn take_back(
    tgid: u32,
    span: u64,
    free_index: u64,
    slot_count: u64,
    cookie: SweepCookie,
) -> Option<()> {
    // No cache has had it since it was swept the last time.
    if free_index == 0 {
        return Some(());
    }
    let unused = left_unasked(free_index, slot_count, field(span, cookie.cache)?);
    if unused == 0 {
        return Some(());
    }
    let key = key(tgid, class(span, cookie.class)?);
    match GO_UNUSED.get_ptr_mut(&key) {
        Some(known) => count::add(known, unused),
        None => {
            // Where another thread was first, or the table is full, a few blocks are counted twice.
            let _ = GO_UNUSED.insert(&key, &unused, 0);
        }
    }
    Some(())
}
