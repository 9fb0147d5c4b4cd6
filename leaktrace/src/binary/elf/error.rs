//! Owns the reasons for which a file is not traced.
//! Must not know how the file is read, nor its path.

use std::fmt;

use super::MAX_SEGMENTS;

/// Why bytes are not an ELF file that can be traced. The caller adds the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// The magic number is missing, or the file ends within the header.
    NotElf,
    /// A 32-bit file.
    Not64Bit,
    /// A big-endian file.
    NotLittleEndian,
    /// Another processor than x86-64, with its `e_machine`.
    Machine(u16),
    /// Neither a program nor a shared object, with its `e_type`.
    Kind(u16),
    /// More program headers than any linker writes.
    TooManySegments(usize),
    /// The program headers lie outside the file or have a wrong size or alignment.
    BadSegments,
    /// No executable segment: a debug file or data, nothing to probe.
    NoCode,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "not an ELF file"),
            Self::Not64Bit => write!(f, "a 32-bit ELF file; only x86-64 is supported"),
            Self::NotLittleEndian => write!(f, "a big-endian ELF file; only x86-64 is supported"),
            Self::Machine(machine) => {
                write!(
                    f,
                    "an ELF file for machine {machine}; only x86-64 (62) is supported"
                )
            }
            Self::Kind(kind) => {
                write!(
                    f,
                    "an ELF file of type {kind}; only programs and shared objects are probed"
                )
            }
            Self::TooManySegments(count) => {
                write!(
                    f,
                    "{count} program headers; at most {MAX_SEGMENTS} are read"
                )
            }
            Self::BadSegments => write!(f, "damaged program headers"),
            Self::NoCode => write!(f, "no executable segment"),
        }
    }
}

impl std::error::Error for ElfError {}
