//! Owns opening files in another process's root without being led out of it, and only regular ones.
//! Must not know what is in them.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    libc,
    sys::stat::{Mode, fstat},
};

/// The root directory of a process, held, so that no name in it leads out of it, also when the process has ended.
#[derive(Debug)]
pub struct ProcessRoot(OwnedFd);

impl ProcessRoot {
    /// That of a process that lives.
    ///
    /// # Errors
    /// As `open(2)`: the process has ended, or we may not look into it.
    pub fn of(pid: u32) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty()).map(Self)
    }

    /// The same of a directory of our own.
    #[cfg(test)]
    pub fn at(directory: &std::path::Path) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(directory, flags, Mode::empty()).map(Self)
    }

    /// Opens a regular file by its path there, as the process would, but by no link of `/proc`.
    pub fn open(&self, path: &str) -> Option<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        open_regular(&openat2(&self.0, path, how).ok()?)
    }
}

/// Turns a handle (`O_PATH`, which opens nothing yet: no device or pipe is touched) into an open file, if it is a regular
/// file.
pub fn open_regular(handle: &OwnedFd) -> Option<File> {
    let status = fstat(handle).ok()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return None;
    }
    // The handle pins the inode, so what is opened is what was checked.
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn no_link_leads_out_of_a_root() {
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("secret"), "secret").expect("written");
        let inside = outside.path().join("root");
        fs::create_dir(&inside).expect("created");
        fs::write(inside.join("secret"), "own").expect("written");
        symlink("../secret", inside.join("up")).expect("linked");
        symlink("/secret", inside.join("top")).expect("linked");
        symlink("/proc/self/exe", inside.join("magic")).expect("linked");
        let root = ProcessRoot::at(&inside).expect("a root");
        for name in ["up", "top", "secret", "../secret"] {
            let text = std::io::read_to_string(root.open(name).expect(name)).expect("read");
            assert_eq!(text, "own", "{name} led out");
        }
        assert!(root.open("magic").is_none());
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
        let root = ProcessRoot::at(directory.path()).expect("a root");
        assert!(root.open("pipe").is_none());
        assert!(root.open(".").is_none());
        assert!(
            ProcessRoot::of(std::process::id())
                .expect("our own")
                .open("dev/null")
                .is_none()
        );
    }
}
