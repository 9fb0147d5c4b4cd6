//! Owns a known set of live blocks of Rust's own types in a program that knows no more of its C library than its names:
//! it is linked to musl, statically, of which Rust's own library for this host's target knows nothing.
//! Must not know how it is traced.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::{
    alloc::{GlobalAlloc, Layout},
    ffi::c_void,
    hint::black_box,
    ptr,
};

unsafe extern "C" {
    fn malloc(size: usize) -> *mut u8;
    fn realloc(block: *mut u8, size: usize) -> *mut u8;
    fn free(block: *mut u8);
    fn posix_memalign(block: *mut *mut u8, alignment: usize, size: usize) -> i32;
    fn read(fd: i32, buffer: *mut u8, length: usize) -> isize;
    fn write(fd: i32, buffer: *const u8, length: usize) -> isize;
    fn getpid() -> i32;
    fn _exit(status: i32) -> !;
}

/// What malloc aligns to.
const ALIGNED: usize = 16;

struct System;

/// As Rust's own library does on musl.
// SAFETY: malloc's blocks are as large and as aligned as asked for, until they are given back.
unsafe impl GlobalAlloc for System {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGNED {
            // SAFETY: any size may be asked for.
            return unsafe { malloc(layout.size()) };
        }
        let mut block = ptr::null_mut();
        // SAFETY: the alignment is a power of two, as `Layout` promises.
        let failed = unsafe { posix_memalign(&mut block, layout.align(), layout.size()) };
        if failed == 0 { block } else { ptr::null_mut() }
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the block came from `alloc`, as callers of `GlobalAlloc` promise.
        unsafe { free(block) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        assert!(layout.align() <= ALIGNED);
        // SAFETY: the block came from `malloc`, as callers of `GlobalAlloc` promise.
        unsafe { realloc(block, size) }
    }
}

#[global_allocator]
static ALLOCATOR: System = System;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing is left to do.
    unsafe { _exit(101) }
}

/// Rust's libraries name it, and nobody calls it where panics end the program.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The same.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}

/// Boxes that stay, and as many that do not.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn site_boxes(keep: &mut Vec<Box<[u8]>>) {
    for i in 0..100 {
        let block = alloc::vec![i as u8; 100 + i].into_boxed_slice();
        if i % 2 == 0 {
            keep.push(block);
        } else {
            drop(black_box(block));
        }
    }
}

/// One that grows, moves and is cut to what it holds.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn site_grows(grown: &mut Vec<u64>) {
    for i in 0..10_000 {
        grown.push(black_box(i));
    }
    grown.shrink_to_fit();
    black_box(grown);
}

#[repr(align(256))]
struct Aligned([u8; 512]);

/// More alignment than malloc gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn site_aligned() -> Box<Aligned> {
    drop(black_box(Box::new(Aligned([1; 512]))));
    Box::new(Aligned([2; 512]))
}

fn say(text: &str) {
    // SAFETY: as many bytes are there.
    unsafe { write(1, text.as_ptr(), text.len()) };
}

fn truth(pid: i32, function: &str, count: usize, bytes: usize) {
    let line: String = format!(
        "truth {{\"pid\":{pid},\"function\":\"{function}\",\"live_count\":{count},\"live_bytes\":{bytes}}}\n"
    );
    say(&line);
}

fn line() {
    let mut byte = 0;
    loop {
        // SAFETY: one byte is read into one.
        let got = unsafe { read(0, &mut byte, 1) };
        if got != 1 || byte == b'\n' {
            return;
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn main(_count: i32, _arguments: *const *const c_void) -> i32 {
    // SAFETY: it always can be asked.
    let pid = unsafe { getpid() };
    let mut keep: Vec<Box<[u8]>> = Vec::with_capacity(64);
    say(&format!("ready {pid}\n"));
    line();
    site_boxes(&mut keep);
    let mut grown = Vec::new();
    site_grows(&mut grown);
    let aligned = site_aligned();
    truth(pid, "site_boxes", keep.len(), keep.iter().map(|it| it.len()).sum());
    truth(pid, "site_grows", 1, grown.len() * 8);
    truth(pid, "site_aligned", 1, size_of_val(&*aligned));
    say("settled\n");
    line();
    black_box((&keep, &grown, &aligned.0));
    // SAFETY: nothing is left to do.
    unsafe { _exit(0) }
}
