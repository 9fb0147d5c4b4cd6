//! Owns where a process's fresh memory comes from: how large its heap and its other anonymous mappings are, and how often it
//! touched a page for the first time.
//! Must not know allocators, or who asks.
//!
//! Sizes of mappings, not what is resident of them: to have the kernel count that would hold up a large process.

use std::io;

use super::process::ProcDir;

/// The most mappings that a process has by default (`vm.max_map_count`), of some 100 bytes each.
const MAPS_LIMIT: usize = 8 << 20;

/// `stat` is a line of a few hundred bytes.
const LINE_LIMIT: usize = 4 << 10;

/// What a process has mapped, and its page faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshMemory {
    /// The heap that `brk` grows.
    pub heap_bytes: u64,
    /// Other private, writable mappings without a file: `mmap`, which allocators call for large blocks and for further heaps.
    pub mapped_bytes: u64,
    /// Page faults that needed no reading: mostly, pages touched for the first time.
    pub fault_count: u64,
}

impl FreshMemory {
    /// Reads it of a running process.
    ///
    /// # Errors
    ///
    /// When it is gone, or may not be looked at.
    pub fn read(pid: u32) -> io::Result<Self> {
        let process = ProcDir::open(pid)?;
        let (heap_bytes, mapped_bytes) = mapped(&process.text("maps", MAPS_LIMIT)?);
        Ok(Self {
            heap_bytes,
            mapped_bytes,
            fault_count: faults(&process.text("stat", LINE_LIMIT)?).unwrap_or(0),
        })
    }
}

/// Bytes of the heap and of what else is private, writable and of no file.
fn mapped(maps: &str) -> (u64, u64) {
    let mut sums = (0_u64, 0_u64);
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else {
            continue;
        };
        let name = fields.nth(3).unwrap_or_default();
        let bounds = range.split_once('-').and_then(|(start, end)| {
            let number = |text| u64::from_str_radix(text, 16).ok();
            number(end)?.checked_sub(number(start)?)
        });
        let Some(bytes) = bounds.filter(|_| rights.starts_with("rw") && rights.ends_with('p'))
        else {
            continue;
        };
        match name {
            "[heap]" => sums.0 = sums.0.saturating_add(bytes),
            name if name.is_empty() || name.starts_with("[anon") => {
                sums.1 = sums.1.saturating_add(bytes);
            }
            _ => {}
        }
    }
    sums
}

/// `minflt`, the tenth field. The command name may hold blanks and parentheses; no later field does.
fn faults(stat: &str) -> Option<u64> {
    let fields = stat.rsplit_once(')')?.1;
    fields.split_ascii_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::growing::Growing;

    /// The heap and anonymous mappings count, files, stacks and what cannot be written to do not.
    #[test]
    fn mappings_are_told_apart() {
        let maps = "1000-3000 rw-p 00000000 00:00 0                          [heap]\n\
            4000-5000 rw-p 00000000 00:00 0 \n\
            5000-6000 rw-p 00000000 00:00 0 [anon:scudo:primary]\n\
            6000-7000 ---p 00000000 00:00 0 \n\
            7000-8000 rw-s 00000000 00:01 5 /dev/zero (deleted)\n\
            8000-9000 rw-p 00001000 08:01 7 /lib/x.so\n\
            9000-a000 rw-p 00000000 00:00 0 [stack]\nnonsense\n9-1 rw-p 0 0 0\n";
        assert_eq!(mapped(maps), (0x2000, 0x2000));
        assert_eq!(faults("7 (a) b) S 1 2 3 4 5 6 77 8"), Some(77));
        assert_eq!(faults("7"), None);
    }

    /// What a process takes is seen.
    #[test]
    fn memory_is_seen() {
        let mut process = Growing::start();
        let before = FreshMemory::read(process.pid()).unwrap();
        process.grow(64 << 20);
        let after = FreshMemory::read(process.pid()).unwrap();
        let bytes = |it: FreshMemory| it.heap_bytes + it.mapped_bytes;
        assert!(
            bytes(after) >= bytes(before) + (60 << 20),
            "{before:?} {after:?}"
        );
        assert!(after.fault_count > before.fault_count);
    }
}
