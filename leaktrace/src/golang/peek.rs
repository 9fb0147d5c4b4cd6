//! Owns telling from the names of a file's sections that it is no program of Go's, before more of it is read.
//! Must not know what a program of Go's holds.

use super::binary::is_of_go;
use crate::binary::{
    elf::{Elf, header_ranges},
    sparse::{Read, Sparse},
};

/// Bytes of a file header.
const FILE_HEADER_BYTES: u64 = 64;

/// More bytes of names than any linker writes for sections.
const NAMES_BYTES_MAX: u64 = 1 << 20;

/// Whether a file may be a program of Go's. Most are not, and large ones among them: reading all of each costs more than
/// anything else at the beginning of a trace of a whole host.
#[must_use]
pub fn may_be_go(length: u64, read: Read<'_>) -> bool {
    // Where the file has no names of sections, nothing can be told from them.
    has_sections_of_go(length, read).unwrap_or(true)
}

fn has_sections_of_go(length: u64, read: Read<'_>) -> Option<bool> {
    let mut image = Sparse::new(length, read).ok()?;
    image.load(0..FILE_HEADER_BYTES).ok()?;
    for range in header_ranges(image.bytes())? {
        image.load(range).ok()?;
    }
    let range = Elf::parse_symbols(image.bytes()).ok()?.section_names()?;
    if range.end - range.start > NAMES_BYTES_MAX {
        return None;
    }
    image.load(range).ok()?;
    let elf = Elf::parse_symbols(image.bytes()).ok()?;
    Some(elf.sections().any(|(name, _)| is_of_go(name)))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use super::*;

    /// A program in C is known for what it is from some kilobytes of it, and one without names of sections may be
    /// anything.
    #[test]
    fn little_is_read_of_other_programs() {
        let file = fs::File::open("/bin/ls").unwrap();
        let length = file.metadata().unwrap().len();
        let read_bytes = std::cell::Cell::new(0);
        let read = |offset: u64, buffer: &mut [u8]| {
            read_bytes.set(read_bytes.get() + buffer.len());
            file.read_exact_at(buffer, offset)
        };
        assert!(!may_be_go(length, &read));
        assert!(read_bytes.get() < 16 << 10, "{}", read_bytes.get());
        let bare = |_: u64, buffer: &mut [u8]| {
            buffer.fill(0);
            Ok(())
        };
        assert!(may_be_go(length, &bare));
    }
}
