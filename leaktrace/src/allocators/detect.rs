//! Owns finding out which allocation functions a file defines, and whose they are.
//! Must not know how any of them is probed.

use std::{collections::BTreeSet, sync::LazyLock};

use leaktrace_common::cookie::Family;
use rustc_hash::FxHashMap;

use super::families::{CPP, EntryPoint, JEMALLOC, MALLOC, MIMALLOC, RUST, TCMALLOC};
use crate::binary::elf::{Definition, Elf};

/// The longest name that is looked at: those of the tables with a prefix or mangled.
const NAME_BYTES_MAX: usize = 72;

/// Builds of jemalloc in one file that are told apart.
const PREFIXES_MAX: usize = 8;

/// Addresses of one name: symbol versions with code of their own.
const ADDRESSES_MAX: usize = 8;

/// Which table a name stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Table {
    Malloc,
    Cpp,
    Jemalloc,
    Tcmalloc,
    Mimalloc,
    Rust,
}

/// Every name of the tables.
static INDEX: LazyLock<FxHashMap<&'static [u8], (Table, &'static EntryPoint)>> =
    LazyLock::new(|| {
        let tables = [
            (Table::Malloc, MALLOC),
            (Table::Cpp, CPP),
            (Table::Jemalloc, JEMALLOC),
            (Table::Tcmalloc, TCMALLOC),
            (Table::Mimalloc, MIMALLOC),
            (Table::Rust, RUST),
        ];
        let of = |(table, points): (Table, &'static [EntryPoint])| {
            points
                .iter()
                .map(move |point| (point.name.as_bytes(), (table, point)))
        };
        tables.into_iter().flat_map(of).collect()
    });

/// Functions that only one C library has, and that others do not replace.
const MARKS: &[(&str, Family)] = &[
    ("gnu_get_libc_version", Family::Glibc),
    ("_int_malloc", Family::Glibc),
    ("__libc_mallopt", Family::Glibc),
    ("__malloc_donate", Family::Musl),
    ("__malloc_atfork", Family::Musl),
    ("__libc_malloc_impl", Family::Musl),
    ("__dls3", Family::Musl),
];

/// Functions of jemalloc's inside that it has had since 4.0, or, of one whose inside has no names, of
/// its interface: others may have functions of their own that end in `mallocx`.
const INSIDE: &[&str] = &[
    "arena_malloc_hard",
    "tcache_alloc_small_hard",
    "arena_boot",
    "mallctlbymib",
];

/// Such names that are remembered: a few of each of the builds in a file.
const INSIDE_MAX: usize = 64;

/// A function of a file that allocates or frees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is known of it.
    pub point: EntryPoint,
    /// Its name in the file, a prefix included.
    pub name: String,
    /// The prefix of its allocator's names.
    pub prefix: String,
    /// Whose it is. `operator new` is taken for the file's own until its code tells otherwise.
    pub family: Family,
    /// Its address, as the file states it.
    pub svma: u64,
    /// Its size; 0 where it is not told.
    pub size: u64,
    /// Whether the address is a resolver's.
    pub ifunc: bool,
}

/// What a table says of a name that a jump or a call leads to.
#[must_use]
pub fn known(name: &str) -> Option<&'static EntryPoint> {
    INDEX.get(name.as_bytes()).map(|(_, point)| *point)
}

/// Names by which the parts of a file were seen, before it is clear whose they are.
#[derive(Default)]
struct Census<'d> {
    seen: Vec<(Table, &'static EntryPoint, String, Definition<'d>)>,
    /// Prefixes of jemalloc's names.
    prefixes: BTreeSet<String>,
    /// Names of functions of jemalloc's inside.
    inside: Vec<String>,
    marks: Vec<Family>,
}

impl<'d> Census<'d> {
    fn take(&mut self, definition: Definition<'d>) {
        let name = definition.name;
        if let Some((table, point)) = INDEX.get(name) {
            self.add(*table, point, "", definition);
            return;
        }
        if let Some(prefix) = name.strip_suffix(b"mallocx")
            && self.prefixes.len() < PREFIXES_MAX
            && let Ok(prefix) = std::str::from_utf8(prefix)
        {
            self.prefixes.insert(prefix.to_owned());
        }
        if INSIDE.iter().any(|end| name.ends_with(end.as_bytes()))
            && self.inside.len() < INSIDE_MAX
            && let Ok(name) = std::str::from_utf8(name)
        {
            self.inside.push(name.to_owned());
        }
        if let Some((_, family)) = MARKS.iter().find(|(mark, _)| mark.as_bytes() == name) {
            self.marks.push(*family);
        }
        if name.starts_with(b"_R")
            && let Some(point) = RUST.iter().find(|point| is_mangled(name, point.name))
        {
            self.add(Table::Rust, point, "", definition);
        }
    }

    fn add(
        &mut self,
        table: Table,
        point: &'static EntryPoint,
        prefix: &str,
        definition: Definition<'d>,
    ) {
        let same = |it: &&(Table, &'static EntryPoint, String, Definition<'d>)| {
            it.1 == point && it.2 == prefix
        };
        let known: Vec<u64> = self.seen.iter().filter(same).map(|it| it.3.svma).collect();
        if known.len() < ADDRESSES_MAX && !known.contains(&definition.svma) {
            self.seen
                .push((table, point, prefix.to_owned(), definition));
        }
    }

    /// Takes a name that begins with one of the prefixes.
    fn take_prefixed(&mut self, definition: Definition<'d>) {
        let prefixes = self.prefixes.iter();
        let found = prefixes.filter_map(|prefix| {
            let rest = definition.name.strip_prefix(prefix.as_bytes())?;
            let (table, point) = INDEX.get(rest)?;
            matches!(table, Table::Malloc | Table::Jemalloc)
                .then(|| (*table, *point, prefix.clone()))
        });
        let found: Vec<_> = found.collect();
        for (table, point, prefix) in found {
            self.add(table, point, &prefix, definition);
        }
    }

    fn has(&self, prefix: &str, name: &str) -> bool {
        self.seen
            .iter()
            .any(|(_, point, of, _)| point.name == name && of == prefix)
    }

    fn has_any(&self, table: Table) -> bool {
        self.seen.iter().any(|it| it.0 == table)
    }

    /// Whose the names are that every malloc has.
    fn malloc_family(&self) -> Family {
        if self.has("", "mallocx") {
            return Family::Jemalloc;
        }
        if self.has_any(Table::Tcmalloc) {
            return Family::Tcmalloc;
        }
        // A program may have mimalloc beside its C library's malloc.
        match self.marks.first() {
            Some(family) => *family,
            None if self.has_any(Table::Mimalloc) => Family::Mimalloc,
            None => Family::Other,
        }
    }
}

/// What a file may define: only then its code has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defined {
    /// Nothing that allocates.
    None,
    /// What every Rust program allocates by.
    RustAlone,
    /// An allocator.
    Allocators,
}

/// What a file may define, by its names.
#[must_use]
pub fn defined(elf: &Elf<'_>, more: &[&Elf<'_>]) -> Defined {
    let found = find(elf, more);
    if found.is_empty() {
        Defined::None
    } else if found.iter().all(|it| it.family == Family::Rust) {
        Defined::RustAlone
    } else {
        Defined::Allocators
    }
}

/// The functions of a file that allocate or free, in the order of the tables.
///
/// `more` are other symbol tables of the same file: those that were packed or put into a file of
/// their own when it was stripped.
#[must_use]
pub fn find(elf: &Elf<'_>, more: &[&Elf<'_>]) -> Vec<Found> {
    let tables: Vec<&Elf<'_>> = std::iter::once(elf).chain(more.iter().copied()).collect();
    let mut census = Census::default();
    for table in &tables {
        table.each_function(NAME_BYTES_MAX, |definition| census.take(definition));
    }
    census.prefixes.remove("");
    if !census.prefixes.is_empty() {
        for table in &tables {
            table.each_function(NAME_BYTES_MAX, |definition| {
                census.take_prefixed(definition);
            });
        }
    }
    accept(elf, census)
}

/// Leaves out names that are somebody's by chance, and says whose the others are.
fn accept(elf: &Elf<'_>, census: Census<'_>) -> Vec<Found> {
    // The dynamic linker's own malloc serves nobody but itself, and never frees.
    let is_linker = elf
        .soname()
        .is_some_and(|name| name.starts_with("ld-linux"));
    let has_malloc = !is_linker && census.has("", "malloc") && census.has("", "free");
    let malloc_family = census.malloc_family();
    let is_complete = |prefix: &str| {
        let names = ["rallocx", "dallocx", "sdallocx"];
        let has_inside = census.inside.iter().any(|name| name.starts_with(prefix));
        has_inside && names.into_iter().any(|name| census.has(prefix, name))
    };
    let mut found: Vec<Found> = Vec::new();
    for (table, point, prefix, definition) in &census.seen {
        let family = match table {
            Table::Malloc | Table::Jemalloc if !prefix.is_empty() => {
                is_complete(prefix).then_some(Family::Jemalloc)
            }
            Table::Malloc => has_malloc.then_some(malloc_family),
            Table::Jemalloc => (is_complete("") && has_malloc).then_some(malloc_family),
            Table::Tcmalloc => Some(Family::Tcmalloc),
            Table::Mimalloc => Some(Family::Mimalloc),
            // Whether another is seen below it, its code will tell.
            Table::Rust => Some(Family::Rust),
            Table::Cpp if has_malloc => Some(malloc_family),
            Table::Cpp if census.has_any(Table::Mimalloc) => Some(Family::Mimalloc),
            Table::Cpp => Some(Family::Cpp),
        };
        let Some(family) = family else { continue };
        found.push(Found {
            point: **point,
            name: match table {
                Table::Rust => String::from(point.name),
                _ => format!("{prefix}{}", point.name),
            },
            prefix: prefix.clone(),
            family,
            svma: definition.svma,
            size: definition.size,
            ifunc: definition.ifunc,
        });
    }
    found.sort_by_key(|it| order_of(&it.point));
    found
}

/// Tables in the order of their names, so that the plain name of a function comes before others.
fn order_of(point: &EntryPoint) -> usize {
    let tables = [MALLOC, JEMALLOC, TCMALLOC, MIMALLOC, CPP, RUST];
    let mut points = tables.into_iter().flatten();
    points
        .position(|it| it.name == point.name)
        .unwrap_or(usize::MAX)
}

/// Whether a name of Rust's newer mangling ends in this one, with its length before it.
fn is_mangled(name: &[u8], plain: &str) -> bool {
    // A name that begins with an underscore has one more after its length.
    let tail = format!("{}_{plain}", plain.len());
    name.ends_with(tail.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newer compilers mangle what older ones did not.
    #[test]
    fn mangled_names_of_rust_are_known() {
        let name = b"_RNvCsdfLo0OWc9j9_7___rustc12___rust_alloc";
        assert!(is_mangled(name, "__rust_alloc"));
        assert!(!is_mangled(name, "__rust_alloc_zeroed"));
        assert!(!is_mangled(b"_RNvCs_4main11__rust_alloc", "__rust_alloc"));
    }

    /// No name stands in two tables, and each has arguments that registers can hold.
    #[test]
    fn names_are_unique() {
        let tables = [MALLOC, JEMALLOC, TCMALLOC, MIMALLOC, CPP, RUST];
        let points: Vec<_> = tables.into_iter().flatten().collect();
        assert_eq!(INDEX.len(), points.len());
        assert!(points.iter().all(|point| point.arguments() <= 4));
    }
}
