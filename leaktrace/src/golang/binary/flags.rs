//! Owns how a Go program was linked.
//! Must not know functions or versions.

use gobin::metadata::BuildInfo;
use object::{LittleEndian, elf, read::elf::FileHeader as _};

use super::setting;

/// Longer settings are cut: the text belongs to whoever built the program.
const SETTING_BYTES_MAX: usize = 256;

/// How a program was linked, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFlags {
    /// Whether it has no symbol table (`-ldflags=-s`).
    pub is_stripped: bool,
    /// Whether it has debug information for debuggers.
    pub has_debug_info: bool,
    /// Whether it is position independent (`-buildmode=pie`).
    pub is_pie: bool,
    /// Whether C code is linked in: then it has a second heap, malloc's.
    pub has_cgo: bool,
    /// Whether the race detector is linked in.
    pub has_race_detector: bool,
    /// `-ldflags`, where the program states them.
    pub linker_flags: Option<String>,
    /// `GOEXPERIMENT`, where the program states one.
    pub experiments: Option<String>,
}

impl LinkFlags {
    /// Reads them off a file whose ELF header is sound.
    pub(super) fn of(bytes: &[u8], build: Option<&BuildInfo<'_>>, has_cgo: bool) -> Self {
        let text = |key| {
            let value = setting(build, key)?;
            let cut = value.floor_char_boundary(SETTING_BYTES_MAX);
            Some(value[..cut].to_owned())
        };
        let (mut has_symbols, mut has_debug_info) = (false, false);
        for name in section_names(bytes) {
            has_symbols |= name == b".symtab";
            has_debug_info |= name == b".debug_info" || name == b".zdebug_info";
        }
        let kind =
            elf::FileHeader64::<LittleEndian>::parse(bytes).map(|it| it.e_type(LittleEndian));
        Self {
            is_stripped: !has_symbols,
            has_debug_info,
            is_pie: kind.is_ok_and(|kind| kind == elf::ET_DYN),
            has_cgo,
            has_race_detector: setting(build, "-race") == Some("true"),
            linker_flags: text("-ldflags"),
            experiments: text("GOEXPERIMENT"),
        }
    }
}

/// The names of the sections, each cut to what is worth comparing.
fn section_names(bytes: &[u8]) -> Vec<&[u8]> {
    const LE: LittleEndian = LittleEndian;
    const NAME_BYTES_MAX: usize = 32;
    let table = elf::FileHeader64::<LittleEndian>::parse(bytes)
        .and_then(|header| header.section_headers(LE, bytes).map(|it| (header, it)));
    let Ok((header, sections)) = table else {
        return Vec::new();
    };
    let strings = header
        .section_strings_index(LE, bytes)
        .ok()
        .and_then(|index| sections.get(index.0))
        .and_then(|it| {
            let start = usize::try_from(it.sh_offset.get(LE)).ok()?;
            let size = usize::try_from(it.sh_size.get(LE)).ok()?;
            bytes.get(start..start.checked_add(size)?)
        });
    let strings = strings.unwrap_or_default();
    let name = |it: &elf::SectionHeader64<LittleEndian>| {
        let rest = strings.get(it.sh_name.get(LE) as usize..)?;
        let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
        Some(rest.split(|byte| *byte == 0).next().unwrap_or_default())
    };
    sections.iter().filter_map(name).collect()
}
