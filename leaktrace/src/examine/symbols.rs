//! Owns where else the symbols of a stripped file may be: packed in the file, or in another one.
//! Must not know what they are good for.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
};

use super::load_tables;
use crate::{
    binary::{
        elf::Elf,
        sparse::{Image, Sparse},
    },
    host::process_root::ProcessRoot,
};

/// As much as packed symbols may unfold to: those of the largest programs have some MiB.
const UNFOLDED_BYTES_MAX: u64 = 64 << 20;

/// Largest file of separate debug info of which the symbols are read.
const DEBUG_BYTES_MAX: u64 = 512 << 20;

/// Another file with symbols of the same file.
pub(super) enum Symbols {
    /// It was packed into the file.
    Packed(Vec<u8>),
    /// It is a file of its own, of which the tables were read.
    Separate(Image),
}

impl Symbols {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Packed(bytes) => bytes,
            Self::Separate(image) => image.bytes(),
        }
    }
}

/// Other files with symbols of the same file. `root` is that of a process which maps it.
pub(super) fn elsewhere(elf: &Elf<'_>, path: &str, root: Option<&ProcessRoot>) -> Vec<Symbols> {
    let mut found: Vec<Symbols> = packed(elf).map(Symbols::Packed).into_iter().collect();
    if let Some(root) = root {
        let separate = by_build_id(elf, root).or_else(|| by_link(elf, path, root));
        found.extend(separate.map(Symbols::Separate));
    }
    found
}

/// Fedora's MiniDebugInfo: a section with an xz-packed file of symbols.
fn packed(elf: &Elf<'_>) -> Option<Vec<u8>> {
    let section = elf.section(".gnu_debugdata")?;
    let mut unfolded = Vec::new();
    xz2::read::XzDecoder::new(section)
        .take(UNFOLDED_BYTES_MAX)
        .read_to_end(&mut unfolded)
        .ok()?;
    Some(unfolded)
}

/// The file that the distribution installs for a build id, in the process's own root.
fn by_build_id(elf: &Elf<'_>, root: &ProcessRoot) -> Option<Image> {
    let build_id = elf.build_id().filter(|it| it.len() >= 2)?;
    let hex: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("usr/lib/debug/.build-id/{}/{}.debug", &hex[..2], &hex[2..]);
    let image = tables_of(&root.open(&path)?)?;
    let is_same = Elf::parse_symbols(image.bytes())
        .ok()?
        .build_id()
        .is_none_or(|it| it == build_id);
    is_same.then_some(image)
}

/// The file that the file itself names, beside it or where the distribution would put it. Only the
/// last part of the name counts, its checksum must be right, and no file has a build id of another.
fn by_link(elf: &Elf<'_>, path: &str, root: &ProcessRoot) -> Option<Image> {
    let section = elf.section(".gnu_debuglink")?;
    let end = section.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&section[..end]).ok()?;
    if name.is_empty() || name.contains('/') {
        return None;
    }
    let checksum = section.get((end + 1).next_multiple_of(4)..)?;
    let checksum = u32::from_le_bytes(checksum.get(..4)?.try_into().ok()?);
    let directory = path.rsplit_once('/')?.0.trim_start_matches('/');
    let candidates = [
        format!("{directory}/{name}"),
        format!("{directory}/.debug/{name}"),
        format!("usr/lib/debug/{directory}/{name}"),
    ];
    let is_same = |file: &File, image: &Image| {
        let build_id = Elf::parse_symbols(image.bytes())
            .ok()
            .map(|it| it.build_id());
        build_id == Some(elf.build_id()) && crc32(file).is_ok_and(|it| it == checksum)
    };
    candidates.iter().find_map(|path| {
        let file = root.open(path)?;
        tables_of(&file).filter(|image| is_same(&file, image))
    })
}

/// The checksum of debug links.
fn crc32(file: &File) -> io::Result<u32> {
    // Whoever owns it may make it longer without end.
    let mut crc = flate2::CrcReader::new(file.take(DEBUG_BYTES_MAX));
    io::copy(&mut crc, &mut io::sink())?;
    Ok(crc.crc().sum())
}

/// Reads the tables of a file: the rest of it, many times as much, is for debuggers.
fn tables_of(file: &File) -> Option<Image> {
    let length = file.metadata().ok()?.len();
    if length > DEBUG_BYTES_MAX {
        return None;
    }
    let read = |offset: u64, buffer: &mut [u8]| file.read_exact_at(buffer, offset);
    let mut image = Sparse::new(length, &read).ok()?;
    load_tables(&mut image).ok()?;
    Some(image.finish())
}
