//! Owns the names of generated code, as its maker writes them to a map for `perf`.
//! Must not know where the file lies or whose it is.
//!
//! A line is `START SIZE NAME`, numbers in hex. The file grows while code is made; a later line about the same place
//! counts. See <https://github.com/torvalds/linux/blob/v6.12/tools/perf/Documentation/jit-interface.txt>

use std::{fs::File, ops::Range};

use crate::modules::elf::read_at;

/// As much of a file as is read: its end, where the newest code is.
const BYTES_MAX: u64 = 64 << 20;

/// As many pieces of code: 24 bytes each. Large programs for node have some ten thousand.
const ENTRIES_MAX: usize = 1 << 20;

/// The longest name that is kept.
const NAME_BYTES_MAX: usize = 1 << 10;

/// A piece of generated code.
struct Entry {
    start: u64,
    size_bytes: u32,
    /// Where its name lies in the text.
    name: Range<u32>,
}

/// A map as it was when it was read.
#[derive(Default)]
pub(super) struct PerfMap {
    entries: Vec<Entry>,
    text: Vec<u8>,
    read_to: u64,
}

impl PerfMap {
    /// Reads the file again, if there is more of it than there was.
    pub(super) fn refresh(&mut self, file: &File) {
        let end = file.metadata().map_or(0, |it| it.len());
        if end == self.read_to {
            return;
        }
        let begin = end.saturating_sub(BYTES_MAX);
        if let Ok(text) = read_at(file, begin, end - begin) {
            *self = Self::parse(text);
            self.read_to = end;
        }
    }

    /// What is no such line is passed over.
    pub(super) fn parse(text: Vec<u8>) -> Self {
        let mut entries = Vec::new();
        let mut at = 0;
        for line in text.split(|byte| *byte == b'\n') {
            let next = at + line.len() + 1;
            entries.extend(entry(line, at));
            at = next;
        }
        let surplus = entries.len().saturating_sub(ENTRIES_MAX);
        entries.drain(..surplus);
        // The sort keeps the order of lines about one place, of which the last is to stay.
        entries.sort_by_key(|it| it.start);
        entries.reverse();
        entries.dedup_by_key(|it| it.start);
        entries.reverse();
        Self {
            entries,
            text,
            read_to: 0,
        }
    }

    /// The name of the code at an address.
    pub(super) fn name(&self, address: u64) -> Option<String> {
        let after = self.entries.partition_point(|it| it.start <= address);
        let entry = &self.entries[after.checked_sub(1)?];
        let name = &self.text[entry.name.start as usize..entry.name.end as usize];
        (address - entry.start < u64::from(entry.size_bytes))
            .then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// The memory that it takes.
    pub(super) fn size_bytes(&self) -> usize {
        self.text.len() + self.entries.len() * size_of::<Entry>()
    }
}

/// One line, which begins at this byte of the text.
fn entry(line: &[u8], at: usize) -> Option<Entry> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let hex = |bytes| {
        let text: &str = text(bytes)?;
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let start = hex(fields.next()?)?;
    let size_bytes = u32::try_from(hex(fields.next()?)?).ok()?;
    let name = fields.next()?;
    let begin = at + line.len() - name.len();
    let end = begin + name.len().min(NAME_BYTES_MAX);
    (size_bytes > 0 && !name.is_empty()).then_some(Entry {
        start,
        size_bytes,
        name: u32::try_from(begin).ok()?..u32::try_from(end).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are found from the first byte to the last, a later line wins, and what is no line is passed over.
    #[test]
    fn lines_become_names() {
        let text = "1000 10 first\n0x2000 20 JS:*work file.js:1:2\nrubbish\n3000 zz x\n\
                    1000 8 again\n4000 0 nothing\n5000 8 \nffffffffffffffff ff end";
        let map = PerfMap::parse(text.as_bytes().to_vec());
        let check = |address, expected: Option<&str>| {
            assert_eq!(map.name(address).as_deref(), expected, "{address:#x}");
        };
        check(0xfff, None);
        check(0x1000, Some("again"));
        check(0x1007, Some("again"));
        check(0x1008, None);
        check(0x201f, Some("JS:*work file.js:1:2"));
        check(0x2020, None);
        check(0x3000, None);
        check(0x4000, None);
        check(u64::MAX, Some("end"));
    }
}
