//! Owns the records that travel through the ring, byte by byte.
//! Must not know how they are produced, decoded or what they lead to.
//!
//! All are in native byte order: probes and agent run on one machine. Each begins with a
//! `Header`, has no implicit padding, and holds nothing that has an invalid bit pattern.

use core::mem::offset_of;

use crate::{
    go::SLOTS_MAX,
    limits::{EARLY_SLICE_BYTES, ORACLE_SLICE_BYTES, STACK_FRAMES_MAX},
};

/// What a record is. The number is on the wire and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `Alloc`
    Alloc = 1,
    /// `Free`
    Free = 2,
    /// `ReallocBegin`
    ReallocBegin = 3,
    /// `ReallocEnd`
    ReallocEnd = 4,
    /// `Stack`
    Stack = 5,
    /// `Fork`
    Fork = 6,
    /// `Image`, at exec
    Exec = 7,
    /// `Image`, at the exit of the whole process
    Exit = 8,
    /// `Sample`, of a block of Go's heap
    GoAlloc = 16,
    /// `GoSweep`
    GoSweep = 17,
    /// `GoCycle`
    GoCycle = 18,
    /// `Oracle`
    Oracle = 24,
    /// `EarlyStack`, in a ring of its own
    EarlyStack = 25,
    /// `Sample`
    Sample = 28,
}

/// Begins every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// A `Kind`.
    pub kind: u8,
    /// A `Call`, or 0.
    pub call: u8,
    /// By kind; 0 where none is named. Of `Alloc` and `ReallocEnd` the upper byte is a `Family`.
    pub flags: u16,
    /// The process, as the host numbers it.
    pub tgid: u32,
}

/// A block was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Alloc {
    /// Kind, call, process.
    pub header: Header,
    /// The block.
    pub address: u64,
    /// Bytes asked for.
    pub size: u64,
    /// The id of the stack, 0 where there is none.
    pub stack: u64,
    /// When the allocator returned, boot clock.
    pub time_ns: u64,
}

/// A block was handed out that may stand for others, and whose free will be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// The block.
    pub alloc: Alloc,
    /// Mean bytes between samples at the time; 0 where every allocation was recorded.
    pub sample_bytes: u64,
}

/// In `Alloc::header.flags` of `Kind::GoAlloc`: the block shares its slot of 16 bytes with others.
pub const FLAG_GO_TINY: u16 = 1;

/// A collection has judged the objects of a span: those whose slots are not marked are dead. Only as
/// many words of marks travel as there are slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GoSweep {
    /// Kind and process.
    pub header: Header,
    /// The first byte of the span.
    pub address: u64,
    /// Its bytes.
    pub span_bytes: u64,
    /// Bytes of each of its slots.
    pub slot_bytes: u64,
    /// When, boot clock.
    pub time_ns: u64,
    /// How many slots there are.
    pub slot_count: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
    /// A bit for each slot.
    pub marks: [u64; GO_MARK_WORDS],
}

/// Words of marks of the span with the most slots.
pub const GO_MARK_WORDS: usize = SLOTS_MAX / 64;

/// Bytes of a `GoSweep` before its marks.
pub const GO_SWEEP_PREFIX_BYTES: usize = offset_of!(GoSweep, marks);

/// A collection begins to mark: what is allocated from here on it does not judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GoCycle {
    /// Kind and process.
    pub header: Header,
    /// When, boot clock.
    pub time_ns: u64,
}

/// A block is being given back. Stamped before the allocator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Free {
    /// Kind, call, process.
    pub header: Header,
    /// The block.
    pub address: u64,
}

/// A block is being resized: from here on its address may be another thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ReallocBegin {
    /// Kind, call, process.
    pub header: Header,
    /// The block; never 0, since that would be a malloc.
    pub address: u64,
    /// The thread, which pairs this with its end.
    pub tid: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// The resize is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ReallocEnd {
    /// Kind, call, process.
    pub header: Header,
    /// The block as it was.
    pub old_address: u64,
    /// The block as it is; 0 with a size is a failure that leaves the old block, 0 without one a
    /// free.
    pub address: u64,
    /// Bytes asked for.
    pub size: u64,
    /// The id of the stack, 0 where there is none.
    pub stack: u64,
    /// When the allocator returned, boot clock.
    pub time_ns: u64,
    /// The thread, which pairs this with its beginning.
    pub tid: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// In `ReallocEnd::header.flags`: the new size is outside the sizes asked for, so that the old
/// block is gone and the new one is not followed.
pub const FLAG_NOT_FOLLOWED: u16 = 1;

/// A stack that was not seen before. Only `frame_count` frames travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stack {
    /// Kind and process.
    pub header: Header,
    /// The id that allocations carry: a hash of the frames, the process and its image.
    pub id: u64,
    /// When, boot clock.
    pub time_ns: u64,
    /// How many frames follow.
    pub frame_count: u32,
    /// A `StackEnd`.
    pub end: u32,
    /// Return addresses, innermost first: `frames[0]` is where the allocator returns to.
    pub frames: [u64; STACK_FRAMES_MAX],
}

/// Bytes of a `Stack` before its frames.
pub const STACK_PREFIX_BYTES: usize = offset_of!(Stack, frames);

/// Why a stack ends where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum StackEnd {
    /// The frame-pointer chain reached its null root.
    Root = 0,
    /// `STACK_FRAMES_MAX` was reached.
    TooDeep = 1,
    /// The frame pointer did not point further up the stack: code without frame pointers.
    NoFramePointer = 2,
    /// The stack could not be read.
    Unreadable = 3,
    /// A function has an unwind rule that the tables cannot hold.
    BadRule = 4,
    /// The process's unwind tables were not in place yet, and there was no frame pointer.
    NoTables = 5,
}

impl StackEnd {
    /// The reason with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Root),
            1 => Some(Self::TooDeep),
            2 => Some(Self::NoFramePointer),
            3 => Some(Self::Unreadable),
            4 => Some(Self::BadRule),
            5 => Some(Self::NoTables),
            _ => None,
        }
    }

    /// In words, where the stack is not whole.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Root => None,
            Self::TooDeep => Some("deeper than 128 frames"),
            Self::NoFramePointer => Some("code without frame pointers"),
            Self::Unreadable => Some("stack memory could not be read"),
            Self::BadRule => Some("a function with an unwind rule that is not supported"),
            Self::NoTables => Some("allocated before its unwind tables were in place"),
        }
    }
}

/// What a stack was walked from, so that another unwinder can walk it too. Only for checking the
/// walk: no user's trace has these records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Oracle {
    /// Kind and process.
    pub header: Header,
    /// The stack pointer at the allocator's entry, where its return address lies.
    pub stack_pointer: u64,
    /// The frame pointer there.
    pub frame_pointer: u64,
    /// How many frames were found.
    pub frame_count: u32,
    /// A `StackEnd`.
    pub end: u32,
    /// Bytes of the stack that could be copied, from the stack pointer on.
    pub slice_bytes: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
    /// The frames that were found, as in `Stack`; those beyond `frame_count` mean nothing.
    pub frames: [u64; STACK_FRAMES_MAX],
    /// The stack's innermost part; bytes beyond `slice_bytes` mean nothing.
    pub slice: [u8; ORACLE_SLICE_BYTES],
}

/// What the stack of a call is to be walked from, of a process that is too new for the probes to know its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EarlyStack {
    /// Kind and process.
    pub header: Header,
    /// The provisional id that its allocation carries.
    pub id: u64,
    /// When, boot clock.
    pub time_ns: u64,
    /// The stack pointer at the allocator's entry, where its return address lies.
    pub stack_pointer: u64,
    /// The frame pointer there.
    pub frame_pointer: u64,
    /// How many images the process had executed.
    pub image: u32,
    /// Bytes of the stack that could be copied, from the stack pointer on.
    pub slice_bytes: u32,
    /// The stack's innermost part; bytes beyond `slice_bytes` mean nothing.
    pub slice: [u8; EARLY_SLICE_BYTES],
}

/// What is kept of a new process whose stacks may be sent to be walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Newcomer {
    /// When it executed its image, boot clock.
    pub since_ns: u64,
    /// How many of its stacks were sent.
    pub stack_count: u64,
}

/// A process was made. `header.tgid` is its parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fork {
    /// Kind and parent.
    pub header: Header,
    /// The new process.
    pub child_tgid: u32,
    /// The user it runs as.
    pub uid: u32,
    /// When, boot clock.
    pub time_ns: u64,
    /// The kernel's clone flags, such as `CLONE_VM`.
    pub clone_flags: u64,
}

/// A process executed a new image, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Image {
    /// Kind and process.
    pub header: Header,
    /// When, boot clock.
    pub time_ns: u64,
    /// The user it runs as.
    pub uid: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
    /// The command name, padded with NUL.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Header>() == 8);
const _: () = assert!(size_of::<Alloc>() == 40 && offset_of!(Alloc, time_ns) == 32);
const _: () = assert!(size_of::<Sample>() == 48 && offset_of!(Sample, sample_bytes) == 40);
const _: () = assert!(size_of::<GoCycle>() == 16);
const _: () = assert!(GO_SWEEP_PREFIX_BYTES == 48);
const _: () = assert!(size_of::<GoSweep>() == GO_SWEEP_PREFIX_BYTES + 8 * GO_MARK_WORDS);
const _: () = assert!(size_of::<Free>() == 16 && offset_of!(Free, address) == 8);
const _: () = assert!(size_of::<ReallocBegin>() == 24 && offset_of!(ReallocBegin, tid) == 16);
const _: () = assert!(size_of::<ReallocEnd>() == 56 && offset_of!(ReallocEnd, tid) == 48);
const _: () = assert!(STACK_PREFIX_BYTES == 32);
const _: () = assert!(size_of::<Stack>() == STACK_PREFIX_BYTES + 8 * STACK_FRAMES_MAX);
const _: () = assert!(offset_of!(Oracle, frames) == 40);
const _: () = assert!(size_of::<Oracle>() == 40 + 8 * STACK_FRAMES_MAX + ORACLE_SLICE_BYTES);
const _: () = assert!(offset_of!(EarlyStack, slice) == 48);
const _: () = assert!(size_of::<EarlyStack>() == 48 + EARLY_SLICE_BYTES);
const _: () = assert!(size_of::<Newcomer>() == 16);
const _: () = assert!(size_of::<Fork>() == 32 && offset_of!(Fork, clone_flags) == 24);
const _: () = assert!(size_of::<Image>() == 40 && offset_of!(Image, comm) == 24);
