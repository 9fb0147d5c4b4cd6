//! Owns what blazesym gets to see of a module: files it can map without danger.
//! Must not know blazesym, requests or names.

mod separate;

use std::{
    cell::OnceCell,
    fs::File,
    io::{self, Read, Write as _},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    sync::Arc,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use object::{
    LittleEndian,
    elf::{self, CompressionHeader64, FileHeader64, SectionHeader64},
    pod,
};

use super::fetcher::Fetcher;
use crate::{
    modules::{
        Module,
        elf::{Headers, first, invalid, read_at},
    },
    unwind::{FrameSections, Table},
};

/// As much of one file as is copied. Debug info beyond is left out: names from
/// symbol tables then still resolve, lines do not.
const COPY_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// As much as compressed sections of one file may unfold to.
const UNFOLDED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// As much as compressed sections of a file of root's own may claim to unfold to: the largest programs have some hundred
/// megabytes of debug info. What is claimed is asked of the allocator before the first byte, and the agent ends where it has
/// no such amount.
const CLAIMED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The tables that hold names; cheap, and all that most files have.
const SYMBOL_SECTIONS: [&str; 5] = [".symtab", ".strtab", ".dynsym", ".dynstr", ".gnu_debugdata"];

/// The debug sections that names, inlining and lines come from.
const DEBUG_SECTIONS: [&str; 11] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_aranges",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
    ".debug_types",
];

/// A file for blazesym.
pub(super) struct Source {
    /// Keeps the descriptor, and so the path, valid.
    file: Arc<File>,
    /// Whether it may hold debug info.
    pub(super) has_debug_info: bool,
    /// How much memory the copy takes; 0 where the file itself is used.
    pub(super) copied_bytes: u64,
}

impl Source {
    /// The path under which this process can open it.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

/// All that is needed to look names up in a module.
pub(super) struct Image {
    headers: Headers,
    /// In the order to ask: separate debug info knows the most.
    pub(super) sources: Vec<Source>,
    file: Arc<File>,
    /// Where functions begin and end, once one without a name was met.
    functions: OnceCell<Vec<(u32, u32)>>,
}

impl Image {
    /// Prepares a module's file.
    ///
    /// blazesym maps what it reads. A file that a user shortens meanwhile would
    /// kill the agent (SIGBUS), and a file that names its debug file, as every ELF
    /// file can, would lead it to any path: a pipe that never answers, say. So a
    /// file that others than root can write is not given to it: it gets a
    /// copy of the tables that hold names, and nothing else. So it does of a
    /// damaged file whose sections claim to be larger than memory.
    pub(super) fn prepare(module: &Module, servers: &mut Fetcher) -> io::Result<Self> {
        let Some(file) = &module.file else {
            return Err(invalid("no file"));
        };
        let headers = Headers::read(file)?;
        let mut sources = Vec::new();
        sources.extend(separate::find(&headers, module, file, servers));
        // What the separate file does not know of debug info, this one does not
        // know either: two readings of the same would only take memory.
        let needs_debug_info = sources.is_empty();
        sources.push(if module.trusted && claims_within(&headers, file) {
            Source {
                file: Arc::clone(file),
                has_debug_info: needs_debug_info,
                copied_bytes: 0,
            }
        } else {
            copy(&headers, file, needs_debug_info)?
        });
        Ok(Self {
            headers,
            sources,
            file: Arc::clone(file),
            functions: OnceCell::new(),
        })
    }

    /// How large the files are that may hold debug info.
    pub(super) fn debug_bytes(&self) -> u64 {
        let size = |it: &Source| it.file.metadata().map_or(0, |status| status.len());
        let sources = self.sources.iter().filter(|it| it.has_debug_info);
        sources.map(size).sum()
    }

    /// Where the function begins that holds at a file offset, by what exceptions are thrown by.
    pub(super) fn function_start(&self, file_offset: u64) -> Option<u32> {
        let file_offset = u32::try_from(file_offset).ok()?;
        let functions = self.functions.get_or_init(|| {
            let sections = FrameSections::read(&self.file).unwrap_or_default();
            Table::functions(&sections)
        });
        let after = functions.partition_point(|(start, _)| *start <= file_offset);
        let (start, end) = functions[after.checked_sub(1)?];
        (file_offset < end).then_some(start)
    }

    /// The address in the file's own numbering.
    pub(super) fn svma(&self, file_offset: u64) -> Option<u64> {
        self.headers.svma(file_offset)
    }
}

/// One section that goes into a copy.
struct Kept {
    name: &'static str,
    header: SectionHeader64<LittleEndian>,
}

/// Copies the tables that hold names into memory of our own.
fn copy(headers: &Headers, file: &File, needs_debug_info: bool) -> io::Result<Source> {
    let is_debug = |it: &Kept| DEBUG_SECTIONS.contains(&it.name);
    let mut kept = wanted_sections(headers, file)?;
    kept.retain(|it| needs_debug_info || !is_debug(it));
    let size = |kept: &[Kept]| -> u64 {
        kept.iter().fold(0, |sum, it| {
            sum.saturating_add(it.header.sh_size.get(LittleEndian))
        })
    };
    if size(&kept) > COPY_BYTES_MAX || !unfolds_within(&kept, file, UNFOLDED_BYTES_MAX) {
        kept.retain(|it| !is_debug(it));
    }
    if size(&kept) > COPY_BYTES_MAX {
        return Err(invalid("symbol tables too large"));
    }
    if !unfolds_within(&kept, file, UNFOLDED_BYTES_MAX) {
        return Err(invalid("compressed symbol tables too large"));
    }
    let has_debug_info = kept.iter().any(is_debug);
    let (file, copied_bytes) = write_copy(headers, file, &kept)?;
    Ok(Source {
        file: Arc::new(file),
        has_debug_info,
        copied_bytes,
    })
}

/// The sections worth copying, each name once.
fn wanted_sections(headers: &Headers, file: &File) -> io::Result<Vec<Kept>> {
    /// More names than `SECTIONS_MAX` sections have.
    const NAMES_BYTES_MAX: u64 = 256 * 1024;
    let sections = headers.sections(file)?;
    let names = usize::from(headers.file.e_shstrndx.get(LittleEndian).0);
    let Some(names) = sections.get(names) else {
        return Ok(Vec::new());
    };
    let size = names.sh_size.get(LittleEndian).min(NAMES_BYTES_MAX);
    let names = read_at(file, names.sh_offset.get(LittleEndian), size)?;
    let mut kept: Vec<Kept> = Vec::new();
    for header in sections {
        let start = header.sh_name.get(LittleEndian) as usize;
        let Some(name) = names
            .get(start..)
            .and_then(|it| it.split(|byte| *byte == 0).next())
        else {
            continue;
        };
        let wanted = SYMBOL_SECTIONS.iter().chain(&DEBUG_SECTIONS);
        if let Some(name) = wanted.copied().find(|it| it.as_bytes() == name)
            && header.sh_type.get(LittleEndian) != elf::SHT_NOBITS
            && kept.iter().all(|it| it.name != name)
        {
            kept.push(Kept { name, header });
        }
    }
    Ok(kept)
}

/// Whether compressed sections, of whatever name, claim to unfold to no more than is allowed of files of root's own.
fn claims_within(headers: &Headers, file: &File) -> bool {
    let claim = |header: &SectionHeader64<LittleEndian>| -> Option<u64> {
        if !header
            .sh_flags
            .get(LittleEndian)
            .contains(elf::SHF_COMPRESSED)
        {
            return Some(0);
        }
        let length = size_of::<CompressionHeader64<LittleEndian>>() as u64;
        let bytes = read_at(file, header.sh_offset.get(LittleEndian), length).ok()?;
        let header = first::<CompressionHeader64<LittleEndian>>(&bytes).ok()?;
        Some(header.ch_size.get(LittleEndian))
    };
    let Ok(sections) = headers.sections(file) else {
        return false;
    };
    let mut sections = sections.iter();
    let sum = sections.try_fold(0_u64, |sum, it| sum.checked_add(claim(it)?));
    sum.is_some_and(|sum| sum <= CLAIMED_BYTES_MAX)
}

/// Whether all compressed sections together unfold to no more than this. blazesym
/// unfolds into memory without a limit, and a section of a megabyte can hold a
/// terabyte: so all is unfolded once into nothing.
fn unfolds_within(kept: &[Kept], file: &File, bytes_max: u64) -> bool {
    let mut left = bytes_max;
    kept.iter().all(|it| {
        let compressed = it
            .header
            .sh_flags
            .get(LittleEndian)
            .contains(elf::SHF_COMPRESSED);
        if !compressed && it.name != ".gnu_debugdata" {
            return true;
        }
        let size = it.header.sh_size.get(LittleEndian);
        let bytes = match read_at(file, it.header.sh_offset.get(LittleEndian), size) {
            Ok(bytes) if size <= COPY_BYTES_MAX => bytes,
            _ => return false,
        };
        let unfolded = if compressed {
            unfold_section(&bytes, left)
        } else {
            unfold_xz(&bytes, left)
        };
        match unfolded {
            Ok(bytes) if bytes <= left => {
                left -= bytes;
                true
            }
            _ => false,
        }
    })
}

/// Unfolds a compressed section and says how large it is.
fn unfold_section(bytes: &[u8], bytes_max: u64) -> io::Result<u64> {
    let header = first::<CompressionHeader64<LittleEndian>>(bytes)?;
    // The size that the header claims is reserved before the first byte.
    if header.ch_size.get(LittleEndian) > bytes_max {
        return Err(invalid("compressed section too large"));
    }
    let body = &bytes[size_of::<CompressionHeader64<LittleEndian>>()..];
    match header.ch_type.get(LittleEndian) {
        elf::ELFCOMPRESS_ZLIB => measure(flate2::bufread::ZlibDecoder::new(body), bytes_max),
        elf::ELFCOMPRESS_ZSTD => measure(zstd::stream::Decoder::with_buffer(body)?, bytes_max),
        _ => Err(invalid("unknown compression")),
    }
}

/// Unfolds the small symbol table that Fedora puts into stripped files.
fn unfold_xz(bytes: &[u8], bytes_max: u64) -> io::Result<u64> {
    let stream = xz2::stream::Stream::new_stream_decoder(UNFOLDED_BYTES_MAX, 0)?;
    measure(
        xz2::bufread::XzDecoder::new_stream(bytes, stream),
        bytes_max,
    )
}

/// Counts what a reader gives, up to one byte more than allowed.
fn measure(reader: impl Read, bytes_max: u64) -> io::Result<u64> {
    io::copy(
        &mut reader.take(bytes_max.saturating_add(1)),
        &mut io::sink(),
    )
}

/// Writes an ELF file of these sections alone.
///
/// Names of sections and links between them are our own; addresses inside the
/// tables stay what they were, so the copy is asked by address.
fn write_copy(headers: &Headers, file: &File, kept: &[Kept]) -> io::Result<(File, u64)> {
    let mut target = File::from(memfd_create("leaktrace-symbols", MFdFlags::MFD_CLOEXEC)?);
    let header_bytes = size_of::<FileHeader64<LittleEndian>>() as u64;
    target.write_all(&vec![0; header_bytes as usize])?;
    let mut names = vec![0];
    let mut table = vec![blank_section()];
    let mut offset = header_bytes;
    for Kept { name, header } in kept {
        let size = header.sh_size.get(LittleEndian);
        append(&mut target, file, header.sh_offset.get(LittleEndian), size)?;
        let mut header = *header;
        header.sh_name.set(LittleEndian, names.len() as u32);
        header.sh_offset.set(LittleEndian, offset);
        header.sh_link.set(LittleEndian, 0);
        table.push(header);
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        // Tables are read as arrays of words, so each starts at a whole word.
        let end = (offset + size).next_multiple_of(8);
        target.write_all(&[0; 8][..(end - offset - size) as usize])?;
        offset = end;
    }
    let mut strings = blank_section();
    strings.sh_type.set(LittleEndian, elf::SHT_STRTAB);
    strings.sh_name.set(LittleEndian, names.len() as u32);
    names.extend_from_slice(b".shstrtab\0");
    names.resize(names.len().next_multiple_of(8), 0);
    strings.sh_offset.set(LittleEndian, offset);
    strings.sh_size.set(LittleEndian, names.len() as u64);
    table.push(strings);
    target.write_all(&names)?;
    target.write_all(pod::bytes_of_slice(&table))?;
    let table_offset = offset + names.len() as u64;
    let header = copy_header(&headers.file, table_offset, table.len());
    target.write_all_at(pod::bytes_of(&header), 0)?;
    Ok((target, table_offset + size_of_val(&*table) as u64))
}

/// Copies a range of a file, by pieces: tables can be large.
fn append(target: &mut File, file: &File, offset: u64, size: u64) -> io::Result<()> {
    const PIECE_BYTES: usize = 1024 * 1024;
    let end = offset
        .checked_add(size)
        .ok_or_else(|| invalid("section beyond the end"))?;
    for start in (offset..end).step_by(PIECE_BYTES) {
        target.write_all(&read_at(
            file,
            start,
            (end - start).min(PIECE_BYTES as u64),
        )?)?;
    }
    Ok(())
}

/// The file header of a copy.
fn copy_header(
    original: &FileHeader64<LittleEndian>,
    table_offset: u64,
    sections: usize,
) -> FileHeader64<LittleEndian> {
    let mut header = *original;
    header.e_type.set(LittleEndian, elf::ET_DYN);
    header.e_phoff.set(LittleEndian, 0);
    header.e_phnum.set(LittleEndian, 0);
    header.e_shoff.set(LittleEndian, table_offset);
    header.e_shentsize.set(
        LittleEndian,
        size_of::<SectionHeader64<LittleEndian>>() as u16,
    );
    // There are at most the wanted names and two more.
    header.e_shnum.set(LittleEndian, sections as u16);
    header
        .e_shstrndx
        .set(LittleEndian, elf::SymbolSection(sections as u16 - 1));
    header
}

/// A section header without content.
fn blank_section() -> SectionHeader64<LittleEndian> {
    let bytes = [0; size_of::<SectionHeader64<LittleEndian>>()];
    *first(&bytes).expect("as many bytes as the header has")
}

#[cfg(test)]
mod tests;
