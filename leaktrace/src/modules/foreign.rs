//! Owns opening files of a process's own root that it does not map: debug info and the map of its generated code.
//! Must not know what is in them beyond who made them.
//!
//! Every path is resolved inside the process's root, as the process would, without links of `/proc`; only regular
//! files are taken, and a file that must belong to a build is compared with its build id.

use std::{
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use object::{LittleEndian, elf::SectionHeader64};

use super::{
    ModuleId, Modules, OPEN_FILES_MAX,
    elf::{Headers, read_at},
    open::own_file,
};
use crate::host::{
    maps::{BuildId, Mapping},
    process_root::ProcessRoot,
};

/// The longest name of a debug file that is believed.
const NAME_BYTES_MAX: u64 = 255;

/// A map of generated code that was not there is looked for again after this.
const PERF_MAP_PAUSE: Duration = Duration::from_secs(1);

impl Modules {
    /// The map of a process's generated code, opened at the first sight and kept after its end.
    pub fn perf_map(&mut self, pid: u32) -> Option<ModuleId> {
        if let Some(id) = self.perf_maps.get(&pid) {
            return Some(*id);
        }
        let missed = self.perf_maps_missed.get(&pid);
        if missed.is_some_and(|it| it.elapsed() < PERF_MAP_PAUSE) {
            return None;
        }
        let Some((path, file)) = perf_map(pid) else {
            self.perf_maps_missed.insert(pid, Instant::now());
            return None;
        };
        if self.open_files >= OPEN_FILES_MAX {
            self.refused_files += 1;
            return None;
        }
        let mapping = Mapping {
            path,
            ..Mapping::default()
        };
        let id = self.add(&mapping, None, Ok((file, false)))?;
        let module = Arc::get_mut(&mut self.modules[id.0 as usize])?;
        module.is_perf_map = true;
        self.open_files += 1;
        self.perf_maps.insert(pid, id);
        Some(id)
    }

    /// Forgets which generated code a process has: it has another image, or has ended.
    pub fn forget_process(&mut self, pid: u32) {
        self.perf_maps.remove(&pid);
        self.perf_maps_missed.remove(&pid);
        self.by_inode.forget_process(pid);
    }
}

/// The separate debug info of a file in the root of a process that maps it: by build id, else by the name that the
/// file gives (`.gnu_debuglink`), where gdb would look. It must have the same build id.
pub(super) fn debug_file(
    pid: u32,
    mapping: &Mapping,
    file: &File,
    build_id: BuildId,
) -> Option<File> {
    let root = ProcessRoot::of(pid).ok()?;
    let is_same =
        |found: &File| Headers::read(found).is_ok_and(|it| it.build_id(found) == Some(build_id));
    let hex = build_id.to_string();
    let by_id = hex
        .is_char_boundary(2)
        .then(|| format!("/usr/lib/debug/.build-id/{}/{}.debug", &hex[..2], &hex[2..]));
    if by_id.as_deref().and_then(own_file).is_some() {
        // The host has it as well, where it is found when it is needed.
        return None;
    }
    let by_name = || {
        let name = debug_link(file)?;
        let directory = Path::new(&mapping.path).parent()?.to_str()?;
        Some([
            format!("{directory}/{name}"),
            format!("{directory}/.debug/{name}"),
            format!("/usr/lib/debug{directory}/{name}"),
        ])
    };
    let open = |path: &String| root.open(path).filter(is_same);
    by_id
        .as_ref()
        .and_then(open)
        .or_else(|| by_name()?.iter().find_map(open))
}

/// The name in a file's `.gnu_debuglink`, if it is one.
fn debug_link(file: &File) -> Option<String> {
    let headers = Headers::read(file).ok()?;
    let sections = headers.sections(file).ok()?;
    let at = |section: &SectionHeader64<LittleEndian>, most: u64| {
        let size = section.sh_size.get(LittleEndian).min(most);
        read_at(file, section.sh_offset.get(LittleEndian), size).ok()
    };
    let names = sections.get(usize::from(headers.file.e_shstrndx.get(LittleEndian).0))?;
    let names = at(names, 64 << 10)?;
    let section = sections.iter().find(|it| {
        let rest = names.get(it.sh_name.get(LittleEndian) as usize..);
        rest.is_some_and(|rest| rest.starts_with(b".gnu_debuglink\0"))
    })?;
    let bytes = at(section, NAME_BYTES_MAX + 1)?;
    let name = bytes.split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?;
    let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    is_name.then(|| name.to_owned())
}

/// The map of a process's generated code, as `perf` defines it: `/tmp/perf-PID.map` in the process's root, by its
/// number in its own namespace. Whoever runs the process or root must have made it.
fn perf_map(pid: u32) -> Option<(String, File)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().collect::<Vec<_>>())
    };
    let own_pid: u32 = field("NSpid:")?.last()?.parse().ok()?;
    let uid: u32 = field("Uid:")?.get(1)?.parse().ok()?;
    let path = format!("/tmp/perf-{own_pid}.map");
    let file = ProcessRoot::of(pid).ok()?.open(&path)?;
    let owner = file.metadata().ok()?.uid();
    (owner == uid || owner == 0).then_some((path, file))
}
