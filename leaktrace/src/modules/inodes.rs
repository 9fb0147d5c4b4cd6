//! Owns telling a mapping's file by the numbers in `/proc/PID/maps`, without a system call.
//! Must not know how files are opened.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

use rustc_hash::FxHashMap;

use super::{MODULES_MAX, ModuleId, open::Volume};
use crate::host::maps::Mapping;

/// Device and inode of a mapping, and whose it is where they do not tell the file alone.
type Numbers = (u32, u32, u64, Option<(u32, String)>);

/// Files by the numbers of their mappings: exact as long as the file is held, because a held inode is not given to
/// another.
///
/// Where a file system tells mappings another device than files (btrfs, whose snapshots have the inode numbers of their
/// origin), only the same path of the same process is surely the same file.
#[derive(Default)]
pub(super) struct Inodes {
    known: FxHashMap<Numbers, ModuleId>,
    has_inexact: bool,
}

impl Inodes {
    /// The file that this mapping of a process surely shows.
    pub(super) fn get(&self, pid: u32, mapping: &Mapping) -> Option<ModuleId> {
        let ((major, minor), inode) = (mapping.device, mapping.inode);
        if inode == 0 {
            return None;
        }
        let of = |owner| self.known.get(&(major, minor, inode, owner)).copied();
        let of_process = || of(Some((pid, mapping.path.clone())));
        of(None).or_else(|| self.has_inexact.then(of_process).flatten())
    }

    /// Takes in what a mapping of a process shows, by the status of the open file. An overlay's mappings have the numbers
    /// of the file below it on older kernels.
    pub(super) fn insert(
        &mut self,
        pid: Option<u32>,
        mapping: &Mapping,
        (status, volume): (&Metadata, Volume),
        id: ModuleId,
    ) {
        if mapping.inode == 0 || self.known.len() >= MODULES_MAX {
            return;
        }
        let (major, minor) = mapping.device;
        let is_exact =
            volume == Volume::Overlay || status.dev() == nix::libc::makedev(major, minor);
        let owner = pid.filter(|_| !is_exact);
        let owner = owner.map(|pid| (pid, mapping.path.clone()));
        self.has_inexact |= owner.is_some();
        if is_exact || owner.is_some() {
            self.known.insert((major, minor, mapping.inode, owner), id);
        }
    }

    /// Forgets what only a process could tell.
    pub(super) fn forget_process(&mut self, pid: u32) {
        if self.has_inexact {
            let is_its = |(.., owner): &Numbers| owner.as_ref().is_some_and(|it| it.0 == pid);
            self.known.retain(|numbers, _| !is_its(numbers));
        }
    }
}
