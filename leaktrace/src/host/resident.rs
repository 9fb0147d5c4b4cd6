//! Owns the reading of one process's memory, over and over, as cheaply as the kernel allows.
//! Must not know what becomes of the figures.
//!
//! The file is opened once: reading it again is one system call of some microseconds, and fails for
//! ever once its process is gone, also when another has the pid.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
};

use nix::unistd::{SysconfVar, sysconf};

/// A line of seven numbers of up to twenty digits.
const LINE_BYTES: usize = 160;

/// The memory of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, in bytes.
    pub rss_bytes: u64,
    /// Resident and backed by no file: the heap and what is like it.
    pub anonymous_bytes: u64,
}

/// A process's memory, open for reading.
#[derive(Debug)]
pub struct MemoryFile(File);

impl MemoryFile {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// When there is no such process, or no descriptor left.
    pub fn open(pid: u32) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_CLOEXEC)
            .open(format!("/proc/{pid}/statm"))?;
        Ok(Self(file))
    }

    /// Reads it; `page_bytes` as `page_bytes()` tells.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn read(&self, page_bytes: u64) -> io::Result<Memory> {
        let mut line = [0; LINE_BYTES];
        let length = self.0.read_at(&mut line, 0)?;
        parse(&line[..length], page_bytes)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected text in statm"))
    }
}

/// Bytes of a page of memory.
#[must_use]
pub fn page_bytes() -> u64 {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// `size resident shared …`, in pages, as proc(5) has it.
fn parse(line: &[u8], page_bytes: u64) -> Option<Memory> {
    let text = std::str::from_utf8(line).ok()?;
    let mut numbers = text.split_ascii_whitespace().skip(1);
    let mut next = || numbers.next()?.parse::<u64>().ok();
    let (resident, shared) = (next()?, next()?);
    Some(Memory {
        rss_bytes: resident.saturating_mul(page_bytes),
        anonymous_bytes: resident.saturating_sub(shared).saturating_mul(page_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::growing::Growing;

    /// The second and third numbers count; nonsense is refused.
    #[test]
    fn lines_are_parsed() {
        let memory = parse(b"5000 300 100 1 0 900 0\n", 4096).unwrap();
        assert_eq!(
            (memory.rss_bytes, memory.anonymous_bytes),
            (300 << 12, 200 << 12)
        );
        for nonsense in [&b""[..], b"1", b"1 2", b"1 x 3", b"\xff 1 2"] {
            assert_eq!(parse(nonsense, 4096), None, "{nonsense:?}");
        }
    }

    /// What a process uses is seen, and grows when it uses more.
    #[test]
    fn memory_is_seen() {
        let mut process = Growing::start();
        let file = MemoryFile::open(process.pid()).unwrap();
        let before = file.read(page_bytes()).unwrap();
        process.grow(64 << 20);
        let after = file.read(page_bytes()).unwrap();
        let grown = after.anonymous_bytes.saturating_sub(before.anonymous_bytes);
        assert!(grown > 60 << 20, "{before:?} {after:?}");
    }
}
