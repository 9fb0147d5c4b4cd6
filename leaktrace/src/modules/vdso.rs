//! Owns a copy of the code that the kernel maps into every process (`[vdso]`).
//! Must not know what is in it.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Missing, ModuleId, Modules};
use crate::host::maps::{Mapping, read_maps};

/// The kernel's has two pages; no one will have more than this.
const BYTES_MAX: u64 = 1 << 20;

impl Modules {
    /// The module of the kernel's code: a copy of our own mapping, since it is the same in every process that runs
    /// instructions of this width. Others are not traced.
    pub(super) fn vdso(&mut self, mapping: &Mapping) -> ModuleId {
        let key = (None, mapping.path.clone());
        if let Some(id) = self.by_name.get(&key) {
            return *id;
        }
        let Ok(file) = copy() else {
            return self.unopened(mapping, Missing::Kernel);
        };
        // Nobody else has this file, so that it can be trusted.
        let Some(id) = self.add(mapping, None, Ok((file, true))) else {
            return self.overflow();
        };
        self.open_files += 1;
        self.by_name.insert(key, id);
        id
    }
}

fn copy() -> io::Result<File> {
    let mappings = read_maps(std::process::id())?;
    let own = mappings.iter().find(|it| it.is_vdso());
    let own = own.ok_or(io::ErrorKind::NotFound)?;
    let size = (own.end - own.start).min(BYTES_MAX);
    let mut bytes = vec![0; size as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, own.start)?;
    let mut file = File::from(memfd_create("leaktrace-vdso", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&bytes)?;
    Ok(file)
}
