//! Owns finding a module's separate debug info: installed on this host, in its process's root, or on servers.
//! Must not know how names are looked up in it.

use std::{fs::File, os::unix::fs::MetadataExt as _, sync::Arc};

use super::{DEBUG_SECTIONS, Source, claims_within, copy, wanted_sections};
use crate::{
    modules::{Module, elf::Headers},
    symbolize::fetcher::Fetcher,
};

/// Where distributions put separate debug info.
const DEBUG_DIRECTORY: &str = "/usr/lib/debug/.build-id";

/// The nearest one; servers are asked only for a file that has no debug info of its own.
pub(super) fn find(
    headers: &Headers,
    module: &Module,
    file: &File,
    servers: &mut Fetcher,
) -> Option<Source> {
    let of_process = || foreign_debug_file(headers, module.debug_file.as_ref()?);
    let of_servers = || {
        let sections = wanted_sections(headers, file).ok()?;
        if sections.iter().any(|it| DEBUG_SECTIONS.contains(&it.name)) {
            return None;
        }
        let build_id = headers.build_id(file)?;
        let found = servers.fetch(&build_id.to_string(), &module.name)?;
        // A server may answer anything.
        let is_same = Headers::read(&found).ok()?.build_id(&found) == Some(build_id);
        is_same.then(|| foreign_debug_file(headers, &found))?
    };
    debug_file(headers, file)
        .or_else(of_process)
        .or_else(of_servers)
}

/// The separate debug info that the distribution installed for this build id.
///
/// Found by build id alone: a debug link is a name that the file chooses. Only
/// files of root in root's directories are taken, so they need no copy.
fn debug_file(headers: &Headers, file: &File) -> Option<Source> {
    let build_id = headers
        .build_id(file)
        .filter(|it| it.as_bytes().len() >= 2)?;
    let hex = build_id.to_string();
    let path = format!("{DEBUG_DIRECTORY}/{}/{}.debug", &hex[..2], &hex[2..]);
    let file = File::open(path).ok()?;
    let status = file.metadata().ok()?;
    let is_ours = status.is_file() && status.uid() == 0 && status.mode() & 0o022 == 0;
    let own = Headers::read(&file).ok()?;
    let is_same = own.build_id(&file).is_none_or(|it| it == build_id);
    (is_ours && is_same && claims_within(&own, &file)).then(|| Source {
        file: Arc::new(file),
        has_debug_info: true,
        copied_bytes: 0,
    })
}

/// The separate debug info from the root of a process: anybody can have written it, so it is copied. It was made from
/// the same addresses, which is all that the copy needs of the file's own headers.
fn foreign_debug_file(headers: &Headers, file: &File) -> Option<Source> {
    let own = Headers::read(file).ok()?;
    let is_same_kind = own.file.e_machine == headers.file.e_machine;
    let source = copy(&own, file, true).ok()?;
    is_same_kind.then_some(source)
}
