//! Owns the names of Go programs by Go's own function table, which stripped programs have too.
//! Must not know blazesym or how files are kept.

use std::{fs::File, os::unix::fs::FileExt as _};

use object::LittleEndian;

use super::{Request, bare, demangle::printable};
use crate::{
    golang::binary::{GoBinary, PcTable},
    modules::{
        Module,
        elf::{Headers, read_at},
    },
    report::model::Frame,
};

/// Larger files are not read: the largest Go programs have some hundred megabytes with debug info.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// More names than any linked file's sections have.
const SECTION_NAMES_BYTES_MAX: u64 = 256 * 1024;

/// Longer names and paths are cut.
const TEXT_BYTES_MAX: usize = 1024;

/// Sections that Go's linker alone writes: one of them is in every program that it made.
const GO_SECTIONS: [&[u8]; 4] = [
    b".gopclntab",
    b".data.rel.ro.gopclntab",
    b".go.buildinfo",
    b".note.go.buildid",
];

/// The function table of a module; `None` where it is no Go program.
pub(super) fn read_table(module: &Module) -> Option<PcTable<'static>> {
    let file = module.file.as_ref()?;
    if !is_go(file)? {
        return None;
    }
    let len = file.metadata().ok()?.len();
    if len > FILE_BYTES_MAX {
        return None;
    }
    // At once, so that nobody can change it between two looks.
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(GoBinary::parse(&bytes).ok()?.into_table())
}

/// Whether the sections are those of a Go program.
fn is_go(file: &File) -> Option<bool> {
    let headers = Headers::read(file).ok()?;
    let sections = headers.sections(file).ok()?;
    let names = sections.get(usize::from(headers.file.e_shstrndx.get(LittleEndian).0))?;
    let size = names.sh_size.get(LittleEndian).min(SECTION_NAMES_BYTES_MAX);
    let names = read_at(file, names.sh_offset.get(LittleEndian), size).ok()?;
    Some(sections.iter().any(|section| {
        let rest = names.get(section.sh_name.get(LittleEndian) as usize..);
        let name = rest.and_then(|it| it.split(|byte| *byte == 0).next());
        name.is_some_and(|name| GO_SECTIONS.contains(&name))
    }))
}

/// The frames of an address; empty where it is not Go's code, as with C in the same program.
pub(super) fn frames(table: &PcTable<'_>, request: &Request, svma: u64) -> Vec<Frame> {
    let frames = table.frames(svma).into_iter();
    frames
        .filter(|frame| !frame.function.is_empty())
        .map(|frame| Frame {
            function: Some(printable(frame.function, TEXT_BYTES_MAX)),
            file: frame.file.map(|it| printable(it, TEXT_BYTES_MAX)),
            line: frame.line,
            inlined: frame.is_inlined,
            ..bare(request)
        })
        .collect()
}
