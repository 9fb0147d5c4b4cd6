//! Owns reading the memory of a running process: bounded, and never writing.
//! Must not know what lies where.
//!
//! The process goes on while it is read. Whoever follows pointers here must expect any value, and
//! pays for each step out of a budget that was fixed before.

use std::{cell::Cell, fmt, fs::File, io, os::unix::fs::FileExt as _};

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

/// The word at an offset of bytes that were read; 0 behind their end.
#[must_use]
pub fn word_at(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..offset.saturating_add(8)).map_or(0, |it| {
        u64::from_le_bytes(it.try_into().expect("eight bytes"))
    })
}
