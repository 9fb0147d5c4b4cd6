//! Owns reading the goroutines of a running Go program from outside (`runtime.allgs`).
//! Must not know names, probes or reports.
//!
//! The runtime never frees a `g`, it only uses it again, and its list only grows. So both can be read
//! while the program runs; a goroutine that runs meanwhile gives values of different moments, which is
//! why only those that wait are looked at any closer.

mod blocked;
mod held;
mod reasons;
#[cfg(test)]
mod tests;
mod words;

use std::{error, fmt};

pub use self::{
    blocked::{Blocked, BlockedGroup, Census, CreatedGroup},
    held::{Held, HeldBlock, HeldTotals, Range, Word},
    words::{words_of_blocks, words_of_stacks},
};
use super::{
    memory::{MemoryError, word_at},
    program::GoProcess,
};

/// As many goroutines as are read. Programs with more than 100 000 exist, and each takes its stack.
const GOROUTINES_MAX: usize = 1 << 17;

/// As much memory as one look may read: about 450 bytes a goroutine, and the stacks.
const BUDGET_BYTES: u64 = 512 << 20;

/// As much of a stack as is read at once; most goroutines that wait use less.
const STACK_READ_BYTES: u64 = 2048;

/// Frames beyond this are left out, the outermost first.
const FRAMES_MAX: usize = 64;

/// Set in `atomicstatus` while the collector scans the stack.
const SCAN_BIT: u32 = 0x1000;

/// What a goroutine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It could run.
    Runnable,
    /// It runs.
    Running,
    /// It is in a system call, or in C.
    Syscall,
    /// It waits for something.
    Waiting,
    /// It was stopped to let others run.
    Preempted,
    /// The program's own leak profile found that nothing can wake it (Go 1.26).
    Leaked,
    /// Between two of these: its stack is being moved.
    Moving,
}

impl State {
    /// Its word in every output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
            Self::Preempted => "preempted",
            Self::Leaked => "leaked",
            Self::Moving => "moving",
        }
    }

    /// By the number in `atomicstatus`; `None` for a `g` that is none.
    /// <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go>, `_Gidle`
    fn of(status: u32) -> Option<Self> {
        match status & !SCAN_BIT {
            1 => Some(Self::Runnable),
            2 => Some(Self::Running),
            3 => Some(Self::Syscall),
            4 => Some(Self::Waiting),
            8 => Some(Self::Moving),
            9 => Some(Self::Preempted),
            10 => Some(Self::Leaked),
            _ => None,
        }
    }

    /// Whether it goes on only when something happens outside of it.
    #[must_use]
    pub fn is_blocked(self) -> bool {
        matches!(self, Self::Waiting | Self::Syscall | Self::Leaked)
    }
}

/// A goroutine. Addresses are the process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// Never used again in the process.
    pub id: u64,
    /// What it is doing.
    pub state: State,
    /// Why it waits, in the words of Go's own stack traces.
    pub wait_reason: Option<&'static str>,
    /// The address after the `go` statement that made it; 0 for the first.
    pub created_pc: u64,
    /// The function that it runs.
    pub start_pc: u64,
    /// Where it stopped.
    pub pc: u64,
    /// Its stack pointer there.
    pub sp: u64,
    /// Its frame pointer there; 0 where the runtime did not keep it.
    pub bp: u64,
    /// The end of its stack.
    pub stack_end: u64,
    /// A number of 8 bits that changes each time it has run.
    pub turns: u8,
}

/// The goroutines of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Those that live.
    pub goroutines: Vec<Goroutine>,
    /// How many more there may be than were read.
    pub unread: u64,
}

/// Why goroutines cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGoroutines {
    /// The runtime's list was not found in the program.
    NotFound,
    /// What was found there is no such list.
    Implausible,
    /// The memory could not be read.
    Memory(MemoryError),
}

impl fmt::Display for NoGoroutines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => formatter.write_str("the list of its goroutines was not found"),
            Self::Implausible => {
                formatter.write_str("the list of its goroutines is not as expected")
            }
            Self::Memory(error) => error.fmt(formatter),
        }
    }
}

impl error::Error for NoGoroutines {}

impl From<MemoryError> for NoGoroutines {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

/// Reads all goroutines, without their stacks.
///
/// # Errors
///
/// When the list is not found or cannot be read.
pub fn read_goroutines(process: &GoProcess) -> Result<Snapshot, NoGoroutines> {
    let allgs = process
        .program
        .globals
        .allgs
        .ok_or(NoGoroutines::NotFound)?;
    let memory = &process.memory;
    memory.refill(BUDGET_BYTES);
    let list = memory.word(process.avma(allgs))?;
    let count = memory.word(process.avma(allgs) + 8)?;
    // Each takes a few hundred bytes: more than this would be terabytes.
    if count > u64::from(u32::MAX) {
        return Err(NoGoroutines::Implausible);
    }
    let read = usize::try_from(count).map_or(GOROUTINES_MAX, |count| count.min(GOROUTINES_MAX));
    let list = memory.bytes(list, read * 8)?;
    let mut addresses: Vec<u64> = (0..read).map(|at| word_at(&list, at * 8)).collect();
    addresses.sort_unstable();
    let mut goroutines = Vec::new();
    let size = usize::from(process.layout.goroutine.read_bytes);
    memory.each(&addresses, size, &mut |bytes| {
        goroutines.extend(parse(process, bytes));
    })?;
    Ok(Snapshot {
        goroutines,
        unread: count - read as u64,
    })
}

/// One goroutine; `None` where the structure waits to be used again.
fn parse(process: &GoProcess, bytes: &[u8]) -> Option<Goroutine> {
    let layout = &process.layout.goroutine;
    let word = |offset: u16| word_at(bytes, usize::from(offset));
    let byte = |offset: u16| bytes.get(usize::from(offset)).copied().unwrap_or(0);
    let state = State::of(word(layout.atomicstatus) as u32)?;
    let (sp, pc, bp) = match state {
        State::Syscall => (
            word(layout.syscallsp),
            word(layout.syscallsp + 8),
            layout.syscallbp.map_or(0, word),
        ),
        _ => (
            word(layout.sched),
            word(layout.sched + 8),
            word(layout.sched_bp),
        ),
    };
    Some(Goroutine {
        id: word(layout.goid),
        state,
        wait_reason: (state == State::Waiting)
            .then(|| reasons::wait_reason(process.layout.minor, byte(layout.waitreason)))
            .flatten(),
        created_pc: word(layout.gopc),
        start_pc: word(layout.startpc),
        pc,
        sp,
        bp,
        stack_end: word(layout.stack + 8),
        turns: byte(layout.turns),
    })
}

/// The return addresses on the stack of a goroutine that waits, innermost first.
///
/// Go keeps frame pointers on x86-64. Frames lie upwards on the stack, so the walk ends.
#[must_use]
pub fn read_stack(process: &GoProcess, goroutine: &Goroutine) -> Vec<u64> {
    let end = goroutine.stack_end;
    let mut stack = vec![goroutine.pc];
    let (mut start, mut bytes) = (0, Vec::new());
    let mut lowest = goroutine.sp;
    let mut frame = match goroutine.bp {
        0 => saved_frame_pointer(process, goroutine).unwrap_or(0),
        bp => bp,
    };
    while stack.len() < FRAMES_MAX && (lowest..end.saturating_sub(15)).contains(&frame) {
        if frame + 16 > start + bytes.len() as u64 {
            start = frame;
            let len = (end - start).min(STACK_READ_BYTES);
            match process.memory.bytes(start, len as usize) {
                Ok(read) => bytes = read,
                Err(_) => break,
            }
        }
        let at = (frame - start) as usize;
        let return_address = word_at(&bytes, at + 8);
        if return_address == 0 {
            break;
        }
        stack.push(return_address);
        lowest = frame + 16;
        frame = word_at(&bytes, at);
    }
    stack
}

/// Where the function that stopped saved its caller's frame pointer: just below its return address. Up to
/// Go 1.22 a goroutine in a system call tells no frame pointer.
fn saved_frame_pointer(process: &GoProcess, goroutine: &Goroutine) -> Option<u64> {
    let call = process.svma(goroutine.pc).checked_sub(1)?;
    let frame_bytes = process.program.table.frame_bytes(call)?;
    goroutine.sp.checked_add(frame_bytes)?.checked_sub(8)
}
