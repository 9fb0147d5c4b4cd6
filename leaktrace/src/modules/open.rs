//! Owns opening the file behind a mapping without being led astray by the process.
//! Must not know what the file is for.

use std::{
    fs::{File, Metadata},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::{
        stat::Mode,
        statfs::{FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs},
    },
};

use super::{At, Missing, elf::Headers};
use crate::host::{maps::Mapping, process_root::open_regular};

/// Opens the very file that a living process has mapped.
pub(super) fn mapped_file(pid: u32, mapping: &Mapping) -> Result<File, Missing> {
    let path = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    );
    // An O_PATH descriptor opens nothing yet: a device or a pipe is not touched.
    let handle = nix::fcntl::open(
        path.as_str(),
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|_| Missing::Gone)?;
    open_regular(&handle).ok_or(Missing::NotRegular)
}

/// Opens the file of a mapping that was just made, whose process may be gone already: then by its path, where the build
/// id proves that it is the one.
pub fn open_mapped(pid: u32, mapping: &Mapping) -> Option<File> {
    match mapped_file(pid, mapping) {
        Ok(file) => Some(file),
        Err(Missing::Gone) => proven_file(mapping),
        Err(_) => None,
    }
}

/// Opens the file of a mapping by its path in our own root, if it has the build id that was mapped.
pub(super) fn proven_file(mapping: &Mapping) -> Option<File> {
    let build_id = mapping.build_id?;
    let file = own_file(&mapping.path)?;
    let found = Headers::read(&file).ok()?.build_id(&file);
    (found == Some(build_id)).then_some(file)
}

/// What a file system's word on its files is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Volume {
    /// It shows files of another one under a device number of its own.
    Overlay,
    /// A user's own program speaks for it, and says what it likes.
    Foreign,
    /// The kernel keeps its inodes.
    Plain,
}

impl Volume {
    /// That of a file.
    pub(super) fn of(file: &File) -> Self {
        match fstatfs(file).map(|it| it.filesystem_type()) {
            Ok(OVERLAYFS_SUPER_MAGIC) => Self::Overlay,
            Ok(FUSE_SUPER_MAGIC) | Err(_) => Self::Foreign,
            Ok(_) => Self::Plain,
        }
    }

    /// Where others may see its files too.
    pub(super) fn seen_as(self) -> Option<At> {
        match self {
            Self::Overlay => Some(At::Overlay),
            Self::Plain => Some(At::Below),
            Self::Foreign => None,
        }
    }
}

/// Opens a path that a process named in our own root.
///
/// Stays on the root's mount: a path into a user's own file system could make us
/// wait for an answer that never comes. And follows no link of /proc, which could
/// lead into any process.
pub(super) fn own_file(path: &str) -> Option<File> {
    open_regular(&own_handle(path).ok()?)
}

/// Whether nobody but root can change or shorten the file: root owns it, others
/// may not write, and this path of our own root leads to it. Inside a container
/// root is somebody else.
pub(super) fn is_trusted(status: &Metadata, path: &str) -> bool {
    let only_root = status.uid() == 0 && status.mode() & 0o022 == 0;
    only_root
        && own_handle(path)
            .map(|handle| File::from(handle).metadata())
            .is_ok_and(|own| {
                own.is_ok_and(|own| (own.dev(), own.ino()) == (status.dev(), status.ino()))
            })
}

fn own_handle(path: &str) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, path, how)
}
