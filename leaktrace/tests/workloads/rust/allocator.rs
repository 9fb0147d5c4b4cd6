//! Owns a known set of live blocks of Rust's own types, on a global allocator that is chosen when it is built: jemalloc
//! under the prefix that Rust's crates give it (`--cfg jemalloc`), mimalloc (`--cfg mimalloc`), Google's tcmalloc
//! (`--cfg tcmalloc`), one of its own that has no names (`--cfg bump`), else the system's.
//! Must not know how it is traced.

use std::{
    alloc::{GlobalAlloc, Layout},
    collections::HashMap,
    hint::black_box,
    io::Write as _,
};

unsafe extern "C" {
    fn read(fd: i32, buffer: *mut u8, length: usize) -> isize;
    fn _exit(status: i32) -> !;
}

#[cfg(jemalloc)]
mod jemalloc {
    unsafe extern "C" {
        pub fn _rjem_mallocx(size: usize, flags: i32) -> *mut u8;
        pub fn _rjem_rallocx(block: *mut u8, size: usize, flags: i32) -> *mut u8;
        pub fn _rjem_sdallocx(block: *mut u8, size: usize, flags: i32);
    }
}

#[cfg(mimalloc)]
mod mimalloc {
    unsafe extern "C" {
        pub fn mi_malloc_aligned(size: usize, alignment: usize) -> *mut u8;
        pub fn mi_zalloc_aligned(size: usize, alignment: usize) -> *mut u8;
        pub fn mi_realloc_aligned(block: *mut u8, size: usize, alignment: usize) -> *mut u8;
        pub fn mi_free(block: *mut u8);
    }
}

#[cfg(tcmalloc)]
mod tcmalloc {
    unsafe extern "C" {
        pub fn BridgeTCMallocInternalNewAlignedNothrow(size: usize, alignment: usize) -> *mut u8;
        pub fn TCMallocInternalDeleteSizedAligned(block: *mut u8, size: usize, alignment: usize);
    }
}

struct Chosen;

/// As the crate `mimalloc` calls it.
// SAFETY: mimalloc's blocks are as large and as aligned as asked for, until they are given back; mimalloc keeps that.
#[cfg(mimalloc)]
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { mimalloc::mi_malloc_aligned(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { mimalloc::mi_zalloc_aligned(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the block came from `alloc`, as callers of `GlobalAlloc` promise.
        unsafe { mimalloc::mi_free(block) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`.
        unsafe { mimalloc::mi_realloc_aligned(block, size, layout.align()) }
    }
}

/// As `tikv-jemallocator` calls it.
// SAFETY: jemalloc's blocks are as large and as aligned as asked for, until they are given back; jemalloc keeps that.
#[cfg(jemalloc)]
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let flags = layout.align().trailing_zeros() as i32;
        // SAFETY: the size is not zero, as callers of `GlobalAlloc` promise.
        unsafe { jemalloc::_rjem_mallocx(layout.size(), flags) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let flags = layout.align().trailing_zeros() as i32;
        // SAFETY: the block came from `alloc` with this layout, as callers of `GlobalAlloc` promise.
        unsafe { jemalloc::_rjem_sdallocx(block, layout.size(), flags) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let flags = layout.align().trailing_zeros() as i32;
        // SAFETY: as for `dealloc`, and the new size is not zero.
        unsafe { jemalloc::_rjem_rallocx(block, size, flags) }
    }
}

/// As the crate `tcmalloc-better` calls it.
// SAFETY: tcmalloc's blocks are as large and as aligned as asked for, until they are given back; tcmalloc keeps that.
#[cfg(tcmalloc)]
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { tcmalloc::BridgeTCMallocInternalNewAlignedNothrow(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` with this layout, as callers of `GlobalAlloc` promise.
        unsafe { tcmalloc::TCMallocInternalDeleteSizedAligned(block, layout.size(), layout.align()) }
    }
}

// SAFETY: it is the system's allocator, which is one.
#[cfg(not(any(jemalloc, mimalloc, tcmalloc, bump)))]
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { std::alloc::System.dealloc(block, layout) }
    }
}

#[cfg(bump)]
mod bump {
    use std::sync::atomic::AtomicUsize;

    /// More than the program asks for.
    pub const ARENA_BYTES: usize = 64 << 20;
    /// Where the memory begins that nobody has, once there is any.
    pub static NEXT: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" {
        pub fn mmap(at: *mut u8, length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    }
}

/// It hands out the kernel's memory from one end to the other and takes nothing back.
// SAFETY: no two blocks overlap, and each is as aligned as asked for.
#[cfg(bump)]
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        use std::sync::atomic::Ordering::Relaxed;
        if bump::NEXT.load(Relaxed) == 0 {
            const READ_WRITE: i32 = 3;
            const PRIVATE_ANONYMOUS: i32 = 0x22;
            // SAFETY: a new mapping replaces nothing. Before there is a second thread nobody else asks.
            let arena = unsafe {
                bump::mmap(std::ptr::null_mut(), bump::ARENA_BYTES, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
            };
            bump::NEXT.store(arena as usize, Relaxed);
        }
        let taken = bump::NEXT.fetch_add(layout.size() + layout.align(), Relaxed);
        taken.next_multiple_of(layout.align()) as *mut u8
    }

    unsafe fn dealloc(&self, _block: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

/// Boxes and vectors that stay, and as many that do not.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn site_boxes(keep: &mut Vec<Box<[u8]>>) {
    for i in 0..100 {
        let block = vec![i as u8; 100 + i].into_boxed_slice();
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

/// What a program does all the time, and leaves nothing of.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn site_nothing() {
    let mut words: HashMap<String, String> = HashMap::new();
    for i in 0..1000 {
        words.insert(format!("key {i}"), format!("value {i}"));
    }
    black_box(&words);
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

fn main() {
    let pid = std::process::id();
    // Before anything is traced: the buffers of stdout and of a hash's keys are nobody's truth.
    let mut keep: Vec<Box<[u8]>> = Vec::with_capacity(64);
    black_box(HashMap::<u8, u8>::new());
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {pid}").unwrap();
    line();
    site_boxes(&mut keep);
    let mut grown = Vec::new();
    site_grows(&mut grown);
    let aligned = site_aligned();
    site_nothing();
    let mut truth = |function: &str, count: usize, bytes: usize| {
        writeln!(
            out,
            "truth {{\"pid\":{pid},\"function\":\"{function}\",\"live_count\":{count},\"live_bytes\":{bytes}}}"
        )
        .unwrap();
    };
    truth("site_boxes", keep.len(), keep.iter().map(|it| it.len()).sum());
    truth("site_grows", 1, grown.len() * 8);
    truth("site_aligned", 1, size_of_val(&*aligned));
    writeln!(out, "settled").unwrap();
    line();
    black_box((&keep, &grown, &aligned.0));
    // SAFETY: nothing is left to do.
    unsafe { _exit(0) }
}
