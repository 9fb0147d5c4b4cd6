//! Owns reading the memory of a running process: bounded, and never writing.
//! Must not know what lies where.
//!
//! The process goes on while it is read. Whoever follows pointers here must expect any value, and
//! pays for each step out of a budget that was fixed before.

use std::{cell::Cell, fmt, fs::File, io, os::unix::fs::FileExt as _};

/// Structures that lie this close are read at once: a system call costs as much as so many bytes.
const GAP_BYTES: u64 = 4096;

/// As much as is read at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// A read that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// Nothing is mapped there, or the process is gone.
    Unmapped,
    /// More was to be read than was allowed for.
    Exhausted,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unmapped => "its memory could not be read",
            Self::Exhausted => "more of its memory would have to be read than is allowed",
        })
    }
}

impl std::error::Error for MemoryError {}

/// The memory of the program that a process ran when this was made.
///
/// The kernel ties the descriptor to that address space: after an `execve`, or when the pid belongs to
/// another process, reads fail.
#[derive(Debug)]
pub struct ProcessMemory {
    file: File,
    left_bytes: Cell<u64>,
}

impl ProcessMemory {
    /// Opens it, to read no more than so many bytes.
    ///
    /// # Errors
    ///
    /// When the process is gone or may not be read.
    pub fn open(pid: u32, budget_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            file: File::open(format!("/proc/{pid}/mem"))?,
            left_bytes: Cell::new(budget_bytes),
        })
    }

    /// Allows for so many bytes from now on.
    pub fn refill(&self, budget_bytes: u64) {
        self.left_bytes.set(budget_bytes);
    }

    /// Fills the buffer.
    ///
    /// # Errors
    ///
    /// When not all of it is there.
    pub fn read(&self, avma: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        let left = self.left_bytes.get().checked_sub(buffer.len() as u64);
        self.left_bytes.set(left.ok_or(MemoryError::Exhausted)?);
        self.file
            .read_exact_at(buffer, avma)
            .map_err(|_| MemoryError::Unmapped)
    }

    /// So many bytes.
    ///
    /// # Errors
    ///
    /// When not all of them are there.
    pub fn bytes(&self, avma: u64, len: usize) -> Result<Vec<u8>, MemoryError> {
        // Before memory is taken for them.
        if self.left_bytes.get() < len as u64 {
            return Err(MemoryError::Exhausted);
        }
        let mut bytes = vec![0; len];
        self.read(avma, &mut bytes)?;
        Ok(bytes)
    }

    /// Structures of one size, at sorted addresses, each given to `take`. Those that lie close are read at once; one
    /// that cannot be read is left out.
    ///
    /// # Errors
    ///
    /// When more was to be read than was allowed for.
    pub fn each(
        &self,
        addresses: &[u64],
        size: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), MemoryError> {
        chunks(addresses, size as u64).try_for_each(|chunk| self.chunk(chunk, size, take))
    }

    /// Reads those of a chunk together, or, where something between them cannot be read, one by one.
    fn chunk(
        &self,
        chunk: &[u64],
        size: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), MemoryError> {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else {
            return Ok(());
        };
        let len = usize::try_from(last - first).map_err(|_| MemoryError::Unmapped)? + size;
        match self.bytes(*first, len) {
            Ok(bytes) => {
                for avma in chunk {
                    let at = (avma - first) as usize;
                    take(&bytes[at..at + size]);
                }
                Ok(())
            }
            Err(MemoryError::Unmapped) if chunk.len() > 1 => chunk
                .iter()
                .try_for_each(|avma| self.chunk(&[*avma], size, take)),
            // What points nowhere is none.
            Err(MemoryError::Unmapped) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A word.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn word(&self, avma: u64) -> Result<u64, MemoryError> {
        let mut bytes = [0; 8];
        self.read(avma, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Splits sorted addresses so that each part is worth one read.
fn chunks(addresses: &[u64], size: u64) -> impl Iterator<Item = &[u64]> {
    let mut rest = addresses;
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let mut last = first;
        let fits = |next: u64| {
            let is_near = next.saturating_sub(last) <= size + GAP_BYTES;
            last = next;
            is_near && next.saturating_sub(first) <= CHUNK_BYTES
        };
        let end = rest[1..].iter().copied().take_while({
            let mut fits = fits;
            move |next| fits(*next)
        });
        let (chunk, behind) = rest.split_at(1 + end.count());
        rest = behind;
        Some(chunk)
    })
}

/// The word at an offset of bytes that were read; 0 behind their end.
#[must_use]
pub fn word_at(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..offset.saturating_add(8)).map_or(0, |it| {
        u64::from_le_bytes(it.try_into().expect("eight bytes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses that lie together are read at once, in parts of a bounded size, and none is left out.
    #[test]
    fn neighbours_are_read_together() {
        let check = |addresses: &[u64], expected: &[usize]| {
            let sizes: Vec<usize> = chunks(addresses, 0x138).map(<[u64]>::len).collect();
            assert_eq!(sizes, expected, "{addresses:x?}");
        };
        check(&[], &[]);
        check(&[0x1000], &[1]);
        check(&[0x1000, 0x11c0, 0x1380, 0x9000], &[3, 1]);
        check(&[0, u64::MAX], &[1, 1]);
        let many: Vec<u64> = (0..2000).map(|index| 0x10_0000 + index * 448).collect();
        check(&many, &[586, 586, 586, 242]);
    }
}
