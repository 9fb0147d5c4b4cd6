//! Owns finding a file's call frame information and where its code lies.
//! Must not know what the bytes of a section mean.

use std::{fs::File, io};

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian as GimliLittleEndian, Pointer};
use object::{
    LittleEndian as LE,
    elf::{self, ProgramHeader64, SectionHeader64},
};

use crate::modules::elf::{Headers, invalid, read_at};

/// As much of one section as is read. The largest `.eh_frame` known is Chrome's, about 25 MB.
const SECTION_BYTES_MAX: u64 = 64 << 20;

/// As many bytes of section names as are read; linkers write some hundreds.
const NAMES_BYTES_MAX: u64 = 64 << 10;

/// Sections that only Go's linker writes.
const GO_SECTIONS: [&[u8]; 2] = [b".gopclntab", b".go.buildinfo"];

/// A stretch of code: one executable segment as far as the file backs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// The address of its first byte in the file's own numbering.
    pub svma: u64,
    /// Where that byte lies in the file. Code beyond 4 GiB of a file has no rows.
    pub file_offset: u32,
    /// Length in bytes; neither end leaves its number's range.
    pub size_bytes: u32,
}

/// A section with the address that its pointers are relative to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Section {
    /// The address of the first byte.
    pub svma: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// All of a file that its table depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameSections {
    /// `.eh_frame`, what exceptions are thrown by; empty where there is none.
    pub eh_frame: Section,
    /// `.debug_frame`, what debuggers use; empty where there is none.
    pub debug_frame: Section,
    /// The code, at least one stretch.
    pub code: Vec<Code>,
}

impl FrameSections {
    /// Reads what there is of a file: both sections may be missing.
    ///
    /// Fails where the file cannot be read or is no x86-64 program or library. Reads copies, since
    /// a mapped file that its owner shortens would kill the agent.
    pub fn read(file: &File) -> io::Result<Self> {
        let headers = Headers::read(file)?;
        if headers.file.e_machine.get(LE) != elf::EM_X86_64 {
            return Err(invalid("not for x86-64"));
        }
        let code: Vec<Code> = headers.segments.iter().filter_map(code).collect();
        if code.is_empty() {
            return Err(invalid("no code"));
        }
        let mut found = Self {
            code,
            ..Self::default()
        };
        // Headers of sections may be stripped or broken: nothing needs them to run.
        if let Ok(sections) = headers.sections(file) {
            found.read_sections(file, &headers, &sections);
        }
        if found.eh_frame.bytes.is_empty() {
            found.eh_frame = by_segment(file, &headers.segments).unwrap_or_default();
        }
        Ok(found)
    }

    /// Takes the sections by name.
    fn read_sections(
        &mut self,
        file: &File,
        headers: &Headers,
        sections: &[SectionHeader64<LE>],
    ) -> Option<()> {
        let names = sections.get(usize::from(headers.file.e_shstrndx.get(LE).0))?;
        let size = names.sh_size.get(LE).min(NAMES_BYTES_MAX);
        let names = read_at(file, names.sh_offset.get(LE), size).ok()?;
        let named = |name: &[u8]| sections.iter().find(|it| is_named(it, &names, name));
        if let Some(section) = named(b".eh_frame") {
            self.eh_frame = read(file, section).unwrap_or_default();
        }
        // Go's call frame information does not say where rbp is, which its code keeps as a frame
        // pointer, and does not know of the switch between the stacks of Go and C.
        if GO_SECTIONS.iter().all(|name| named(name).is_none())
            && let Some(section) = named(b".debug_frame")
        {
            self.debug_frame = read(file, section).unwrap_or_default();
        }
        Some(())
    }
}

/// A segment's code, if it has any that can be addressed.
fn code(segment: &ProgramHeader64<LE>) -> Option<Code> {
    if segment.p_type.get(LE) != elf::PT_LOAD || !segment.p_flags.get(LE).contains(elf::PF_X) {
        return None;
    }
    let svma = segment.p_vaddr.get(LE);
    let file_offset = u32::try_from(segment.p_offset.get(LE)).ok()?;
    let room = u64::from(u32::MAX - file_offset);
    let size = segment.p_filesz.get(LE).min(room);
    svma.checked_add(size)?;
    Some(Code {
        svma,
        file_offset,
        size_bytes: u32::try_from(size).ok().filter(|size| *size > 0)?,
    })
}

fn is_named(section: &SectionHeader64<LE>, names: &[u8], name: &[u8]) -> bool {
    let at = section.sh_name.get(LE) as usize;
    names
        .get(at..)
        .and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest.first() == Some(&0))
}

/// A section's bytes; none of what is not in the file, compressed or too large.
fn read(file: &File, section: &SectionHeader64<LE>) -> Option<Section> {
    let size = section.sh_size.get(LE);
    let absent = section.sh_type.get(LE) == elf::SHT_NOBITS;
    let compressed = section.sh_flags.get(LE).contains(elf::SHF_COMPRESSED);
    if absent || compressed || size > SECTION_BYTES_MAX {
        return None;
    }
    Some(Section {
        svma: section.sh_addr.get(LE),
        bytes: read_at(file, section.sh_offset.get(LE), size).ok()?,
    })
}

/// `.eh_frame` as the program itself finds it when it throws: by PT_GNU_EH_FRAME.
fn by_segment(file: &File, segments: &[ProgramHeader64<LE>]) -> Option<Section> {
    /// Version, three encodings, and a pointer of at most 8 bytes.
    const HEADER_BYTES: u64 = 12;
    let segment = segments
        .iter()
        .find(|it| it.p_type.get(LE) == elf::PT_GNU_EH_FRAME)?;
    let size = segment.p_filesz.get(LE).min(HEADER_BYTES);
    let header = read_at(file, segment.p_offset.get(LE), size).ok()?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(segment.p_vaddr.get(LE));
    // The count is absent here, which the parser takes as "no search table".
    let mut header = header;
    *header.get_mut(2)? = gimli::constants::DW_EH_PE_omit.0;
    let header = EhFrameHdr::new(&header, GimliLittleEndian);
    let Pointer::Direct(svma) = header.parse(&bases, 8).ok()?.eh_frame_ptr() else {
        return None;
    };
    let load = segments.iter().find(|it| {
        let from = it.p_vaddr.get(LE);
        it.p_type.get(LE) == elf::PT_LOAD && svma >= from && svma - from < it.p_filesz.get(LE)
    })?;
    let distance = svma - load.p_vaddr.get(LE);
    let size = (load.p_filesz.get(LE) - distance).min(SECTION_BYTES_MAX);
    let offset = load.p_offset.get(LE).checked_add(distance)?;
    let mut bytes = read_at(file, offset, size).ok()?;
    bytes.truncate(terminated_size(&bytes));
    Some(Section { svma, bytes })
}

/// How long the entries are up to the one of length 0 that ends the section.
fn terminated_size(bytes: &[u8]) -> usize {
    /// Says that 8 bytes of length follow; no linker writes such an entry in `.eh_frame`.
    const LONG_ENTRY: u32 = 0xffff_ffff;
    let mut at = 0;
    while let Some((length, _)) = bytes.get(at..).and_then(|it| it.split_first_chunk::<4>()) {
        let length = u32::from_le_bytes(*length);
        let next = at.saturating_add(4).saturating_add(length as usize);
        if length == 0 || length == LONG_ENTRY || next > bytes.len() {
            break;
        }
        at = next;
    }
    at
}
