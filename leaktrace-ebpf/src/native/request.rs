//! Owns what a call of an allocator asks for, as its arguments tell.
//! Must not know what comes of it.

use leaktrace_common::cookie::{Cookie, NO_ARGUMENT, Shape};

use crate::registers::UserRegisters;

/// A call of an allocator, as its arguments tell.
pub(super) struct Request {
    pub size: u64,
    pub pointer: u64,
}

/// `Shape::returns_block` of a number.
#[inline(always)]
pub(super) fn returns_block(shape: u8) -> bool {
    shape < Shape::Free as u8
}

#[inline(always)]
pub(super) fn is_resize(shape: u8, pointer: u64) -> bool {
    let resizes = shape == Shape::Resize as u8
        || shape == Shape::ResizeOrFree as u8
        || shape == Shape::ResizeInPlace as u8;
    resizes && pointer != 0
}

#[inline(always)]
pub(super) fn request(registers: &UserRegisters, cookie: Cookie) -> Request {
    // Each is loaded for itself: the verifier refuses a load from an offset that is computed, which
    // the compiler would make of a choice between loads.
    // SAFETY: a reference to a register within the program's own context.
    let load = |register: &u64| unsafe { core::ptr::read_volatile(register) };
    let [first, second, third, fourth] = registers.arguments();
    let (first, second, third, fourth) = (load(first), load(second), load(third), load(fourth));
    let argument = |number: u8| match number {
        0 => first,
        1 => second,
        2 => third,
        3 => fourth,
        _ => 0,
    };
    let size = argument(cookie.size());
    let size = if cookie.count() == NO_ARGUMENT {
        size
    } else {
        product(argument(cookie.count()), size)
    };
    Request {
        size,
        pointer: argument(cookie.pointer()),
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
