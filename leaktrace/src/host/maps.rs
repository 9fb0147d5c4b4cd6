//! Owns the executable mappings of one process, as `/proc/PID/maps` tells them.
//! Must not know files, symbols or how mappings change later.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
};

/// As many mappings of one process as are kept. The kernel's own default limit
/// (`vm.max_map_count`) is 65530, of which few are executable.
pub const MAPPINGS_MAX: usize = 65536;

/// The longest line that is read: a path of `PATH_MAX` (4096) in which the
/// kernel wrote each newline as four characters, and the columns before it.
const LINE_BYTES_MAX: u64 = 4 * 4096 + 256;

/// The longest build id that is kept; the kernel reports up to 20 bytes, linkers
/// can be told to write others.
const BUILD_ID_BYTES_MAX: usize = 64;

/// The GNU build id of a file: held in place, because there is one in every
/// mapping and every key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BuildId {
    bytes: [u8; BUILD_ID_BYTES_MAX],
    len: u8,
}

impl BuildId {
    /// Takes the bytes of a note; `None` where they cannot be a build id, be it
    /// that there are none or that all are zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > BUILD_ID_BYTES_MAX || bytes.iter().all(|byte| *byte == 0) {
            return None;
        }
        let mut id = Self {
            bytes: [0; BUILD_ID_BYTES_MAX],
            len: u8::try_from(bytes.len()).ok()?,
        };
        id.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(id)
    }

    /// The bytes of the note.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One executable mapping of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Where in the file `start` lies.
    pub file_offset: u64,
    /// Major and minor number of the file system; 0 where unknown.
    pub device: (u32, u32),
    /// Inode number of the file; 0 where unknown.
    pub inode: u64,
    /// The path as the process sees it, or `[vdso]`, `[vsyscall]`, `[uprobes]`,
    /// or nothing for memory without a file. The process chooses it: show it,
    /// never trust it.
    pub path: String,
    /// Whether the path seems to be gone. A file may also be named like that.
    pub deleted: bool,
    /// The build id, where the kernel told it.
    pub build_id: Option<BuildId>,
}

impl Mapping {
    /// Whether a file lies behind it.
    pub fn is_file(&self) -> bool {
        self.path.starts_with('/')
    }

    /// Whether it is the kernel's own code, the same in every process.
    pub fn is_vdso(&self) -> bool {
        self.path == "[vdso]"
    }

    /// Where in the file an address of this mapping lies.
    pub fn file_offset_of(&self, avma: u64) -> u64 {
        avma.wrapping_sub(self.start).wrapping_add(self.file_offset)
    }
}

/// Reads the executable mappings of a process, in order of address.
///
/// Not by the procfs crate: it gives up on all of a process's mappings where one
/// path is not UTF-8, and panics on a file that is named `/SYSV1`.
pub fn read_maps(pid: u32) -> io::Result<Vec<Mapping>> {
    parse_maps(BufReader::with_capacity(
        64 * 1024,
        File::open(format!("/proc/{pid}/maps"))?,
    ))
}

/// Parses the text of a maps file; lines that are not understood are skipped.
fn parse_maps(mut reader: impl BufRead) -> io::Result<Vec<Mapping>> {
    let mut mappings = Vec::new();
    let mut line = Vec::new();
    while mappings.len() < MAPPINGS_MAX {
        line.clear();
        if reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() as u64 == LINE_BYTES_MAX {
            // The rest of the line must not pass for a line of its own.
            reader.skip_until(b'\n')?;
        }
        mappings.extend(parse_line(&line));
    }
    Ok(mappings)
}

/// Parses `start-end perms offset major:minor inode   path`.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let (range, rest) = split_field(line)?;
    let (permissions, rest) = split_field(rest)?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let (file_offset, rest) = split_field(rest)?;
    let (device, rest) = split_field(rest)?;
    let (inode, path) = split_field(rest)?;
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let (path, deleted) = tidy_path(path.trim_ascii_start());
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        file_offset: u64::from_str_radix(file_offset, 16).ok()?,
        device: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode: inode.parse().ok()?,
        path,
        deleted,
        build_id: None,
    })
    .filter(|mapping| mapping.start < mapping.end)
}

/// Takes one field up to the next blank.
fn split_field(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = text
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(text.len());
    let field = std::str::from_utf8(&text[..end]).ok()?;
    Some((field, text.get(end + 1..).unwrap_or_default()))
}

/// Turns the name the kernel gives a mapping into the one form that
/// `Mapping::path` promises, and tells whether the file is deleted.
pub fn tidy_path(name: &[u8]) -> (String, bool) {
    // The kernel writes ` (deleted)` behind a path; perf records call memory
    // without a file `//anon`, and a path that did not fit `//toolong`.
    let (name, deleted) = match name.strip_suffix(b" (deleted)") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let keep = match name {
        b"[vdso]" | b"[vsyscall]" | b"[uprobes]" => true,
        _ => name.starts_with(b"/") && !name.starts_with(b"//"),
    };
    let path = if keep {
        String::from_utf8_lossy(name).into_owned()
    } else {
        String::new()
    };
    (path, deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one text and prints what was kept.
    fn check(text: &[u8], expected: &str) {
        let mappings = parse_maps(text).expect("a slice can be read");
        let seen: Vec<String> = mappings
            .iter()
            .map(|it| {
                format!(
                    "{:x}-{:x}+{:x} {:?} {} {:?}{}",
                    it.start,
                    it.end,
                    it.file_offset,
                    it.device,
                    it.inode,
                    it.path,
                    if it.deleted { " deleted" } else { "" }
                )
            })
            .collect();
        assert_eq!(seen.join("\n"), expected);
    }

    /// Only what is executable is kept, with all its columns.
    #[test]
    fn executable_mappings_are_kept() {
        check(
            b"7f00-8f00 r--p 00000000 fd:00 12 /lib/x.so\n\
              8f00-9f00 r-xp 00001000 fd:1f 12                         /lib/x.so\n\
              9f00-af00 r-xp 00000000 00:00 0\n\
              af00-bf00 r-xp 00000000 00:00 0                          [vdso]\n\
              bf00-cf00 rwxp 00000000 00:00 0                          [anon:jit (deleted)]\n",
            "8f00-9f00+1000 (253, 31) 12 \"/lib/x.so\"\n\
             9f00-af00+0 (0, 0) 0 \"\"\n\
             af00-bf00+0 (0, 0) 0 \"[vdso]\"\n\
             bf00-cf00+0 (0, 0) 0 \"\"",
        );
    }

    /// Paths with blanks, of deleted files and not in UTF-8 do not stop the rest.
    #[test]
    fn odd_paths_are_kept() {
        check(
            b"1000-2000 r-xp 00000000 fd:00 1 /a b\\012c\n\
              2000-3000 r-xp 00000000 fd:00 2 /gone (deleted)\n\
              3000-4000 r-xp 00000000 fd:00 3 /\xff\xfe\n\
              4000-5000 r-xp 00000000 fd:00 4 /SYSV1\n",
            "1000-2000+0 (253, 0) 1 \"/a b\\\\012c\"\n\
             2000-3000+0 (253, 0) 2 \"/gone\" deleted\n\
             3000-4000+0 (253, 0) 3 \"/\u{fffd}\u{fffd}\"\n\
             4000-5000+0 (253, 0) 4 \"/SYSV1\"",
        );
    }

    /// Nonsense, empty ranges and overlong lines are skipped, also in part.
    #[test]
    fn nonsense_is_skipped() {
        let mut text = b"\nfoo\n1-1 r-xp 0 0:0 0\nzz-1 r-xp 0 0:0 0\n1-2 r-xp 0 0:0 0 /".to_vec();
        text.resize(text.len() + 20_000, b'a');
        text.extend_from_slice(b" 1-2 r-xp 0 0:0 0 /evil\n5-6 r-xp 0 0:0 0 /good\n");
        let mappings = parse_maps(&*text).expect("a slice can be read");
        assert_eq!(mappings.last().map(|it| it.path.as_str()), Some("/good"));
        assert!(mappings.iter().all(|it| it.path != "/evil"));
    }

    /// This very function lies in a mapping of this process.
    #[test]
    fn own_code_is_found() {
        let mappings = read_maps(std::process::id()).expect("own maps can be read");
        let avma = own_code_is_found as *const () as u64;
        assert!(
            mappings
                .iter()
                .any(|it| (it.start..it.end).contains(&avma) && it.inode != 0)
        );
    }

    /// A build id prints as hex; one without content is none.
    #[test]
    fn build_ids_print_as_hex() {
        assert_eq!(
            BuildId::from_bytes(&[0x0a, 0xff])
                .map(|id| id.to_string())
                .as_deref(),
            Some("0aff")
        );
        assert_eq!(BuildId::from_bytes(&[]), None);
        assert_eq!(BuildId::from_bytes(&[0; 20]), None);
        assert_eq!(BuildId::from_bytes(&[1; 65]), None);
    }
}
