//! Owns what a new image does before its own code runs: when all of it is mapped, and when to look
//! no more.
//! Must not know ptrace's stops or who waits for them.
//!
//! The dynamic linker is followed by its system calls. It maps every library
//! first and then, before any of their code, makes calls that map nothing
//! (glibc: `arch_prctl` for its thread pointer): there the image is whole. A
//! breakpoint at the entry point would tell the same, but one in memory or in
//! debug registers outlives a tracer that is killed, and then kills the
//! program; the mode of stopping at system calls ends with the tracer.

mod processor;

use std::{fs, ops::Range};

use nix::{libc, unistd::Pid};

use self::processor::ARCH_64_BIT;
use crate::host::maps::{Mapping, read_maps};

/// Stops after which no more are asked for: some hundred libraries.
const STOPS_MAX: u32 = 10_000;

/// A stop at a system call's entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The kernel's name for the calling convention.
    pub(super) arch: u32,
    /// The address after the instruction.
    pub(super) instruction: u64,
    /// Which call it is.
    pub(super) number: u64,
    /// With what.
    pub(super) arguments: [u64; 6],
}

/// What is to be done with a stopped process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Something was mapped that has not been told of, and is about to be used.
    pub(super) hold: bool,
    /// Further calls are to be looked at.
    pub(super) look_on: bool,
}

/// How a new image begins.
#[derive(Debug)]
pub(super) enum Image {
    /// Its dynamic linker runs first.
    Linked(Loading),
    /// All of it is mapped already.
    Whole,
}

impl Image {
    /// Looks at a process that stands at the end of its exec; `None` for one of
    /// 32 bits, or one that may not be looked at.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        let auxv = fs::read(format!("/proc/{pid}/auxv")).ok()?;
        let Some(base) = linker_base(&auxv)? else {
            // Also a linker that was executed by name with the program as its argument: what it
            // maps becomes known a moment late, as for a dlopen.
            return Some(Self::Whole);
        };
        let mappings = read_maps(pid.as_raw().cast_unsigned()).ok()?;
        let code = code_after(&mappings, base)?;
        Some(Self::Linked(Loading::new(code)))
    }
}

/// Where the kernel put the dynamic linker, if there is one; nothing for an image of 32 bits.
fn linker_base(auxv: &[u8]) -> Option<Option<u64>> {
    let words: Vec<u64> = auxv
        .as_chunks()
        .0
        .iter()
        .map(|bytes| u64::from_ne_bytes(*bytes))
        .collect();
    let value = |key: u64| {
        let mut pairs = words.as_chunks::<2>().0.iter();
        pairs.find(|[found, _]| *found == key).map(|[_, it]| *it)
    };
    // Read as 64 bits, an entry of 32 has its value in the key's upper half, and an entry point
    // is never 0: so only an image of 64 bits has this key.
    value(libc::AT_ENTRY)?;
    Some(value(libc::AT_BASE).filter(|base| *base != 0))
}

/// The first code at or after an address.
fn code_after(mappings: &[Mapping], base: u64) -> Option<Range<u64>> {
    let mapping = mappings.iter().find(|mapping| mapping.end > base)?;
    mapping.is_file().then_some(mapping.start..mapping.end)
}

/// A process whose dynamic linker has not finished.
#[derive(Debug)]
pub(super) struct Loading {
    linker: Range<u64>,
    is_untold: bool,
    stops: u32,
}

impl Loading {
    fn new(linker: Range<u64>) -> Self {
        Self {
            linker,
            // The program itself, and the linker.
            is_untold: true,
            stops: 0,
        }
    }

    /// Judges a stop; no call stands for the end of one.
    pub(super) fn step(&mut self, call: Option<Call>) -> Step {
        self.stops += 1;
        let has_patience = self.stops < STOPS_MAX;
        let Some(call) = call else {
            return Step {
                hold: false,
                look_on: has_patience,
            };
        };
        // In musl the linker is the C library too, so that calls tell the program from it.
        let is_linker = call.arch == ARCH_64_BIT && self.linker.contains(&call.instruction);
        let purpose = if is_linker {
            Purpose::of(&call)
        } else {
            Purpose::Program
        };
        if purpose == Purpose::MapCode {
            self.is_untold = true;
        }
        let look_on = has_patience && purpose != Purpose::Program;
        let is_mapping = matches!(purpose, Purpose::Map | Purpose::MapCode);
        let hold = self.is_untold && !(is_mapping && look_on);
        self.is_untold &= !hold;
        Step { hold, look_on }
    }
}

/// What a system call of the dynamic linker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To find, read or map a library.
    Map,
    /// To map a file's code.
    MapCode,
    /// To make ready what is mapped.
    Link,
    /// Nothing that a dynamic linker does: the program has begun.
    Program,
}

impl Purpose {
    fn of(call: &Call) -> Self {
        let Ok(number) = call.number.try_into() else {
            return Self::Program;
        };
        let [first, _, protection, flags, ..] = call.arguments;
        let has = |word: u64, bit: i32| word & u64::from(bit.cast_unsigned()) != 0;
        match number {
            libc::SYS_mmap
                if has(protection, libc::PROT_EXEC) && !has(flags, libc::MAP_ANONYMOUS) =>
            {
                Self::MapCode
            }
            // Older linkers close the gap between a library's code and data like that.
            libc::SYS_mprotect if protection == 0 => Self::Map,
            number if processor::only_maps(number, first) => Self::Map,
            number if processor::readies(number) => Self::Link,
            libc::SYS_mmap
            | libc::SYS_munmap
            | libc::SYS_brk
            | libc::SYS_openat
            | libc::SYS_close
            | libc::SYS_read
            | libc::SYS_pread64
            | libc::SYS_lseek
            | libc::SYS_fcntl
            | libc::SYS_fstat
            | libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_faccessat
            | libc::SYS_faccessat2
            | libc::SYS_readlinkat
            | libc::SYS_getcwd
            | libc::SYS_uname => Self::Map,
            libc::SYS_mprotect
            | libc::SYS_set_tid_address
            | libc::SYS_set_robust_list
            | libc::SYS_rseq
            | libc::SYS_prlimit64
            | libc::SYS_madvise
            | libc::SYS_futex
            | libc::SYS_getrandom => Self::Link,
            _ => Self::Program,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKER: Range<u64> = 0x1000..0x2000;
    const INSIDE: u64 = 0x1800;
    const HOLD: Step = Step {
        hold: true,
        look_on: true,
    };
    const ON: Step = Step {
        hold: false,
        look_on: true,
    };
    const END: Step = Step {
        hold: false,
        look_on: false,
    };
    const HOLD_AND_END: Step = Step {
        hold: true,
        look_on: false,
    };

    fn call(instruction: u64, number: i64, arguments: [u64; 4]) -> Option<Call> {
        let [a, b, c, d] = arguments;
        Some(Call {
            arch: ARCH_64_BIT,
            instruction,
            number: number.cast_unsigned(),
            arguments: [a, b, c, d, 0, 0],
        })
    }

    fn run(calls: &[(Option<Call>, Step)]) {
        let mut loading = Loading::new(LINKER);
        for (at, (call, expected)) in calls.iter().enumerate() {
            assert_eq!(loading.step(*call), *expected, "call {at}: {call:?}");
        }
    }

    /// One hold for all libraries, once the last is mapped; another for those that come after.
    #[test]
    fn glibc() {
        let code = [0, 4096, 5, 0x802];
        run(&[
            (None, ON),
            (call(INSIDE, libc::SYS_brk, [0; 4]), ON),
            (None, ON),
            (call(INSIDE, libc::SYS_arch_prctl, [0x3001, 0, 0, 0]), ON),
            (call(INSIDE, libc::SYS_openat, [0; 4]), ON),
            (call(INSIDE, libc::SYS_mmap, code), ON),
            (call(INSIDE, libc::SYS_mprotect, [0; 4]), ON),
            (call(INSIDE, libc::SYS_mmap, code), ON),
            (None, ON),
            (call(INSIDE, libc::SYS_arch_prctl, [0x1002, 0, 0, 0]), HOLD),
            (None, ON),
            (call(INSIDE, libc::SYS_mprotect, [0, 4096, 1, 0]), ON),
            (call(INSIDE, libc::SYS_mmap, code), ON),
            (call(INSIDE, libc::SYS_mprotect, [0, 4096, 1, 0]), HOLD),
            (call(0x9000, libc::SYS_prlimit64, [0; 4]), END),
        ]);
    }

    /// What is mapped is told of before the program runs, whatever the linker does not call.
    #[test]
    fn beginnings() {
        run(&[(call(0x9000, libc::SYS_mmap, [0; 4]), HOLD_AND_END)]);
        run(&[(call(INSIDE, libc::SYS_write, [0; 4]), HOLD_AND_END)]);
        run(&[(call(INSIDE, -1, [0; 4]), HOLD_AND_END)]);
        let foreign = call(INSIDE, libc::SYS_brk, [0; 4]).map(|call| Call {
            arch: 0x4000_0003,
            ..call
        });
        run(&[(foreign, HOLD_AND_END)]);
    }

    /// A program that goes on like a linker is left alone in the end.
    #[test]
    fn patience() {
        let mut loading = Loading::new(LINKER);
        let brk = call(INSIDE, libc::SYS_brk, [0; 4]);
        assert!((1..STOPS_MAX).all(|_| loading.step(brk) == ON));
        assert_eq!(loading.step(brk), HOLD_AND_END);
    }

    /// Images of 32 bits are told from those of 64, and those with a linker from those without.
    #[test]
    fn auxiliary_vectors() {
        let of_64 = |pairs: &[(u64, u64)]| -> Vec<u8> {
            let words = pairs.iter().flat_map(|(key, value)| [*key, *value]);
            words.flat_map(u64::to_ne_bytes).collect()
        };
        let linked = of_64(&[(6, 4096), (7, 0x7f00), (9, 0x5500), (0, 0)]);
        assert_eq!(linker_base(&linked), Some(Some(0x7f00)));
        assert_eq!(linker_base(&of_64(&[(7, 0), (9, 0x5500)])), Some(None));
        assert_eq!(linker_base(&of_64(&[(9, 0x5500)])), Some(None));
        let of_32: Vec<u8> = [6_u32, 4096, 9, 0x5500, 7, 0xf700, 11, 0, 0, 0]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        assert_eq!(linker_base(&of_32), None);
        assert_eq!(linker_base(&[1, 2, 3]), None);
    }
}
