//! Owns looking at a file for the allocators that it defines: which parts are read, and where else
//! its symbols may be.
//! Must not know probes, or which processes are traced.

pub mod freeing;
mod symbols;

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use anyhow::Context as _;
use leaktrace_common::cookie::Family;

use crate::{
    allocators::{self, Allocator, Defined, ReturnProbes},
    binary::{
        elf::{Elf, header_ranges, table_ranges},
        sparse::Sparse,
    },
    host::{maps::BuildId, process_root::ProcessRoot},
    modules::Module,
};

/// As many bytes of texts are searched: those of the largest programs have some dozens of MiB.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// A Rust program with more code is not read to find out whether its global allocator is one of its own: large ones take
/// one that is known, or the system's.
const RUST_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a file header.
const FILE_HEADER_BYTES: u64 = 64;

/// What was found in a file.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// The allocators that it defines.
    pub allocators: Vec<Allocator>,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// Whether it needs no dynamic linker: no other file can bring its allocator.
    pub is_static: bool,
    /// Whether the table of all its symbols was there, in the file or in another.
    pub has_all_symbols: bool,
    /// The versions of its allocators, in their order, where they are told.
    pub versions: Vec<Option<String>>,
    /// Allocators whose texts it has but of which no function can be found.
    pub hidden: Vec<Family>,
}

impl Examined {
    /// Why a process whose program this is has no allocator that can be seen.
    #[must_use]
    pub fn why_nothing_is_seen(&self, path: &str) -> String {
        match (self.is_static, self.has_all_symbols) {
            (_, false) if !self.hidden.is_empty() => self.why_hidden(path),
            (true, false) => {
                format!("{path} is statically linked and stripped of the symbols of its allocator")
            }
            (true, true) => {
                format!("{path} is statically linked and defines no allocator that is known")
            }
            (false, _) => "it maps no file that defines an allocator".to_owned(),
        }
    }

    /// Why nothing is seen of the allocators that are hidden in the file, and what to do about it.
    #[must_use]
    pub fn why_hidden(&self, path: &str) -> String {
        let names: Vec<&str> = self.hidden.iter().map(|it| it.name()).collect();
        let how = if self.is_static {
            "is statically linked, and "
        } else {
            ""
        };
        format!(
            "{path} {how}has {} built in, stripped of its symbols; remedy: a build that is not stripped, or its separate \
             debug info",
            names.join(" and ")
        )
    }
}

/// Looks at a file that `pid` maps.
///
/// # Errors
///
/// When it cannot be read or is no program of this machine's kind.
pub fn examine(module: &Module, pid: u32, return_probes: ReturnProbes) -> anyhow::Result<Examined> {
    let file = module.file.as_ref().with_context(|| {
        let why = module
            .missing
            .map_or("it could not be opened", |missing| missing.reason());
        format!("{}: {why}", module.name)
    })?;
    examine_file(file, &module.path, ProcessRoot::of(pid).ok(), return_probes)
}

/// The same of an open file, which is called `path` in its process, whose root this is.
///
/// # Errors
///
/// As above.
pub fn examine_file(
    file: &File,
    path: &str,
    root: Option<ProcessRoot>,
    return_probes: ReturnProbes,
) -> anyhow::Result<Examined> {
    let read = |offset: u64, buffer: &mut [u8]| file.read_exact_at(buffer, offset);
    let length = file.metadata()?.len();
    let mut image = Sparse::new(length, &read).with_context(|| format!("cannot read {path}"))?;
    load_tables(&mut image).with_context(|| format!("failed to read {path}"))?;
    let not_a_program = || format!("{path} is no readable program");
    let elf = Elf::parse(image.bytes()).with_context(not_a_program)?;
    let mut examined = Examined {
        build_id: elf.build_id().and_then(BuildId::from_bytes),
        is_static: elf.interpreter().is_none() && elf.soname().is_none(),
        has_all_symbols: elf.has_full_symbols(),
        ..Examined::default()
    };
    let more = if examined.has_all_symbols {
        Vec::new()
    } else {
        symbols::elsewhere(&elf, path, root.as_ref())
    };
    let more: Vec<Elf<'_>> = more
        .iter()
        .filter_map(|symbols| Elf::parse_symbols(symbols.bytes()).ok())
        .collect();
    examined.has_all_symbols |= more.iter().any(Elf::has_full_symbols);
    let more: Vec<&Elf<'_>> = more.iter().collect();
    let texts = if examined.has_all_symbols {
        Vec::new()
    } else {
        elf.text_ranges()
    };
    let constants = elf.constant_ranges();
    // A file may claim more than 64 bits can count.
    let add = |sum: u64, it: &Range<u64>| sum.saturating_add(it.end.saturating_sub(it.start));
    let code_bytes = constants.iter().fold(0, add);
    let is_wanted = match allocators::defined(&elf, &more) {
        Defined::None => false,
        Defined::RustAlone => code_bytes <= RUST_BYTES_MAX,
        Defined::Allocators => true,
    };
    drop(elf);
    if !is_wanted {
        examined.hidden = mentioned(&mut image, texts);
        return Ok(examined);
    }
    // Only now the code, and the data that never changes: most files have no allocator.
    for range in constants {
        image
            .load(range)
            .with_context(|| format!("failed to read {path}"))?;
    }
    let elf = Elf::parse(image.bytes()).with_context(not_a_program)?;
    examined.allocators = allocators::examine(&elf, &more, return_probes);
    examined.versions = examined
        .allocators
        .iter()
        .map(|allocator| allocators::version(&elf, allocator.family))
        .collect();
    drop(elf);
    examined.hidden = mentioned(&mut image, texts);
    let found = examined.allocators.iter();
    let found: Vec<Family> = found.map(|it| it.family).collect();
    // One whose names are everybody's may be the one that the texts tell of.
    let is_hidden = |it: &Family| !found.contains(it) && !found.contains(&Family::Other);
    examined.hidden.retain(is_hidden);
    Ok(examined)
}

/// The allocators whose texts stand in these parts of a file. What cannot be read, or is more than any program has, has
/// none: that a file hides an allocator is one more thing to say of it, and no condition of probing the others.
fn mentioned(image: &mut Sparse<'_>, texts: Vec<Range<u64>>) -> Vec<Family> {
    let mut found = Vec::new();
    for range in texts {
        if range.end.saturating_sub(range.start) > TEXT_BYTES_MAX
            || image.load(range.clone()).is_err()
        {
            continue;
        }
        let end = range.end.min(image.bytes().len() as u64);
        // Both are within the length of a slice.
        let part = image.bytes().get(range.start as usize..end as usize);
        found.extend(allocators::mentioned(part.unwrap_or_default()));
    }
    found.dedup();
    found
}

/// Reads headers and tables; all of a file without section headers, which hold the places.
fn load_tables(image: &mut Sparse<'_>) -> io::Result<()> {
    image.load(0..FILE_HEADER_BYTES)?;
    let Some(headers) = header_ranges(image.bytes()) else {
        return Ok(());
    };
    for range in headers {
        image.load(range)?;
    }
    let Some(tables) = table_ranges(image.bytes()) else {
        return image.load(0..u64::MAX);
    };
    for range in tables {
        image.load(range)?;
    }
    load_segments(image)
}

/// Reads what the kernel and the dynamic linker look at, the interpreter's name and notes, and what debuggers look at to
/// find the symbols of a stripped file.
fn load_segments(image: &mut Sparse<'_>) -> io::Result<()> {
    let ranges = match Elf::parse(image.bytes()) {
        Ok(elf) => [elf.small_segments(), elf.symbol_hints()].concat(),
        // Whoever asks for it next says why.
        Err(_) => return Ok(()),
    };
    ranges.into_iter().try_for_each(|range| image.load(range))
}

#[cfg(test)]
mod tests;
