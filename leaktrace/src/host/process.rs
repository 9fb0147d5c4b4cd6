//! Owns what is read about one process from `/proc`, within bounds, and never believed.
//! Must not know its mappings, its heap, or what the facts are used for.
//!
//! Everything here is chosen by the process that is looked at: names hold any
//! byte, and files are read through one descriptor of `/proc/PID` and up to a
//! limit, so that a pid that is reused in between cannot mix two processes.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _},
    os::fd::OwnedFd,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat, readlinkat},
    sys::stat::Mode,
    unistd::{SysconfVar, sysconf},
};

use super::{
    clock::ticks_to_boot_ns,
    container::{Container, parse_cgroup},
    owner,
};

/// What is kept of a command line, before `…`.
const COMMAND_LINE_LIMIT: usize = 4 << 10;

/// `/proc/PID/stat` and `comm` are a line each, a few hundred bytes.
const LINE_LIMIT: usize = 4 << 10;

/// `/proc/PID/status` has 60 lines; `cgroup` one of up to 4 KiB a hierarchy.
const FILE_LIMIT: usize = 64 << 10;

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`, since Linux 2.6.27.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What seccomp does to a process: a filter may kill it for a system call that
/// a probe makes on its behalf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Nothing, or the kernel has no seccomp.
    #[default]
    Disabled,
    /// Only read, write and exit are allowed.
    Strict,
    /// A BPF program decides.
    Filter,
}

/// What one process is, as read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The thread group id, which users call pid.
    pub pid: u32,
    /// The parent's pid; 0 where there is none in our pid namespace.
    pub parent: u32,
    /// When it was created, in clock ticks since boot: with the pid, its identity.
    pub start_ticks: u64,
    /// The same in nanoseconds since boot.
    pub start_boot_ns: u64,
    /// The command name, which the kernel cuts to 15 bytes.
    pub comm: String,
    /// The file that it executes, as it sees the path itself; `None` for kernel
    /// threads and where we may not look.
    pub executable: Option<PathBuf>,
    /// Its arguments, joined by spaces; empty for kernel threads and zombies,
    /// and for an instant while another program is being executed.
    pub command_line: String,
    /// The host's name for its real user, or the uid in digits.
    pub owner: String,
    /// Its container, if any.
    pub container: Option<Container>,
    /// Its control groups, as the kernel writes them.
    pub cgroups: String,
    /// What seccomp does to it.
    pub seccomp: Seccomp,
    /// Whether it is a thread of the kernel, which has no heap of ours.
    pub kernel_thread: bool,
}

impl ProcessFacts {
    /// Reads the facts of a running process.
    ///
    /// # Errors
    ///
    /// `NotFound` where there is no such process (any more), `InvalidInput`
    /// where the id is that of a thread which is not its process's first.
    pub fn read(pid: u32) -> io::Result<Self> {
        let process = ProcDir::open(pid)?;
        let stat = process.stat()?;
        let status = Status::parse(&process.text("status", FILE_LIMIT)?);
        if let Some(tgid) = status.tgid.filter(|tgid| *tgid != pid) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{pid} is a thread of process {tgid}"),
            ));
        }
        // The rest may be refused to us (or gone): what is missing stays empty.
        let comm = process.text("comm", LINE_LIMIT).unwrap_or_default();
        let cgroup = process.text("cgroup", FILE_LIMIT).unwrap_or_default();
        let facts = Self {
            pid,
            parent: stat.parent,
            start_ticks: stat.start_ticks,
            start_boot_ns: ticks_to_boot_ns(stat.start_ticks),
            comm: comm.strip_suffix('\n').unwrap_or(&comm).to_owned(),
            executable: process.link("exe").map(without_deleted),
            command_line: process
                .bytes("cmdline", COMMAND_LINE_LIMIT + 1)
                .map(|bytes| join_arguments(&bytes))
                .unwrap_or_default(),
            owner: owner::name(&process, status.uid),
            container: parse_cgroup(&cgroup),
            cgroups: cgroup,
            seccomp: status.seccomp,
            kernel_thread: stat.flags & PF_KTHREAD != 0,
        };
        Ok(facts)
    }

    /// The last part of the executable's path, or the command name.
    pub fn executable_name(&self) -> String {
        let name = self.executable.as_deref().and_then(Path::file_name);
        name.map_or_else(
            || self.comm.clone(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// Whether the command name or the executable's file name matches. The
    /// latter counts because the former is cut to 15 bytes.
    pub fn comm_matches(&self, glob: &CommGlob) -> bool {
        let name = self.executable.as_deref().and_then(Path::file_name);
        glob.matches(OsStr::new(&self.comm)) || name.is_some_and(|name| glob.matches(name))
    }
}

/// A pattern for command names: `*`, `?`, `[a-z]`, `{a,b}`.
#[derive(Clone, Debug)]
pub struct CommGlob(GlobMatcher);

impl CommGlob {
    /// Compiles a pattern; the error is one line that names it.
    pub fn new(pattern: &str) -> Result<Self, globset::Error> {
        Ok(Self(GlobBuilder::new(pattern).build()?.compile_matcher()))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }

    /// Whether a whole name matches.
    pub fn matches(&self, name: &OsStr) -> bool {
        self.0.is_match(name)
    }
}

/// Resident memory in bytes. The kernel's own figure, which may lag behind by
/// some pages per CPU.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let statm = ProcDir::open(pid)?.text("statm", LINE_LIMIT)?;
    let pages = statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|field| field.parse::<u64>().ok());
    pages
        .map(|pages| pages.saturating_mul(page_bytes()))
        .ok_or_else(|| malformed("statm"))
}

/// Memory that was swapped out, in bytes.
pub fn swapped_bytes(pid: u32) -> io::Result<u64> {
    let status = ProcDir::open(pid)?.text("status", FILE_LIMIT)?;
    // A kernel without swap tells nothing of it.
    Ok(swapped_in(&status).unwrap_or(0))
}

fn swapped_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSwap:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// Whether that process, and not a later one with the same pid, still runs.
pub fn is_alive(pid: u32, start_ticks: u64) -> bool {
    let stat = ProcDir::open(pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.start_ticks == start_ticks && !stat.is_dead())
}

/// When a process was created, in clock ticks since boot.
pub fn start_ticks(pid: u32) -> io::Result<u64> {
    Ok(ProcDir::open(pid)?.stat()?.start_ticks)
}

/// Whether a pid is that of a thread of the kernel.
pub fn is_kernel_thread(pid: u32) -> bool {
    let stat = ProcDir::open(pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.flags & PF_KTHREAD != 0)
}

/// Every process there is now, kernel threads too, in no order.
pub fn list_pids() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// One process's directory in `/proc`, held open: once the process is gone its
/// files fail, also when the pid is taken again.
pub(super) struct ProcDir(OwnedFd);

impl ProcDir {
    /// Opens `/proc/PID`.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        Self::open_path(Path::new(&format!("/proc/{pid}")))
    }

    /// Opens a directory that may also be `/proc/self`.
    pub(super) fn open_path(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(path, flags, Mode::empty()).map(Self).map_err(gone)
    }

    /// Reads a file up to a limit.
    pub(super) fn bytes(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = File::from(openat(&self.0, name, flags, Mode::empty()).map_err(gone)?);
        let mut bytes = Vec::new();
        match file.take(limit as u64).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // The process ended between open and read.
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {
                Err(gone(Errno::ESRCH))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a file up to a limit as text, whatever its bytes are.
    pub(super) fn text(&self, name: &str, limit: usize) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(name, limit)?).into_owned())
    }

    /// The text of a link; the file it names is not touched.
    pub(super) fn link(&self, name: &str) -> Option<OsString> {
        readlinkat(&self.0, name).ok()
    }

    fn stat(&self) -> io::Result<Stat> {
        Stat::parse(&self.text("stat", LINE_LIMIT)?).ok_or_else(|| malformed("stat"))
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: u32,
    flags: u64,
    threads: u64,
    start_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command name may hold blanks and parentheses; no later field does.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // proc(5) counts fields from 1, and the first here is its third.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(4)?).ok()?,
            flags: number(9)?,
            threads: number(20)?,
            start_ticks: number(22)?,
        })
    }

    /// A first thread that has ended is a zombie while the others run on.
    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x') && self.threads <= 1
    }
}

/// The fields of `/proc/PID/status` that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    tgid: Option<u32>,
    uid: Option<u32>,
    seccomp: Seccomp,
}

impl Status {
    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        // The kernel escapes line ends in `Name:`, so no line is forged.
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let first = value
                .split_ascii_whitespace()
                .next()
                .and_then(|word| word.parse().ok());
            match key {
                "Tgid" => status.tgid = first,
                "Uid" => status.uid = first,
                "Seccomp" => {
                    status.seccomp = match first {
                        Some(1) => Seccomp::Strict,
                        Some(2) => Seccomp::Filter,
                        _ => Seccomp::Disabled,
                    }
                }
                _ => {}
            }
        }
        status
    }
}

fn without_deleted(link: OsString) -> PathBuf {
    let bytes = link.into_vec();
    let path = bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes);
    PathBuf::from(OsStr::from_bytes(path))
}

/// Joins NUL-terminated arguments by spaces; `bytes` holds one more than the
/// limit where the process has more.
fn join_arguments(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(COMMAND_LINE_LIMIT)];
    let end = kept
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let spaced: Vec<u8> = kept[..end]
        .iter()
        .map(|byte| if *byte == 0 { b' ' } else { *byte })
        .collect();
    let mut line = String::from_utf8_lossy(&spaced).into_owned();
    if bytes.len() > COMMAND_LINE_LIMIT {
        line.push('…');
    }
    line
}

fn page_bytes() -> u64 {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// `ENOENT` and `ESRCH` both mean that the process is gone.
fn gone(errno: Errno) -> io::Error {
    match errno {
        Errno::ESRCH | Errno::ENOENT => io::Error::new(io::ErrorKind::NotFound, "no such process"),
        other => other.into(),
    }
}

fn malformed(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("unexpected text in /proc/PID/{name}"),
    )
}

#[cfg(test)]
mod tests;
