//! Owns tables kept on disk from one run to the next.
//! Must not know how tables are made, or when it pays to keep one.
//!
//! A table is found by the bytes that it is made from, not by the build id alone: a build id is what
//! a file says of itself, so that any file could bring its table into another's place, and patchelf
//! moves code without changing it. Names and checksums are made with a secret of this directory, so
//! that nobody can make two files share a name.
//!
//! Whatever is wrong with an entry, it is as if it were not there: the table is built again.

mod format;

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::{OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use super::{FrameSections, Table};

use self::format::{ENTRY_BYTES_MAX, Secret};

/// The file that holds the secret.
const SECRET_NAME: &str = "secret";

/// What files are called while they are written.
const TEMPORARY_PREFIX: &str = ".new-";

/// After this a file that is still being written belongs to a run that died.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

/// A directory of tables. May be shared by several agents of one user.
pub struct Cache {
    directory: OwnedFd,
    secret: Secret,
    /// Tells apart the files that several threads write.
    written: AtomicU32,
}

/// What `Cache::prune` left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes of the entries that stay.
    pub kept_bytes: u64,
    /// How many entries went.
    pub removed: u64,
}

impl Cache {
    /// Opens a directory, which is made if it is not there; its parent must be.
    ///
    /// Refuses one that is another user's or that others can write. Who can write a parent can
    /// still replace it by another of ours, so the caller should choose a path of the system.
    pub fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = File::from(nix::fcntl::open(path, flags, Mode::empty())?);
        if !is_ours(&directory.metadata()?, 0o022) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the cache directory can be written by others",
            ));
        }
        let mut cache = Self {
            directory: directory.into(),
            secret: Secret::default(),
            written: AtomicU32::new(0),
        };
        cache.secret = cache.secret()?;
        Ok(cache)
    }

    /// The table made from these sections, if it is there and sound.
    pub fn load(&self, sections: &FrameSections) -> Option<Table> {
        let fingerprint = self.secret.fingerprint(sections);
        let name = format::name(fingerprint);
        let (file, bytes) = self.read(&name, 0o022, ENTRY_BYTES_MAX).ok()?;
        let table = self.secret.decode(fingerprint, &bytes);
        // Old entries go first; a table that is used is not old. Nothing depends on it.
        let _ = file.set_modified(SystemTime::now());
        table
    }

    /// Keeps the table made from these sections.
    pub fn store(&self, sections: &FrameSections, table: &Table) -> io::Result<()> {
        let fingerprint = self.secret.fingerprint(sections);
        let bytes = self.secret.encode(fingerprint, table);
        self.write(&format::name(fingerprint), &bytes)
    }

    /// Removes the entries not used for longest until the others take no more than so many bytes.
    pub fn prune(&self, bytes_max: u64) -> io::Result<Pruned> {
        let mut entries = Vec::new();
        let now = SystemTime::now();
        for entry in std::fs::read_dir(format!("/proc/self/fd/{}", self.directory.as_raw_fd()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(status) = entry.metadata() else {
                continue;
            };
            let Ok(modified) = status.modified() else {
                continue;
            };
            if format::is_name(&name) {
                entries.push((modified, status.len(), name));
            } else if name.starts_with(TEMPORARY_PREFIX)
                && now
                    .duration_since(modified)
                    .is_ok_and(|age| age > TEMPORARY_AGE_MAX)
            {
                self.remove(&name);
            }
        }
        entries.sort_unstable();
        let mut pruned = Pruned::default();
        for (_, size, name) in entries.iter().rev() {
            let kept = pruned.kept_bytes.saturating_add(*size);
            if kept > bytes_max {
                self.remove(name);
                pruned.removed += 1;
            } else {
                pruned.kept_bytes = kept;
            }
        }
        Ok(pruned)
    }

    /// The secret of the directory, made at the first use.
    fn secret(&self) -> io::Result<Secret> {
        if let Some(secret) = self.stored_secret() {
            return Ok(secret);
        }
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        self.write(SECRET_NAME, &bytes)?;
        // Another agent may have been faster; the one that is there now is the one to use.
        self.stored_secret()
            .ok_or_else(|| io::Error::other("the cache's secret cannot be read back"))
    }

    fn stored_secret(&self) -> Option<Secret> {
        let (_, bytes) = self.read(SECRET_NAME, 0o077, 16).ok()?;
        Some(Secret::new(bytes.try_into().ok()?))
    }

    /// Reads a file of the directory, if it is ours and others have none of these rights on it.
    fn read(&self, name: &str, forbidden: u32, bytes_max: u64) -> io::Result<(File, Vec<u8>)> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.directory, name, flags, Mode::empty())?);
        let status = file.metadata()?;
        if !status.is_file() || !is_ours(&status, forbidden) || status.len() > bytes_max {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut bytes = vec![0; usize::try_from(status.len()).map_err(io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok((file, bytes))
    }

    /// Writes a file so that others see it whole or not at all. After a crash of the machine it
    /// may be torn all the same, which the checksum tells.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id());
        // What an earlier process of this number left behind.
        self.remove(&temporary);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let mut file = File::from(openat(&self.directory, temporary.as_str(), flags, mode)?);
        let written = file.write_all(bytes).and_then(|()| {
            renameat(&self.directory, temporary.as_str(), &self.directory, name)
                .map_err(io::Error::from)
        });
        if written.is_err() {
            self.remove(&temporary);
        }
        written
    }

    /// Removes a file; that it is gone already is as good.
    fn remove(&self, name: &str) {
        let _ = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
    }
}

/// Whether we own it and others have none of these rights.
fn is_ours(status: &std::fs::Metadata, forbidden: u32) -> bool {
    status.uid() == geteuid().as_raw() && status.mode() & forbidden == 0
}
