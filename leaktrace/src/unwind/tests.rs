//! Owns the tests of unwind tables: against gimli, against framehop, and with hostile files.
//! Must not know the probes.

mod agreement;
mod disk;
mod hostile;
mod steps;
mod walks;

use std::{
    fs::File,
    io::{Seek as _, Write as _},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::FrameSections;

/// The C library of this machine.
fn libc_path() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("we have mappings");
    let libc = maps
        .split_whitespace()
        .find(|it| it.contains("/libc.so") || it.contains("/libc-2"));
    libc.expect("tests are linked dynamically").to_owned()
}

/// The sections of a file.
fn sections(path: &str) -> FrameSections {
    FrameSections::read(&File::open(path).expect(path)).expect(path)
}

/// A file in memory.
fn file(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC).expect("memfd"));
    file.write_all(bytes).expect("memory");
    file.rewind().expect("a memfd can seek");
    file
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 29)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
