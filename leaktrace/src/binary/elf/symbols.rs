//! Owns walking over all function symbols of a file, and finding out what a slot is bound to.
//! Must not know which names anybody looks for.

use object::elf;
use object::pod;
use object::read::elf::{ProgramHeader as _, Rela as _, SectionHeader as _, Sym as _};
use rustc_hash::FxHashMap;

use super::{Elf, Header, LE, Symbols, string_at};

/// One entry of a relocation table with addends.
type Relocation = elf::Rela64<object::LittleEndian>;

/// As many slots are remembered: the largest programs have some ten thousand, most of their
/// relocations have no symbol.
const MAX_SLOTS: usize = 1 << 20;

/// A function symbol, as its table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition<'d> {
    /// The name, cut where it is longer than was asked for.
    pub name: &'d [u8],
    /// The address as the file states it.
    pub svma: u64,
    /// `st_size`; 0 where the assembler source did not state one.
    pub size: u64,
    /// Whether the address is a resolver, run once at load, instead of the function.
    pub ifunc: bool,
}

/// What a slot of the global offset table is bound to when the file is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'d> {
    /// The symbol's name.
    pub name: &'d str,
    /// Its address in this file, where this file defines it.
    pub svma: Option<u64>,
}

impl<'d> Elf<'d> {
    /// Shows every function that the file defines and whose name has at most `longest` bytes:
    /// first those that other files can call, then all others. A name may come twice.
    pub fn each_function(&self, longest: usize, mut each: impl FnMut(Definition<'d>)) {
        let exported = self
            .section_symbols(elf::SHT_DYNSYM)
            .or_else(|| self.dynamic_symbols());
        let tables = [exported, self.section_symbols(elf::SHT_SYMTAB)];
        for table in tables.into_iter().flatten() {
            for symbol in table.symbols {
                let kind = symbol.st_type();
                let ifunc = kind == elf::STT_GNU_IFUNC;
                if (kind != elf::STT_FUNC && !ifunc) || symbol.is_undefined(LE) {
                    continue;
                }
                let name = string_at(table.strings, u64::from(symbol.st_name(LE)), longest);
                if let Some(name) = name.filter(|name| name.len() < longest) {
                    each(Definition {
                        name,
                        svma: symbol.st_value(LE),
                        size: symbol.st_size(LE),
                        ifunc,
                    });
                }
            }
        }
    }

    /// What the loader writes into the slot at an address.
    pub fn bound_at(&self, slot_svma: u64) -> Option<Bound<'d>> {
        let slots = self.slots.get_or_init(|| self.read_slots());
        let symbols = self.exported_symbols()?;
        let symbol = symbols.symbols.get(*slots.get(&slot_svma)? as usize)?;
        let name = string_at(symbols.strings, u64::from(symbol.st_name(LE)), 4096)?;
        Some(Bound {
            name: std::str::from_utf8(name).ok().filter(|it| !it.is_empty())?,
            svma: (!symbol.is_undefined(LE)).then(|| symbol.st_value(LE)),
        })
    }

    /// The slots that are bound to symbols, with the symbols' numbers.
    fn read_slots(&self) -> FxHashMap<u64, u32> {
        let mut slots = FxHashMap::default();
        let sections = self.sections.iter().flat_map(|sections| sections.iter());
        let tables = sections.filter(|section| section.sh_type(LE) == elf::SHT_RELA);
        for bytes in tables.filter_map(|section| section.data(LE, self.bytes).ok()) {
            let count = bytes.len() / size_of::<Relocation>();
            let Ok((table, _)) = pod::slice_from_bytes::<Relocation>(bytes, count) else {
                continue;
            };
            for relocation in table {
                let symbol = relocation.r_sym(LE, false);
                if symbol != 0 && slots.len() < MAX_SLOTS {
                    slots.insert(relocation.r_offset(LE), symbol);
                }
            }
        }
        slots
    }

    /// The name that the file gives itself (`DT_SONAME`).
    pub fn soname(&self) -> Option<&'d str> {
        let dynamic = self.dynamic();
        let name = string_at(dynamic.strings, dynamic.soname?, 4096)?;
        std::str::from_utf8(name).ok()
    }

    /// Whether the file has the full symbol table that `strip` removes.
    pub fn has_full_symbols(&self) -> bool {
        self.section_symbols(elf::SHT_SYMTAB).is_some()
    }

    /// Where in the file the names of its sections lie; `None` where there are no sections.
    pub fn section_names(&self) -> Option<std::ops::Range<u64>> {
        let header = super::parse_header(self.bytes).ok()?;
        let index = usize::from(header.e_shstrndx.get(LE).0);
        let names = self.sections.as_ref()?.iter().nth(index)?;
        let (start, size) = names.file_range(LE).filter(|_| index != 0)?;
        Some(start..start.saturating_add(size))
    }

    /// The bytes of a section by its name.
    pub fn section(&self, name: &str) -> Option<&'d [u8]> {
        let sections = self.sections.as_ref()?;
        let (_, section) = sections.section_by_name(LE, name.as_bytes())?;
        section.data(LE, self.bytes).ok()
    }

    /// The parts of the file that are mapped as code, or as data that never changes.
    pub fn constant_ranges(&self) -> Vec<std::ops::Range<u64>> {
        let loads = self.loads.iter().filter(|it| !it.writable);
        loads
            .map(|it| it.file_offset..it.file_offset + it.file_size)
            .collect()
    }

    /// The parts of the file that hold texts: its sections of data that never changes, or, where it has no section
    /// headers, all that is mapped and never changes.
    pub fn text_ranges(&self) -> Vec<std::ops::Range<u64>> {
        let Some(sections) = &self.sections else {
            return self.constant_ranges();
        };
        let is_text = |it: &&elf::SectionHeader64<object::LittleEndian>| {
            let name = sections.section_name(LE, *it).unwrap_or_default();
            it.sh_type(LE) == elf::SHT_PROGBITS && name.starts_with(b".rodata")
        };
        let ranges = sections.iter().filter(is_text);
        let range = |start: u64, size: u64| start..start.saturating_add(size);
        ranges
            .map(|it| range(it.sh_offset(LE), it.sh_size(LE)))
            .collect()
    }

    /// The parts of the file that say what it is: notes, the interpreter's name, the dynamic
    /// segment. Those that are larger than any of them are left out.
    pub fn small_segments(&self) -> Vec<std::ops::Range<u64>> {
        const BYTES_MAX: u64 = 256 * 1024;
        let wanted = [elf::PT_INTERP, elf::PT_NOTE, elf::PT_DYNAMIC];
        let segments = self.segments.iter();
        let small = segments.filter_map(|segment| {
            let (start, size) = segment.file_range(LE);
            let is_wanted = wanted.contains(&segment.p_type(LE)) && size <= BYTES_MAX;
            is_wanted.then(|| start..start.saturating_add(size))
        });
        small.collect()
    }

    /// The parts of the file with which a stripped one tells where its symbols are: packed, or in which other file.
    pub fn symbol_hints(&self) -> Vec<std::ops::Range<u64>> {
        const BYTES_MAX: u64 = 64 << 20;
        let Some(sections) = &self.sections else {
            return Vec::new();
        };
        let wanted: [&[u8]; 2] = [b".gnu_debugdata", b".gnu_debuglink"];
        let ranges = wanted.iter().filter_map(|name| {
            let (_, section) = sections.section_by_name(LE, name)?;
            let (start, size) = section.file_range(LE)?;
            (size <= BYTES_MAX).then(|| start..start.saturating_add(size))
        });
        ranges.collect()
    }

    /// The bytes from the first to the last of those parts.
    pub fn constants(&self) -> &'d [u8] {
        let ranges = self.constant_ranges();
        let start = ranges.iter().map(|it| it.start).min().unwrap_or(0);
        let end = ranges.iter().map(|it| it.end).max().unwrap_or(0);
        let end = end.min(self.bytes.len() as u64);
        // Both are within the length of a slice.
        let range = start as usize..end as usize;
        self.bytes.get(range).unwrap_or_default()
    }

    fn exported_symbols(&self) -> Option<Symbols<'d>> {
        self.section_symbols(elf::SHT_DYNSYM)
            .or_else(|| self.dynamic_symbols())
    }
}

/// The parts of a file that hold its symbols, relocations and notes, told from its headers alone;
/// the whole file where it has no section headers.
pub fn table_ranges(bytes: &[u8]) -> Option<Vec<std::ops::Range<u64>>> {
    use object::read::elf::FileHeader as _;
    let header = super::parse_header(bytes).ok()?;
    let sections = header.section_headers(LE, bytes).ok()?;
    if sections.is_empty() {
        return None;
    }
    let wanted = [
        elf::SHT_SYMTAB,
        elf::SHT_DYNSYM,
        elf::SHT_STRTAB,
        elf::SHT_DYNAMIC,
        elf::SHT_NOTE,
    ];
    let tables = sections
        .iter()
        .filter(|section| wanted.contains(&section.sh_type(LE)));
    let ranges = tables.map(|section| {
        let start = section.sh_offset(LE);
        start..start.saturating_add(section.sh_size(LE))
    });
    Some(ranges.collect())
}

/// The parts of a file that hold its headers, told from its first bytes.
pub fn header_ranges(first: &[u8]) -> Option<[std::ops::Range<u64>; 2]> {
    let header: &Header = super::parse_header(first).ok()?;
    let segments = header.e_phoff.get(LE);
    let sections = header.e_shoff.get(LE);
    let bytes = |count: u16, each: u16| u64::from(count) * u64::from(each);
    let segments_len = bytes(header.e_phnum.get(LE), header.e_phentsize.get(LE));
    // A count that does not fit stands in the first section; no linked file has as many.
    let sections_len = bytes(header.e_shnum.get(LE), header.e_shentsize.get(LE));
    Some([
        segments..segments.saturating_add(segments_len),
        sections..sections.saturating_add(sections_len),
    ])
}
