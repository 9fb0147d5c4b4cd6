//! Owns reading ELF bytes that may be hostile: function symbols, build id, offsets, needed names.
//! Must not know where the bytes came from; the caller caps their size and names the file.
//!
//! Every pass is linear in the input and every result is capped, because the files belong to the
//! traced processes, not to us. What is malformed beyond the headers counts as absent: a broken
//! note must not hide the functions.

mod error;
mod load;
mod symbols;

use std::cell::OnceCell;

use object::LittleEndian;
use object::elf;
use object::read::elf::{
    Dyn as _, FileHeader as _, GnuHashTable, HashTable, ProgramHeader as _, SectionHeader as _,
    SectionTable, Sym as _,
};
use rustc_hash::FxHashMap;

pub use self::error::ElfError;
use self::load::Load;
pub use self::symbols::{Bound, Definition, header_ranges, table_ranges};

/// The one layout that is read here: 64-bit, little endian.
type Header = elf::FileHeader64<LittleEndian>;
type Segment = elf::ProgramHeader64<LittleEndian>;
type Symbol = elf::Sym64<LittleEndian>;

/// The byte order argument that `object` asks for at each field.
const LE: LittleEndian = LittleEndian;

/// The kernel loads programs with at most one page of program headers, which is 73; the dynamic
/// loader has no limit, linkers write 8 to 15. Offset look-ups walk them, so they are bounded.
/// <https://github.com/torvalds/linux/blob/v6.12/fs/binfmt_elf.c>, `load_elf_phdrs`
const MAX_SEGMENTS: usize = 1024;
/// Real files carry 2 to 5 notes; a build id beyond that many is not looked for.
const MAX_NOTES: usize = 1024;
/// SHA-512 is the longest hash that anyone uses as build id; a longer note is no build id.
const MAX_BUILD_ID_BYTES: usize = 64;
/// One address per symbol version with code of its own; in glibc 2.36 each allocator name has one.
const MAX_ADDRESSES_PER_NAME: usize = 8;
/// Large programs need some dozens of libraries directly.
const MAX_NEEDED: usize = 512;
/// PATH_MAX: no path or library name beyond it can be opened.
const MAX_PATH_BYTES: usize = 4096;

/// A function symbol, with the offset that a uprobe takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'w> {
    /// The name, as it was asked for.
    pub name: &'w str,
    /// The address as the file states it.
    pub svma: u64,
    /// Where the first instruction lies in the file.
    pub file_offset: u64,
    /// `st_size`; 0 where the assembler source did not state one.
    pub size: u64,
    /// Whether the address is a resolver, run once at load, instead of the function.
    pub ifunc: bool,
}

/// A symbol table and the strings that its names lie in.
#[derive(Clone, Copy)]
struct Symbols<'d> {
    symbols: &'d [Symbol],
    strings: &'d [u8],
}

/// What the dynamic segment points at. The loader trusts it and nothing else, so it is there even
/// when the section headers are stripped.
#[derive(Default)]
struct Dynamic<'d> {
    strings: &'d [u8],
    symbols: Option<u64>,
    hash: Option<u64>,
    gnu_hash: Option<u64>,
    needed: Vec<u64>,
    soname: Option<u64>,
}

/// An x86-64 program or shared object.
///
/// Holds the program headers in the two forms that are needed (raw, and the loads with checked
/// ranges); symbols are read when asked for, in one pass for all names.
pub struct Elf<'d> {
    bytes: &'d [u8],
    segments: &'d [Segment],
    loads: Vec<Load>,
    sections: Option<SectionTable<'d, Header>>,
    /// Symbols' numbers by the slots that they are bound to, read when first asked for.
    slots: OnceCell<FxHashMap<u64, u32>>,
}

impl<'d> Elf<'d> {
    /// Checks the headers. The bytes must be aligned to 8, as a mapping or a buffer is.
    pub fn parse(bytes: &'d [u8]) -> Result<Elf<'d>, ElfError> {
        let elf = Self::parse_symbols(bytes)?;
        if !elf.code_loads().any(|load| load.file_size > 0) {
            return Err(ElfError::NoCode);
        }
        Ok(elf)
    }

    /// The same of a file of which only the symbols are of interest: separate debug info has none
    /// of the code.
    pub fn parse_symbols(bytes: &'d [u8]) -> Result<Elf<'d>, ElfError> {
        let header = parse_header(bytes)?;
        let count = header.phnum(LE, bytes).map_err(|_| ElfError::BadSegments)? as usize;
        if count > MAX_SEGMENTS {
            return Err(ElfError::TooManySegments(count));
        }
        let segments = header
            .program_headers(LE, bytes)
            .map_err(|_| ElfError::BadSegments)?;
        let loads: Vec<Load> = segments.iter().filter_map(Load::from_segment).collect();
        // Stripped or damaged section headers do not stop a program from running.
        let sections = header
            .sections(LE, bytes)
            .ok()
            .filter(|sections| !sections.is_empty());
        Ok(Elf {
            bytes,
            segments,
            loads,
            sections,
            slots: OnceCell::new(),
        })
    }

    /// Each section's name and where it begins in the file; none where the headers are stripped.
    pub fn sections(&self) -> impl Iterator<Item = (&'d [u8], u64)> {
        let table = self.sections.iter();
        table.flat_map(|table| {
            let name = |it| table.section_name(LE, it).unwrap_or_default();
            table.iter().map(move |it| (name(it), it.sh_offset(LE)))
        })
    }

    /// The GNU build id, read from the notes that are loaded, which `strip` keeps.
    pub fn build_id(&self) -> Option<&'d [u8]> {
        self.segments
            .iter()
            .filter_map(|segment| segment.notes(LE, self.bytes).ok().flatten())
            .flatten()
            .take(MAX_NOTES)
            .flatten()
            .find(|note| {
                note.name() == elf::ELF_NOTE_GNU && note.n_type(LE) == elf::NT_GNU_BUILD_ID
            })
            .map(|note| note.desc())
            .filter(|id| !id.is_empty() && id.len() <= MAX_BUILD_ID_BYTES)
    }

    /// The functions of the wanted names that this file defines, in the order wanted.
    ///
    /// One name has several entries where symbol versions have code of their own. The dynamic
    /// symbols come first, because they are what other objects call; the full table serves names
    /// that are not exported. A symbol outside the executable segments is data and left out.
    pub fn functions<'w>(&self, wanted: &[&'w str]) -> Vec<Function<'w>> {
        let mut index: Vec<(&'w str, usize)> = wanted
            .iter()
            .enumerate()
            .map(|(at, name)| (*name, at))
            .collect();
        index.sort_unstable();
        let mut found: Vec<Vec<Function<'w>>> = vec![Vec::new(); wanted.len()];
        let exported = self
            .section_symbols(elf::SHT_DYNSYM)
            .or_else(|| self.dynamic_symbols());
        for symbols in [exported, self.section_symbols(elf::SHT_SYMTAB)]
            .into_iter()
            .flatten()
        {
            index.retain(|&(_, at)| found[at].is_empty());
            if index.is_empty() {
                break;
            }
            self.collect(symbols, &index, &mut found);
        }
        found.into_iter().flatten().collect()
    }

    /// Adds the symbols whose name is in `index` (sorted) to the list of that name.
    fn collect<'w>(
        &self,
        table: Symbols<'d>,
        index: &[(&'w str, usize)],
        found: &mut [Vec<Function<'w>>],
    ) {
        // Longer names are cut here instead of being read: millions of symbols may all point at
        // the start of one endless string.
        let longest = index.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for symbol in table.symbols {
            let kind = symbol.st_type();
            let ifunc = kind == elf::STT_GNU_IFUNC;
            if (kind != elf::STT_FUNC && !ifunc) || symbol.is_undefined(LE) {
                continue;
            }
            let Some(name) = string_at(table.strings, u64::from(symbol.st_name(LE)), longest)
            else {
                continue;
            };
            let Ok(hit) = index.binary_search_by(|(wanted, _)| wanted.as_bytes().cmp(name)) else {
                continue;
            };
            let (name, at) = index[hit];
            let svma = symbol.st_value(LE);
            let list = &mut found[at];
            if list.len() >= MAX_ADDRESSES_PER_NAME || list.iter().any(|known| known.svma == svma) {
                continue;
            }
            if let Some(file_offset) = self.svma_to_file_offset(svma) {
                list.push(Function {
                    name,
                    svma,
                    file_offset,
                    size: symbol.st_size(LE),
                    ifunc,
                });
            }
        }
    }

    /// Exactly `len` bytes of code, if one executable segment holds them all.
    pub fn code(&self, svma: u64, len: u64) -> Option<&'d [u8]> {
        let code = self.code_up_to(svma, len);
        (code.len() as u64 == len && len > 0).then_some(code)
    }

    /// The code at an address up to the end of its segment or `max_len`; empty where there is none.
    pub fn code_up_to(&self, svma: u64, max_len: u64) -> &'d [u8] {
        let load = self
            .code_loads()
            .find(|load| load.offset_of(svma).is_some());
        load.and_then(|load| self.loaded_from(load, svma, max_len))
            .unwrap_or_default()
    }

    /// Where an address of code lies in the file: what a uprobe is attached to.
    pub fn svma_to_file_offset(&self, svma: u64) -> Option<u64> {
        self.code_loads().find_map(|load| load.offset_of(svma))
    }

    /// The address that the code at a file offset is linked to.
    pub fn file_offset_to_svma(&self, file_offset: u64) -> Option<u64> {
        self.code_loads().find_map(|load| {
            let distance = file_offset.checked_sub(load.file_offset)?;
            (distance < load.file_size).then(|| load.svma + distance)
        })
    }

    /// The dynamic loader that a program asks for; `None` for static programs and most libraries.
    pub fn interpreter(&self) -> Option<&'d str> {
        // Only the first one, like the kernel, and cut to a path's length: a thousand of these
        // headers could each span the file.
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.p_type(LE) == elf::PT_INTERP)?;
        let path = string_at(segment.data(LE, self.bytes).ok()?, 0, MAX_PATH_BYTES)?;
        std::str::from_utf8(path).ok()
    }

    /// The libraries that the loader brings in for this file (`DT_NEEDED`).
    pub fn needed(&self) -> Vec<&'d str> {
        let dynamic = self.dynamic();
        let names = dynamic.needed.iter();
        names
            .filter_map(|&offset| string_at(dynamic.strings, offset, MAX_PATH_BYTES))
            .filter_map(|name| std::str::from_utf8(name).ok())
            .collect()
    }

    fn code_loads(&self) -> impl Iterator<Item = &Load> {
        self.loads.iter().filter(|load| load.executable)
    }

    /// The bytes at an address of any segment, up to its end, the end of the file or `max_len`.
    fn loaded(&self, svma: u64, max_len: u64) -> Option<&'d [u8]> {
        let load = self
            .loads
            .iter()
            .find(|load| load.offset_of(svma).is_some())?;
        self.loaded_from(load, svma, max_len)
    }

    fn loaded_from(&self, load: &Load, svma: u64, max_len: u64) -> Option<&'d [u8]> {
        let start = load.offset_of(svma)?;
        let end = load.file_offset + load.file_size;
        let end = end
            .min(start.saturating_add(max_len))
            .min(self.bytes.len() as u64);
        self.bytes
            .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn section_symbols(&self, kind: elf::SectionType) -> Option<Symbols<'d>> {
        let sections = self.sections.as_ref()?;
        let table = sections.symbols(LE, self.bytes, kind).ok()?;
        let strings = sections
            .section(table.string_section())
            .ok()?
            .data(LE, self.bytes)
            .ok()?;
        Some(Symbols {
            symbols: table.symbols(),
            strings,
        })
    }

    /// The dynamic symbols by the dynamic segment; only its hash table tells how many there are.
    fn dynamic_symbols(&self) -> Option<Symbols<'d>> {
        let dynamic = self.dynamic();
        let gnu = dynamic.gnu_hash.and_then(|svma| {
            let table = GnuHashTable::<Header>::parse(LE, self.loaded(svma, u64::MAX)?).ok()?;
            table.symbol_table_length(LE)
        });
        let sysv = || {
            let table = self.loaded(dynamic.hash?, u64::MAX)?;
            Some(
                HashTable::<Header>::parse(LE, table)
                    .ok()?
                    .symbol_table_length(),
            )
        };
        let count = gnu.or_else(sysv)? as usize;
        let table = self.loaded(dynamic.symbols?, u64::MAX)?;
        let (symbols, _) = object::pod::slice_from_bytes::<Symbol>(table, count).ok()?;
        Some(Symbols {
            symbols,
            strings: dynamic.strings,
        })
    }

    fn dynamic(&self) -> Dynamic<'d> {
        let entries = self
            .segments
            .iter()
            .find_map(|segment| segment.dynamic(LE, self.bytes).ok().flatten())
            .unwrap_or_default();
        let mut dynamic = Dynamic::default();
        let (mut strings, mut strings_len) = (None, u64::MAX);
        for entry in entries
            .iter()
            .take_while(|entry| entry.tag(LE) != elf::DT_NULL)
        {
            let value = entry.val(LE);
            match entry.tag(LE) {
                elf::DT_STRTAB => strings = Some(value),
                elf::DT_STRSZ => strings_len = value,
                elf::DT_SYMTAB => dynamic.symbols = Some(value),
                elf::DT_HASH => dynamic.hash = Some(value),
                elf::DT_GNU_HASH => dynamic.gnu_hash = Some(value),
                elf::DT_SONAME => dynamic.soname = Some(value),
                elf::DT_NEEDED if dynamic.needed.len() < MAX_NEEDED => dynamic.needed.push(value),
                _ => {}
            }
        }
        dynamic.strings = strings
            .and_then(|svma| self.loaded(svma, strings_len))
            .unwrap_or_default();
        dynamic
    }
}

/// Checks the identification by hand, because each mismatch deserves its own message.
fn parse_header(bytes: &[u8]) -> Result<&Header, ElfError> {
    if bytes.len() < size_of::<Header>() || !bytes.starts_with(&elf::ELFMAG) {
        return Err(ElfError::NotElf);
    }
    if bytes[4] != elf::ELFCLASS64.0 {
        return Err(ElfError::Not64Bit);
    }
    if bytes[5] != elf::ELFDATA2LSB.0 {
        return Err(ElfError::NotLittleEndian);
    }
    let header = Header::parse(bytes).map_err(|_| ElfError::NotElf)?;
    let (machine, kind) = (header.e_machine(LE), header.e_type(LE));
    if machine != elf::EM_X86_64 {
        return Err(ElfError::Machine(machine.0));
    }
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return Err(ElfError::Kind(kind.0));
    }
    Ok(header)
}

/// A NUL-terminated string of at most `longest` bytes; `None` where it is longer or not there.
fn string_at(strings: &[u8], offset: u64, longest: usize) -> Option<&[u8]> {
    let rest = strings.get(usize::try_from(offset).ok()?..)?;
    let window = &rest[..rest.len().min(longest + 1)];
    let end = window.iter().position(|&byte| byte == 0)?;
    Some(&window[..end])
}

#[cfg(test)]
mod tests;
