//! Owns the rows of unwind tables where the probes read them: two arrays of the kernel, mapped into the agent.
//! Must not know which file a row belongs to.

use std::{num::NonZeroUsize, os::fd::AsFd as _, ptr::NonNull};

use anyhow::{Context as _, bail};
use aya::maps::Map;
use leaktrace_common::limits::{ROWS_PER_SHARD, SHARDS_MAX};
use nix::{
    libc::c_void,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};

use super::Probes;

/// Rows of all shards together.
const ROWS: usize = ROWS_PER_SHARD * SHARDS_MAX as usize;

/// The memory of all rows. Writing a row is a store: what others read beside it stays as it is.
pub struct RowMemory {
    addresses: Mapped,
    rules: Mapped,
}

/// An array's memory, until it is dropped.
struct Mapped {
    start: NonNull<c_void>,
    size_bytes: NonZeroUsize,
}

// SAFETY: memory that is mapped for the whole process, and written through `&mut` only.
unsafe impl Send for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and nobody refers to it any more.
        let _ = unsafe { munmap(self.start, self.size_bytes.get()) };
    }
}

impl Mapped {
    fn of(probes: &mut Probes, name: &str, row_bytes: usize) -> anyhow::Result<Self> {
        let Map::Array(map) = probes.map(name)? else {
            bail!("{name} is no array");
        };
        let size_bytes = NonZeroUsize::new(ROWS * row_bytes).context("rows have a size")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let fd = map.fd().as_fd();
        // SAFETY: a new mapping replaces nothing.
        let start = unsafe { mmap(None, size_bytes, protection, MapFlags::MAP_SHARED, fd, 0) };
        Ok(Self {
            start: start.with_context(|| format!("failed to map {name}"))?,
            size_bytes,
        })
    }
}

impl Probes {
    /// Maps the rows.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn map_rows(&mut self) -> anyhow::Result<RowMemory> {
        Ok(RowMemory {
            addresses: Mapped::of(self, "ROW_ADDRESSES", size_of::<u32>())?,
            rules: Mapped::of(self, "ROW_RULES", size_of::<u16>())?,
        })
    }
}

impl RowMemory {
    /// The rule of the last of these rows that begins at an offset or before it; `None` where none does.
    #[must_use]
    pub fn rule(&self, shard: u32, first_row: u32, row_count: u32, offset: u32) -> Option<u16> {
        let row = shard as usize * ROWS_PER_SHARD + first_row as usize;
        let count = row_count as usize;
        assert!(row + count <= ROWS);
        let addresses: *const u32 = self.addresses.start.as_ptr().cast();
        // SAFETY: rows up to `ROWS` are mapped, which was asserted.
        let addresses = unsafe { addresses.add(row) };
        // SAFETY: as many are mapped from there on, and they are written by nobody but `write`, which borrows them mutably.
        let addresses = unsafe { std::slice::from_raw_parts(addresses, count) };
        let index = addresses
            .partition_point(|begin| *begin <= offset)
            .checked_sub(1)?;
        let rules: *const u16 = self.rules.start.as_ptr().cast();
        // SAFETY: rules have as many rows, and the index is below the count.
        let rule = unsafe { rules.add(row + index) };
        // SAFETY: as above, and as of the addresses.
        Some(unsafe { *rule })
    }

    /// Writes rows that no process refers to; both slices are equally long, and end within the shard.
    pub fn write(&mut self, shard: u32, first_row: u32, addresses: &[u32], rules: &[u16]) {
        let row = shard as usize * ROWS_PER_SHARD + first_row as usize;
        assert!(addresses.len() == rules.len() && row + rules.len() <= ROWS);
        let to: *mut u32 = self.addresses.start.as_ptr().cast();
        // SAFETY: rows up to `ROWS` are mapped, which was asserted.
        let to = unsafe { to.add(row) };
        // SAFETY: as many rows are mapped from there on; the slice is ours, not the mapping's.
        unsafe { std::ptr::copy_nonoverlapping(addresses.as_ptr(), to, addresses.len()) };
        let to: *mut u16 = self.rules.start.as_ptr().cast();
        // SAFETY: as above.
        let to = unsafe { to.add(row) };
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(rules.as_ptr(), to, rules.len()) };
    }
}
