//! Owns finding the code by which glibc frees a block: `free`, `realloc`, and the static functions that these lead to.
//! Must not know processes, or what is done with it.

use std::{collections::BTreeMap, fs::File, ops::Range};

use crate::{
    allocators::Allocator,
    binary::{elf::Elf, flow},
    modules::elf::read_at,
    unwind::{FrameSections, Table},
};

/// A larger file is not read: C libraries have two megabytes, and static programs with one some more.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// glibc's allocator is one file of C with some 20 KiB of code. What lies further from `free` is not of it: that which tells
/// of failures, say.
const NEAR: u64 = 0x8000;

/// From `free` by way of the parts of `_int_free`, which are functions of their own since 2.41.
const CALLS_MAX: u32 = 4;

/// The functions by which a program ends a block.
const ENTRIES: [&str; 2] = ["free", "realloc"];

/// Where in its file glibc's allocator frees, in order; `None` where that cannot be told.
///
/// A function's extent is that of its unwind information, which no file that is stripped lacks.
#[must_use]
pub fn freeing_code(file: &File, allocator: &Allocator) -> Option<Vec<Range<u64>>> {
    let length = file.metadata().ok()?.len();
    if length > FILE_BYTES_MAX {
        return None;
    }
    let bytes = read_at(file, 0, length).ok()?;
    let elf = Elf::parse(&bytes).ok()?;
    let functions = Table::functions(&FrameSections::read(file).ok()?);
    let entry = |name: &str| {
        let mut probes = allocator.probes.iter();
        probes
            .find(|it| it.name() == name)
            .map(|it| it.entry_file_offset)
    };
    let free = entry(ENTRIES[0])?;
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    let entries = ENTRIES.iter().filter_map(|name| entry(name));
    let mut waiting: Vec<(u64, u32)> = entries.map(|it| (it, 0)).collect();
    while let Some((start, calls)) = waiting.pop() {
        if start.abs_diff(free) > NEAR || found.contains_key(&start) {
            continue;
        }
        let Some(end) = end_of(&functions, start) else {
            continue;
        };
        found.insert(start, end);
        if calls < CALLS_MAX {
            let svma = elf.file_offset_to_svma(start)?;
            let targets = flow::calls(&elf, svma, end - start).into_iter();
            let offsets = targets.filter_map(|it| elf.svma_to_file_offset(it.svma?));
            waiting.extend(offsets.map(|it| (it, calls + 1)));
        }
    }
    let ranges = found.into_iter().map(|(start, end)| start..end);
    Some(ranges.collect()).filter(|it: &Vec<_>| !it.is_empty())
}

/// Where the function ends that begins there.
fn end_of(functions: &[(u32, u32)], start: u64) -> Option<u64> {
    let start = u32::try_from(start).ok()?;
    let index = functions
        .binary_search_by_key(&start, |(begin, _)| *begin)
        .ok()?;
    Some(u64::from(functions[index].1))
}
