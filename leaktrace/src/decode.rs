//! Owns the way from a record's bytes to an `Event`.
//! Must not know where the bytes come from or what an event leads to.

use std::fmt;

use bytes::{Buf, TryGetError};
use leaktrace_common::{
    call::Call,
    cookie::Family,
    event::{FLAG_GO_TINY, FLAG_NOT_FOLLOWED, Kind, StackEnd},
    go::SLOTS_MAX,
    limits::STACK_FRAMES_MAX,
};

/// One thing that happened in a traced process. Times are boot-clock nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block was handed out.
    Alloc(Alloc),
    /// A block was handed out that may stand for others.
    Sample {
        /// The block.
        alloc: Alloc,
        /// Mean bytes between samples at the time; 0 where every allocation was recorded.
        sample_bytes: u64,
    },
    /// A block was given back.
    Free {
        /// The process.
        tgid: u32,
        /// The block.
        address: u64,
    },
    /// A block is being resized; its address may be another's from here on.
    ReallocBegin {
        /// The process.
        tgid: u32,
        /// The thread, which pairs it with its end.
        tid: u32,
        /// The block.
        address: u64,
    },
    /// The resize is over.
    ReallocEnd {
        /// The thread, which pairs it with its beginning.
        tid: u32,
        /// The block as it was.
        old_address: u64,
        /// Whether the new size is one that is followed.
        is_followed: bool,
        /// The block as it is; address 0 with a size is a failure.
        new: Alloc,
    },
    /// A stack seen for the first time.
    Stack {
        /// The process.
        tgid: u32,
        /// The id that allocations carry.
        id: u64,
        /// Return addresses, innermost first.
        frames: Vec<u64>,
        /// Why there are no more.
        end: StackEnd,
        /// When it was seen.
        time_ns: u64,
    },
    /// What the stack of a new process is to be walked from.
    EarlyStack(Box<EarlyStack>),
    /// What a stack was walked from, as it came: it is only passed on to be checked.
    Oracle(Box<[u8]>),
    /// A process was made.
    Fork {
        /// The parent.
        tgid: u32,
        /// The new process.
        child_tgid: u32,
        /// The user it runs as.
        uid: u32,
        /// When.
        time_ns: u64,
        /// Whether it runs in its parent's memory, as after `vfork`.
        shares_memory: bool,
    },
    /// A block of Go's heap was handed out.
    GoAlloc {
        /// The block.
        alloc: Alloc,
        /// Whether it shares its slot with others.
        is_tiny: bool,
        /// Mean bytes between samples at the time; 0 where every allocation was recorded.
        sample_bytes: u64,
    },
    /// A collection has judged a span of Go's heap.
    GoSweep(Box<GoSweep>),
    /// A collection begins to mark.
    GoCycle {
        /// The process.
        tgid: u32,
        /// When.
        time_ns: u64,
    },
    /// A process executed a new image.
    Exec(Image),
    /// A process ended.
    Exit(Image),
}

/// A block that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alloc {
    /// The process.
    pub tgid: u32,
    /// The function.
    pub call: Call,
    /// Whose function it is, where the record says so.
    pub family: Option<Family>,
    /// The block.
    pub address: u64,
    /// Bytes asked for.
    pub size: u64,
    /// The stack's id, 0 where there is none.
    pub stack: u64,
    /// When it was handed out.
    pub time_ns: u64,
}

/// A span of Go's heap that a collection has judged: its slots are dead but for those marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoSweep {
    /// The process.
    pub tgid: u32,
    /// Its first byte.
    pub address: u64,
    /// Its bytes.
    pub span_bytes: u64,
    /// Bytes of a slot.
    pub slot_bytes: u64,
    /// How many slots there are.
    pub slot_count: u32,
    /// When it was swept.
    pub time_ns: u64,
    /// A bit for each slot.
    pub marks: Vec<u64>,
}

/// What the stack of a new process is to be walked from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyStack {
    /// The process.
    pub tgid: u32,
    /// The provisional id that its allocation carries.
    pub id: u64,
    /// When.
    pub time_ns: u64,
    /// The stack pointer at the allocator's entry, where its return address lies.
    pub stack_pointer: u64,
    /// The frame pointer there.
    pub frame_pointer: u64,
    /// How many images the process had executed.
    pub image: u32,
    /// The innermost part of the stack, from the stack pointer on.
    pub slice: Box<[u8]>,
}

/// A process at its exec or exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// The process.
    pub tgid: u32,
    /// When.
    pub time_ns: u64,
    /// The user it runs as.
    pub uid: u32,
    /// The command name, padded with NUL.
    pub comm: [u8; 16],
}

/// Why a record could not be decoded: the probes and the agent do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The record is shorter than its kind demands.
    Short,
    /// No such kind.
    UnknownKind(u8),
    /// No such function.
    UnknownCall(u8),
    /// A stack claims more frames than there may be.
    TooManyFrames(u32),
    /// No such reason for a stack's end.
    UnknownStackEnd(u32),
    /// A span claims more slots than there may be.
    TooManySlots(u32),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "record is too short for its kind"),
            Self::UnknownKind(kind) => write!(f, "unknown kind of record {kind}"),
            Self::UnknownCall(call) => write!(f, "unknown function {call}"),
            Self::TooManyFrames(count) => write!(f, "stack of {count} frames"),
            Self::TooManySlots(count) => write!(f, "span of {count} slots"),
            Self::UnknownStackEnd(end) => write!(f, "unknown end of a stack {end}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<TryGetError> for DecodeError {
    fn from(_: TryGetError) -> Self {
        Self::Short
    }
}

/// `CLONE_VM` of include/uapi/linux/sched.h.
const CLONE_VM: u64 = 0x100;

/// Decodes one record, laid out as `leaktrace_common::event` has it.
///
/// # Errors
///
/// When the bytes are not such a record.
pub fn decode(mut record: &[u8]) -> Result<Event, DecodeError> {
    if record.first() == Some(&(Kind::Oracle as u8)) {
        return Ok(Event::Oracle(record.into()));
    }
    let record = &mut record;
    let kind = record.try_get_u8()?;
    let call = record.try_get_u8()?;
    let flags = record.try_get_u16_ne()?;
    let tgid = record.try_get_u32_ne()?;
    Ok(match kind {
        k if k == Kind::Alloc as u8 => Event::Alloc(alloc(record, tgid, call, flags)?),
        k if k == Kind::Sample as u8 => Event::Sample {
            alloc: alloc(record, tgid, call, flags)?,
            sample_bytes: record.try_get_u64_ne()?,
        },
        k if k == Kind::Free as u8 => Event::Free {
            tgid,
            address: record.try_get_u64_ne()?,
        },
        k if k == Kind::ReallocBegin as u8 => {
            let address = record.try_get_u64_ne()?;
            Event::ReallocBegin {
                tgid,
                address,
                tid: record.try_get_u32_ne()?,
            }
        }
        k if k == Kind::ReallocEnd as u8 => {
            let old_address = record.try_get_u64_ne()?;
            let new = alloc(record, tgid, call, flags)?;
            let tid = record.try_get_u32_ne()?;
            let is_followed = flags & FLAG_NOT_FOLLOWED == 0;
            Event::ReallocEnd {
                tid,
                old_address,
                is_followed,
                new,
            }
        }
        k if k == Kind::GoAlloc as u8 => Event::GoAlloc {
            alloc: alloc(record, tgid, call, flags)?,
            is_tiny: flags & FLAG_GO_TINY != 0,
            sample_bytes: record.try_get_u64_ne()?,
        },
        k if k == Kind::GoSweep as u8 => Event::GoSweep(Box::new(go_sweep(record, tgid)?)),
        k if k == Kind::GoCycle as u8 => Event::GoCycle {
            tgid,
            time_ns: record.try_get_u64_ne()?,
        },
        k if k == Kind::Stack as u8 => stack(record, tgid)?,
        k if k == Kind::EarlyStack as u8 => Event::EarlyStack(Box::new(early_stack(record, tgid)?)),
        k if k == Kind::Fork as u8 => {
            let child_tgid = record.try_get_u32_ne()?;
            let uid = record.try_get_u32_ne()?;
            let time_ns = record.try_get_u64_ne()?;
            let shares_memory = record.try_get_u64_ne()? & CLONE_VM != 0;
            Event::Fork {
                tgid,
                child_tgid,
                uid,
                time_ns,
                shares_memory,
            }
        }
        k if k == Kind::Exec as u8 => Event::Exec(image(record, tgid)?),
        k if k == Kind::Exit as u8 => Event::Exit(image(record, tgid)?),
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    })
}

fn alloc(record: &mut &[u8], tgid: u32, call: u8, flags: u16) -> Result<Alloc, DecodeError> {
    Ok(Alloc {
        tgid,
        call: Call::from_number(call).ok_or(DecodeError::UnknownCall(call))?,
        family: Family::from_number((flags >> 8) as u8),
        address: record.try_get_u64_ne()?,
        size: record.try_get_u64_ne()?,
        stack: record.try_get_u64_ne()?,
        time_ns: record.try_get_u64_ne()?,
    })
}

fn stack(record: &mut &[u8], tgid: u32) -> Result<Event, DecodeError> {
    let id = record.try_get_u64_ne()?;
    let time_ns = record.try_get_u64_ne()?;
    let count = record.try_get_u32_ne()?;
    let end = record.try_get_u32_ne()?;
    let end = StackEnd::from_number(end).ok_or(DecodeError::UnknownStackEnd(end))?;
    if count as usize > STACK_FRAMES_MAX {
        return Err(DecodeError::TooManyFrames(count));
    }
    let frames = (0..count)
        .map(|_| record.try_get_u64_ne())
        .collect::<Result<_, _>>()?;
    Ok(Event::Stack {
        tgid,
        id,
        frames,
        end,
        time_ns,
    })
}

fn early_stack(record: &mut &[u8], tgid: u32) -> Result<EarlyStack, DecodeError> {
    let id = record.try_get_u64_ne()?;
    let time_ns = record.try_get_u64_ne()?;
    let stack_pointer = record.try_get_u64_ne()?;
    let frame_pointer = record.try_get_u64_ne()?;
    let image = record.try_get_u32_ne()?;
    let slice_bytes = record.try_get_u32_ne()?;
    let slice = record.get(..slice_bytes as usize);
    Ok(EarlyStack {
        tgid,
        id,
        time_ns,
        stack_pointer,
        frame_pointer,
        image,
        slice: slice.ok_or(DecodeError::Short)?.into(),
    })
}

fn go_sweep(record: &mut &[u8], tgid: u32) -> Result<GoSweep, DecodeError> {
    let address = record.try_get_u64_ne()?;
    let span_bytes = record.try_get_u64_ne()?;
    let slot_bytes = record.try_get_u64_ne()?;
    let time_ns = record.try_get_u64_ne()?;
    let slot_count = record.try_get_u32_ne()?;
    let _reserved = record.try_get_u32_ne()?;
    if slot_count as usize > SLOTS_MAX {
        return Err(DecodeError::TooManySlots(slot_count));
    }
    let marks = (0..slot_count.div_ceil(64))
        .map(|_| record.try_get_u64_ne())
        .collect::<Result<_, _>>()?;
    Ok(GoSweep {
        tgid,
        address,
        span_bytes,
        slot_bytes,
        slot_count,
        time_ns,
        marks,
    })
}

fn image(record: &mut &[u8], tgid: u32) -> Result<Image, DecodeError> {
    let time_ns = record.try_get_u64_ne()?;
    let uid = record.try_get_u32_ne()?;
    let _reserved = record.try_get_u32_ne()?;
    let mut comm = [0; 16];
    record.try_copy_to_slice(&mut comm)?;
    Ok(Image {
        tgid,
        time_ns,
        uid,
        comm,
    })
}

#[cfg(test)]
mod tests;
