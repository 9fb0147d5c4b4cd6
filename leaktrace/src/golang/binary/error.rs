//! Owns why a file is not taken for a Go program.
//! Must not know what is done about it.

use std::fmt;

use crate::binary::elf::ElfError;

/// Why a file is not read as a Go program.
#[derive(Debug)]
pub enum GoError {
    /// It is no ELF program of this machine.
    NotElf(ElfError),
    /// It has no table of Go's functions.
    NotGo,
    /// It has one, but not what goes with it.
    Malformed(&'static str),
}

impl fmt::Display for GoError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf(error) => error.fmt(formatter),
            Self::NotGo => formatter.write_str("no Go program"),
            Self::Malformed(what) => write!(formatter, "damaged Go program: {what}"),
        }
    }
}

impl std::error::Error for GoError {}
