//! Owns the files behind mappings: each opened once, while a process still lives, and kept.
//! Must not know symbols, stacks or which processes are of interest.

mod early;
pub mod elf;
mod foreign;
mod inodes;
mod open;
mod vdso;

use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::Instant,
};

use rustc_hash::FxHashMap;

use self::{early::EarlyFiles, elf::Headers, inodes::Inodes, open::Volume};
pub use self::{
    early::{EARLY_FILES_MAX, Mark},
    open::open_mapped,
};
use crate::host::maps::{BuildId, Mapping};

/// As many files as are held open. A busy host maps some hundred distinct files;
/// the hard limit of descriptors is rarely below 4096, but the soft one often
/// is: the session raises it.
const OPEN_FILES_MAX: usize = 4096;

/// As many modules as are told apart, opened or not; beyond, all share one
/// without a name. A process can map files under as many names as it likes.
const MODULES_MAX: usize = 65536;

/// Why a module cannot be symbolized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The memory has no file: generated code, most likely.
    NoFile,
    /// The kernel's own page.
    Kernel,
    /// The process ended before the file was opened, and it is not found elsewhere.
    Gone,
    /// What is mapped is no regular file.
    NotRegular,
    /// Too many files are open already.
    TooMany,
}

impl Missing {
    /// The clause that a report shows.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoFile => "memory without a file",
            Self::Kernel => "kernel page",
            Self::Gone => "file gone before it was opened",
            Self::NotRegular => "not a regular file",
            Self::TooMany => "too many files open",
        }
    }
}

/// Names a module; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(u32);

/// A file that is mapped for execution, or what stands for one.
#[derive(Debug)]
pub struct Module {
    /// Its id.
    pub id: ModuleId,
    /// The last part of the path, without control characters.
    pub name: String,
    /// The path as the first process saw it, without control characters.
    pub path: String,
    /// The build id in lower-case hex: from the file, else from the mapping.
    pub build_id: Option<String>,
    /// The file, held open: an unlink or the end of the container does not matter.
    pub file: Option<Arc<File>>,
    /// Separate debug info from the root of the process that mapped the file first.
    pub debug_file: Option<Arc<File>>,
    /// Whether the file is no code but a map of generated code, and offsets in it are addresses.
    pub is_perf_map: bool,
    /// Whether only root can write the file, on this host's own file system.
    pub trusted: bool,
    /// Why there is no file, where there is none.
    pub missing: Option<Missing>,
}

/// Where a file is that is told from others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// On this device, which is exact, and known without reading.
    Device(u64),
    /// In any overlay. They show one file under a device number per container;
    /// then the build id stands in, and the change time, which no user can set.
    Overlay,
    /// Where an overlay may have it from. Such a file is another one on each
    /// device, however alike (a snapshot of btrfs).
    Below,
}

/// What tells one file from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FileKey {
    at: At,
    inode: u64,
    size: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
    build_id: Option<BuildId>,
}

/// All modules seen so far.
#[derive(Default)]
pub struct Modules {
    modules: Vec<Arc<Module>>,
    by_file: FxHashMap<FileKey, ModuleId>,
    by_inode: Inodes,
    /// Files that only root can write: another file with the same build id would
    /// only fool itself.
    by_trusted_build_id: FxHashMap<BuildId, ModuleId>,
    by_name: FxHashMap<(Option<BuildId>, String), ModuleId>,
    /// Maps of generated code, by process.
    perf_maps: FxHashMap<u32, ModuleId>,
    /// When such a map was last looked for in vain.
    perf_maps_missed: FxHashMap<u32, Instant>,
    /// Files that were opened at their mapping, in case that they are needed.
    early: EarlyFiles,
    open_files: usize,
    refused_files: u64,
    refused_modules: u64,
}

impl Modules {
    /// The module behind a mapping of a process, opened at the first sight.
    pub fn resolve(&mut self, pid: u32, mapping: &Mapping) -> ModuleId {
        if mapping.is_vdso() {
            return self.vdso(mapping);
        }
        if !mapping.is_file() {
            let missing = match mapping.path.as_str() {
                "" => Missing::NoFile,
                _ => Missing::Kernel,
            };
            return self.unopened(mapping, missing);
        }
        if let Some(id) = self.known(pid, mapping) {
            return id;
        }
        match open::mapped_file(pid, mapping) {
            Ok(file) => self.opened(Some(pid), mapping, file),
            Err(Missing::Gone) => self.gone(mapping),
            Err(missing) => self.unopened(mapping, missing),
        }
    }

    /// The module of an id.
    pub fn get(&self, id: ModuleId) -> &Arc<Module> {
        &self.modules[id.0 as usize]
    }

    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// How many files are held open.
    pub fn open_files(&self) -> usize {
        self.open_files
    }

    /// Whether half of the files that may be kept are, or half of the modules: none is ever dropped.
    pub fn is_half_full(&self) -> bool {
        self.open_files >= OPEN_FILES_MAX / 2 || self.modules.len() >= MODULES_MAX / 2
    }

    /// How many files were not kept because too many are open.
    pub fn refused_files(&self) -> u64 {
        self.refused_files
    }

    /// How many times a mapping got the common module because there are too many.
    pub fn refused_modules(&self) -> u64 {
        self.refused_modules
    }

    /// Takes in a file that no process maps.
    #[cfg(any(test, fuzzing))]
    pub fn adopt(&mut self, path: &std::path::Path) -> ModuleId {
        let mapping = Mapping {
            path: path.to_string_lossy().into_owned(),
            ..Mapping::default()
        };
        self.opened(None, &mapping, File::open(path).expect("it can be opened"))
    }

    /// A module that this mapping surely shows, without a system call.
    fn known(&self, pid: u32, mapping: &Mapping) -> Option<ModuleId> {
        let by_build_id = || {
            self.by_trusted_build_id
                .get(mapping.build_id.as_ref()?)
                .copied()
        };
        self.by_inode.get(pid, mapping).or_else(by_build_id)
    }

    /// Takes in the very file that is mapped.
    fn opened(&mut self, pid: Option<u32>, mapping: &Mapping, file: File) -> ModuleId {
        let Ok(status) = file.metadata() else {
            return self.unopened(mapping, Missing::Gone);
        };
        let exact = FileKey {
            at: At::Device(status.dev()),
            inode: status.ino(),
            size: status.size(),
            modified_ns: (status.mtime(), status.mtime_nsec()),
            changed_ns: (status.ctime(), status.ctime_nsec()),
            build_id: None,
        };
        let volume = Volume::of(&file);
        let id = match self.by_file.get(&exact) {
            Some(id) => *id,
            None => match self.opened_first(pid, mapping, (file, volume), &status, exact) {
                Ok(id) => id,
                Err(missing) => return self.unopened(mapping, missing),
            },
        };
        self.by_inode.insert(pid, mapping, (&status, volume), id);
        id
    }

    /// Takes in a file that was not seen on this device yet.
    fn opened_first(
        &mut self,
        pid: Option<u32>,
        mapping: &Mapping,
        (file, volume): (File, Volume),
        status: &Metadata,
        exact: FileKey,
    ) -> Result<ModuleId, Missing> {
        let build_id = Headers::read(&file).ok().and_then(|it| it.build_id(&file));
        let elsewhere = |at: &At| FileKey {
            at: *at,
            build_id,
            ..exact
        };
        let same = match volume {
            Volume::Overlay => [At::Overlay, At::Below].as_slice(),
            Volume::Plain => &[At::Overlay],
            Volume::Foreign => &[],
        };
        let same = same.iter().filter(|_| build_id.is_some()).map(elsewhere);
        let known = same.into_iter().find_map(|it| self.by_file.get(&it));
        if let Some(id) = known.copied() {
            if self.by_file.len() < 2 * MODULES_MAX {
                self.by_file.insert(exact, id);
            }
            return Ok(id);
        }
        if self.open_files >= OPEN_FILES_MAX {
            self.refused_files += 1;
            return Err(Missing::TooMany);
        }
        let trusted = open::is_trusted(status, &mapping.path);
        let debug_file = build_id
            .zip(pid)
            .and_then(|(build_id, pid)| foreign::debug_file(pid, mapping, &file, build_id));
        let id = self
            .add(mapping, build_id, Ok((file, trusted)))
            .ok_or(Missing::TooMany)?;
        self.open_files += 1;
        if let (Some(file), Some(module)) =
            (debug_file, Arc::get_mut(&mut self.modules[id.0 as usize]))
        {
            module.debug_file = Some(Arc::new(file));
            self.open_files += 1;
        }
        self.by_file.insert(exact, id);
        if let Some(build_id) = build_id {
            if let Some(at) = volume.seen_as() {
                self.by_file.entry(elsewhere(&at)).or_insert(id);
            }
            self.by_name
                .insert((Some(build_id), mapping.path.clone()), id);
            if trusted {
                self.by_trusted_build_id.insert(build_id, id);
            }
        }
        Ok(id)
    }

    /// Keeps a file that was opened at its mapping, in case that its process is gone when it is needed.
    pub fn keep_early(&mut self, mapping: &Mapping, file: File) {
        self.early.keep(mapping, file);
    }

    /// The process is gone: its file was opened before, or the build id must prove that a file is the one.
    fn gone(&mut self, mapping: &Mapping) -> ModuleId {
        if let Some(build_id) = mapping.build_id {
            let key = (Some(build_id), mapping.path.clone());
            if let Some(id) = self.by_name.get(&key) {
                return *id;
            }
        }
        let early = self.early.take(mapping);
        if let Some(file) = early.or_else(|| open::proven_file(mapping)) {
            let id = self.opened(None, mapping, file);
            if mapping.build_id.is_some() && self.by_name.len() < 2 * MODULES_MAX {
                let name = (mapping.build_id, mapping.path.clone());
                self.by_name.insert(name, id);
            }
            return id;
        }
        self.unopened(mapping, Missing::Gone)
    }

    /// A module that has a name at best.
    fn unopened(&mut self, mapping: &Mapping, missing: Missing) -> ModuleId {
        let key = (mapping.build_id, mapping.path.clone());
        if let Some(id) = self.by_name.get(&key) {
            return *id;
        }
        match self.add(mapping, mapping.build_id, Err(missing)) {
            Some(id) => {
                self.by_name.insert(key, id);
                id
            }
            None => self.overflow(),
        }
    }

    /// Adds a module, unless there are too many.
    fn add(
        &mut self,
        mapping: &Mapping,
        build_id: Option<BuildId>,
        file: Result<(File, bool), Missing>,
    ) -> Option<ModuleId> {
        // The last place is the common module's.
        if self.modules.len() + 1 >= MODULES_MAX {
            return None;
        }
        let path = printable(&mapping.path);
        let id = ModuleId(u32::try_from(self.modules.len()).ok()?);
        self.modules.push(Arc::new(Module {
            id,
            name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            build_id: build_id.or(mapping.build_id).map(|it| it.to_string()),
            path,
            debug_file: None,
            is_perf_map: false,
            missing: file.as_ref().err().copied(),
            trusted: file.as_ref().is_ok_and(|(_, trusted)| *trusted),
            file: file.ok().map(|(file, _)| Arc::new(file)),
        }));
        Some(id)
    }

    /// The module that stands for all that found no place.
    fn overflow(&mut self) -> ModuleId {
        self.refused_modules += 1;
        let id = ModuleId((MODULES_MAX - 1) as u32);
        if self.modules.len() < MODULES_MAX {
            self.modules.push(Arc::new(Module {
                id,
                name: String::new(),
                path: String::new(),
                build_id: None,
                file: None,
                debug_file: None,
                is_perf_map: false,
                trusted: false,
                missing: Some(Missing::TooMany),
            }));
        }
        id
    }
}

/// A path as a report may show it: names of files can hold line ends and escape
/// sequences for terminals.
fn printable(path: &str) -> String {
    path.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

#[cfg(test)]
mod tests;
