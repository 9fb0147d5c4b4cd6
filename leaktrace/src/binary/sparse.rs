//! Owns the image of a file of which only the parts that are needed are read.
//! Must not know files or what the bytes mean.
//!
//! The image is as long as the file, but memory that nobody writes to costs nothing: symbols and
//! code of a program of hundreds of megabytes are read without the rest.

use std::{io, num::NonZeroUsize, ops::Range, ptr::NonNull};

use nix::{
    libc::c_void,
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap},
};

/// Largest file that is looked at. The address space is taken at once, the memory only for what is
/// read.
pub const FILE_BYTES_MAX: u64 = 2 << 30;

/// As much of one file as is read: the symbols of the largest browsers have 100 MiB, their code 200.
const READ_BYTES_MAX: u64 = 512 << 20;

/// Reads exactly these bytes of the file.
pub type Read<'r> = &'r dyn Fn(u64, &mut [u8]) -> io::Result<()>;

/// A file's bytes, zero where they were not read.
pub struct Sparse<'r> {
    bytes: Zeroes,
    read: Read<'r>,
    read_bytes: u64,
}

impl<'r> Sparse<'r> {
    /// An image of a file of this length, with nothing read yet.
    ///
    /// # Errors
    ///
    /// When the file is too large.
    pub fn new(length: u64, read: Read<'r>) -> io::Result<Self> {
        if length > FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "it is larger than {FILE_BYTES_MAX} bytes"
            )));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        Ok(Self {
            bytes: Zeroes::new(length)?,
            read,
            read_bytes: 0,
        })
    }

    /// Reads a part, as far as the file has it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or more is asked for than any file needs.
    pub fn load(&mut self, range: Range<u64>) -> io::Result<()> {
        let end = range.end.min(self.bytes.as_slice().len() as u64);
        if range.start >= end {
            return Ok(());
        }
        self.read_bytes += end - range.start;
        if self.read_bytes > READ_BYTES_MAX {
            return Err(io::Error::other(format!(
                "more than {READ_BYTES_MAX} bytes of it would have to be read"
            )));
        }
        // Both are within the length of a buffer.
        let range = range.start as usize..end as usize;
        (self.read)(range.start as u64, &mut self.bytes.as_mut_slice()[range])
    }

    /// The image.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The image, of which no more is to be read.
    #[must_use]
    pub fn finish(self) -> Image {
        Image(self.bytes)
    }
}

/// What was read of a file, at its places.
pub struct Image(Zeroes);

impl Image {
    /// The file's bytes, zero where they were not read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// Memory that is zero until it is written, and takes none until then. An allocator may hand out
/// memory that it has to clear first.
struct Zeroes {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

impl Zeroes {
    fn new(length: usize) -> io::Result<Self> {
        // Nothing can be mapped of no length, and one byte more does no harm.
        let length = NonZeroUsize::new(length).unwrap_or(NonZeroUsize::MIN);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping replaces nothing.
        let start = unsafe { mmap_anonymous(None, length, protection, flags) }?;
        Ok(Self { start, length })
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: as much is mapped, zeroed by the kernel, and written through `&mut` only.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length.get()) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.length.get()) }
    }
}

impl Drop for Zeroes {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and nobody refers to it any more.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read is there, the rest is zero, and what the file does not have is left out.
    #[test]
    fn only_what_is_read_is_there() {
        let file: Vec<u8> = (1..=10).collect();
        let read = |offset: u64, buffer: &mut [u8]| {
            let start = offset as usize;
            buffer.copy_from_slice(&file[start..start + buffer.len()]);
            Ok(())
        };
        let mut sparse = Sparse::new(10, &read).unwrap();
        sparse.load(2..4).unwrap();
        sparse.load(8..400).unwrap();
        sparse.load(20..30).unwrap();
        assert_eq!(sparse.bytes(), [0, 0, 3, 4, 0, 0, 0, 0, 9, 10]);
    }

    /// A file beyond the limit is refused before memory is taken for it.
    #[test]
    fn files_beyond_the_limit_are_refused() {
        assert!(Sparse::new(FILE_BYTES_MAX + 1, &|_, _| Ok(())).is_err());
    }
}
