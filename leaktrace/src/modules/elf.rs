//! Owns reading an ELF file's headers piece by piece, without mapping the file.
//! Must not know paths, processes or symbols.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use object::{
    LittleEndian,
    elf::{self, FileHeader64, ProgramHeader64, SectionHeader64},
    pod::{self, Pod},
    read::elf::NoteIterator,
};

use crate::host::maps::BuildId;

/// More program headers than any linker writes.
const SEGMENTS_MAX: u16 = 256;

/// More sections than a linked file has; objects with a section per function
/// have more, but are not mapped for execution.
const SECTIONS_MAX: u16 = 4096;

/// Enough for every note of a segment, of which the build id is 36 bytes.
const NOTES_BYTES_MAX: u64 = 64 * 1024;

/// The page size of x86-64, by which the kernel maps segments.
const PAGE_BYTES: u64 = 4096;

/// The headers of a 64-bit little-endian ELF file.
pub struct Headers {
    /// The file header.
    pub file: FileHeader64<LittleEndian>,
    /// The program headers.
    pub segments: Vec<ProgramHeader64<LittleEndian>>,
}

impl Headers {
    /// Reads them; fails for anything else than a file of this machine's kind.
    pub fn read(file: &File) -> io::Result<Self> {
        let header = *first::<FileHeader64<LittleEndian>>(&read_at(file, 0, 64)?)?;
        if header.e_ident.magic != elf::ELFMAG
            || header.e_ident.class != elf::ELFCLASS64
            || header.e_ident.data != elf::ELFDATA2LSB
        {
            return Err(invalid("not a 64-bit little-endian ELF file"));
        }
        let count = header.e_phnum.get(LittleEndian);
        if count > SEGMENTS_MAX {
            return Err(invalid("too many segments"));
        }
        let offset = header.e_phoff.get(LittleEndian);
        Ok(Self {
            file: header,
            segments: read_table(file, offset, usize::from(count))?,
        })
    }

    /// The GNU build id from the notes that are mapped with the file.
    pub fn build_id(&self, file: &File) -> Option<BuildId> {
        let notes = self
            .segments
            .iter()
            .filter(|it| it.p_type.get(LittleEndian) == elf::PT_NOTE);
        notes.into_iter().find_map(|segment| {
            let size = segment.p_filesz.get(LittleEndian).min(NOTES_BYTES_MAX);
            let bytes = read_at(file, segment.p_offset.get(LittleEndian), size).ok()?;
            let align = segment.p_align.get(LittleEndian);
            build_id_note(&bytes, align)
        })
    }

    /// The address in the file's own numbering that lies at a file offset.
    ///
    /// Only executable segments count. The kernel maps whole pages, and with lld
    /// two segments share one: the first that holds the page is often read-only
    /// and shifts every address.
    pub fn svma(&self, file_offset: u64) -> Option<u64> {
        let code = || {
            self.segments.iter().filter(|it| {
                it.p_type.get(LittleEndian) == elf::PT_LOAD
                    && it.p_flags.get(LittleEndian).contains(elf::PF_X)
            })
        };
        let exact = code().find(|it| {
            let offset = it.p_offset.get(LittleEndian);
            (offset..offset.saturating_add(it.p_filesz.get(LittleEndian))).contains(&file_offset)
        });
        let in_page = || {
            code().find(|it| {
                let offset = it.p_offset.get(LittleEndian);
                let end = offset.saturating_add(it.p_filesz.get(LittleEndian));
                let first = offset / PAGE_BYTES * PAGE_BYTES;
                (first..end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(end))
                    .contains(&file_offset)
            })
        };
        let segment = exact.or_else(in_page)?;
        let shift = segment
            .p_vaddr
            .get(LittleEndian)
            .wrapping_sub(segment.p_offset.get(LittleEndian));
        Some(file_offset.wrapping_add(shift))
    }

    /// The section headers; none where the file was stripped of them.
    pub fn sections(&self, file: &File) -> io::Result<Vec<SectionHeader64<LittleEndian>>> {
        let count = self.file.e_shnum.get(LittleEndian);
        if count > SECTIONS_MAX {
            return Err(invalid("too many sections"));
        }
        read_table(
            file,
            self.file.e_shoff.get(LittleEndian),
            usize::from(count),
        )
    }
}

/// Finds the build id among notes.
fn build_id_note(bytes: &[u8], align: u64) -> Option<BuildId> {
    type Header = FileHeader64<LittleEndian>;
    let mut notes = NoteIterator::<Header>::new(LittleEndian, align, bytes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(LittleEndian) == elf::NT_GNU_BUILD_ID {
            return BuildId::from_bytes(note.desc());
        }
    }
    None
}

/// Reads exactly these bytes. The caller caps `size`; a size that the file does
/// not have fails before memory is taken for it.
pub fn read_at(file: &File, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    if offset
        .checked_add(size)
        .is_none_or(|end| end > file.metadata().map_or(0, |it| it.len()))
    {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Reads a table of fixed-size entries.
fn read_table<T: Pod>(file: &File, offset: u64, count: usize) -> io::Result<Vec<T>> {
    let bytes = read_at(file, offset, (count * size_of::<T>()) as u64)?;
    let (table, _) =
        pod::slice_from_bytes(&bytes, count).map_err(|()| invalid("table cut short"))?;
    Ok(table.to_vec())
}

/// The value at the beginning of some bytes.
pub fn first<T: Pod>(bytes: &[u8]) -> io::Result<&T> {
    pod::from_bytes(bytes)
        .map(|(value, _)| value)
        .map_err(|()| invalid("header cut short"))
}

/// An error about what the file holds.
pub fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
