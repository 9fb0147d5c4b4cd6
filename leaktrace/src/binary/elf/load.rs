//! Owns the translation between addresses and file offsets within one loaded segment.
//! Must not know symbols or what the bytes mean.

use std::ops::Range;

use object::elf;
use object::read::elf::ProgramHeader as _;

use super::{Elf, LE, Segment};

/// The file-backed part of one PT_LOAD.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// The address of the first byte.
    pub svma: u64,
    /// Where that byte lies in the file.
    pub file_offset: u64,
    /// How many bytes the file gives; what memory has beyond them is zero.
    pub file_size: u64,
    /// Whether the bytes are mapped as code.
    pub executable: bool,
    /// Whether the program can write to them.
    pub writable: bool,
}

impl Load {
    /// The load of a PT_LOAD header, unless it cannot be mapped.
    pub fn from_segment(segment: &Segment) -> Option<Load> {
        if segment.p_type(LE) != elf::PT_LOAD {
            return None;
        }
        let (file_offset, file_size) = segment.file_range(LE);
        let svma = segment.p_vaddr(LE);
        // A range that wraps around cannot be mapped; dropping it here keeps later sums exact.
        svma.checked_add(file_size)?;
        file_offset.checked_add(file_size)?;
        let executable = segment.p_flags(LE).0 & elf::PF_X.0 != 0;
        let writable = segment.p_flags(LE).0 & elf::PF_W.0 != 0;
        Some(Load {
            svma,
            file_offset,
            file_size,
            executable,
            writable,
        })
    }

    /// Where the byte at an address lies in the file, if this load has it.
    pub fn offset_of(&self, svma: u64) -> Option<u64> {
        let distance = svma.checked_sub(self.svma)?;
        (distance < self.file_size).then(|| self.file_offset + distance)
    }
}

impl Elf<'_> {
    /// Where the variables lie, as the file states it.
    pub fn writable_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let is_writable =
            |it: &&Segment| it.p_type(LE) == elf::PT_LOAD && it.p_flags(LE).0 & elf::PF_W.0 != 0;
        let writable = self.segments.iter().filter(is_writable);
        writable.map(|it| it.p_vaddr(LE)..it.p_vaddr(LE).saturating_add(it.p_memsz(LE)))
    }
}
