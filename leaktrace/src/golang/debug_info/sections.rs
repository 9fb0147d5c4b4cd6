//! Owns finding debug information and named objects in an ELF file that may be hostile, and unfolding it.
//! Must not know what they say.

use std::{borrow::Cow, io::Read as _};

use gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian as GimliLittleEndian, SectionId};
use object::{
    LittleEndian as LE, elf,
    read::elf::{FileHeader as _, SectionHeader as _, Sym as _},
};

use super::NoLayout;

/// As much as entries take, unfolded: the largest programs have some 60 megabytes.
const ENTRIES_BYTES_MAX: u64 = 128 << 20;

/// As much as the table of their forms takes: Go's has less than a kilobyte, C's units have one each.
const FORMS_BYTES_MAX: u64 = 256 << 10;

/// Bytes of the header of a section that is compressed.
const COMPRESSION_HEADER_BYTES: usize = size_of::<elf::CompressionHeader64<LE>>();

type Header = elf::FileHeader64<LE>;

/// A file's debug information.
pub struct Sections<'d>(DwarfSections<Cow<'d, [u8]>>);

impl<'d> Sections<'d> {
    /// Finds and unfolds it.
    pub fn read(bytes: &'d [u8]) -> Result<Self, NoLayout> {
        let mut is_there = false;
        // Nothing else is needed: Go's compiler writes names into the entries.
        let found = DwarfSections::load(|id| match id {
            SectionId::DebugInfo => {
                let section = section(bytes, id.name(), ENTRIES_BYTES_MAX)?;
                is_there = !section.is_empty();
                Ok(section)
            }
            SectionId::DebugAbbrev => section(bytes, id.name(), FORMS_BYTES_MAX),
            _ => Ok(Cow::default()),
        })?;
        match is_there {
            true => Ok(Self(found)),
            false => Err(NoLayout::Absent),
        }
    }

    /// To be gone through.
    pub fn dwarf(&self) -> Dwarf<EndianSlice<'_, GimliLittleEndian>> {
        self.0
            .borrow(|section| EndianSlice::new(section, GimliLittleEndian))
    }
}

/// The bytes of a section; none where there is no such section.
fn section<'d>(bytes: &'d [u8], name: &str, bytes_max: u64) -> Result<Cow<'d, [u8]>, NoLayout> {
    let header = Header::parse(bytes).map_err(|_| NoLayout::Unreadable)?;
    let sections = header.sections(LE, bytes);
    let sections = sections.map_err(|_| NoLayout::Unreadable)?;
    let Some((_, section)) = sections.section_by_name(LE, name.as_bytes()) else {
        return Ok(Cow::default());
    };
    let folded = section.data(LE, bytes).map_err(|_| NoLayout::Unreadable)?;
    if !section.sh_flags(LE).contains(elf::SHF_COMPRESSED) {
        let is_small = folded.len() as u64 <= bytes_max;
        let section = is_small.then_some(Cow::Borrowed(folded));
        return section.ok_or(NoLayout::Unreadable);
    }
    unfold(folded, bytes_max)
        .map(Cow::Owned)
        .ok_or(NoLayout::Unreadable)
}

/// Go's linker and others compress with zlib. What a header claims is not reserved before it has come.
fn unfold(folded: &[u8], bytes_max: u64) -> Option<Vec<u8>> {
    let header = folded.get(..COMPRESSION_HEADER_BYTES)?;
    let kind = u32::from_le_bytes(header.get(..4)?.try_into().ok()?);
    if kind != elf::ELFCOMPRESS_ZLIB.0 {
        return None;
    }
    let body = flate2::bufread::ZlibDecoder::new(&folded[COMPRESSION_HEADER_BYTES..]);
    let mut unfolded = Vec::new();
    let read = body.take(bytes_max + 1).read_to_end(&mut unfolded);
    let length = read.ok()?;
    (length as u64 <= bytes_max).then_some(unfolded)
}

/// The first bytes of a named object, as the file has them; `None` where it is not named or has no such bytes.
pub fn object_bytes<'d>(bytes: &'d [u8], name: &[u8], length: usize) -> Option<&'d [u8]> {
    let header = Header::parse(bytes).ok()?;
    let sections = header.sections(LE, bytes).ok()?;
    let symbols = sections.symbols(LE, bytes, elf::SHT_SYMTAB).ok()?;
    let strings = symbols.strings();
    let mut entries = symbols.iter();
    let symbol = entries.find(|it| it.name(LE, strings) == Ok(name))?;
    let address = symbol.st_value(LE);
    let holds = |it: &&elf::SectionHeader64<LE>| {
        let offset = address.checked_sub(it.sh_addr(LE));
        it.sh_addr(LE) != 0 && offset.is_some_and(|offset| offset < it.sh_size(LE))
    };
    let section = sections.iter().find(holds)?;
    let start = usize::try_from(address - section.sh_addr(LE)).ok()?;
    let data = section.data(LE, bytes).ok()?;
    data.get(start..start.checked_add(length)?)
}
