//! Owns how the probes are told which code a process maps, and where its unwind rows are.
//! Must not know how rows are made or used.

use core::mem::{offset_of, size_of};

use crate::limits::CODE_PIECES_MAX;

/// A piece of mapped code whose rows lie in one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CodePiece {
    /// First address in the process.
    pub begin: u64,
    /// First address after it.
    pub end: u64,
    /// What to take from an address to get what rows are sorted by, modulo 2^64.
    pub bias: u64,
    /// Which shard.
    pub shard: u32,
    /// First row in it.
    pub first_row: u32,
    /// How many rows; 0 where the file has no table.
    pub row_count: u32,
    /// Whether its table is still being made.
    pub is_pending: u32,
}

/// Which code a process has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CodeRef {
    /// The number of its `CodeSpace`.
    pub space: u32,
    /// That one's generation when it was the process's. Another one there means that the number was
    /// given to somebody else since.
    pub generation: u32,
}

/// The code of one process, sorted by address and without overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CodeSpace {
    /// How many pieces there are.
    pub piece_count: u32,
    /// Another number for each change on this host, never 0: rules remembered under an older one
    /// do not count any more. A space is never changed in place while a process refers to it.
    pub generation: u32,
    /// The pieces.
    pub pieces: [CodePiece; CODE_PIECES_MAX],
}

impl CodeSpace {
    /// No code.
    pub const EMPTY: Self = Self {
        piece_count: 0,
        generation: 0,
        pieces: [CodePiece {
            begin: 0,
            end: 0,
            bias: 0,
            shard: 0,
            first_row: 0,
            row_count: 0,
            is_pending: 0,
        }; CODE_PIECES_MAX],
    };
}

const _: () = assert!(size_of::<CodeRef>() == 8);
const _: () = assert!(size_of::<CodePiece>() == 40);
const _: () = assert!(offset_of!(CodeSpace, pieces) == 8);
const _: () = assert!(size_of::<CodeSpace>() == 8 + 40 * CODE_PIECES_MAX);
