//! Owns what an unwind table means: its rules, their layout on the wire, and the step to the caller.
//! Must not know where tables come from, how rows are looked up, or how memory is read.
//!
//! The probes and the agent's own walk run this very step, so that a test of one is a test of both.
//! Only x86-64; DWARF registers 6 (rbp), 7 (rsp) and 16 (the return address) are followed, because
//! no rule of a frame that is calling needs any other.

use core::mem::{align_of, offset_of, size_of};

/// How to get from a frame to its caller: what one row of a table says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Rule {
    /// Where the canonical frame address (CFA) is: one of `cfa`.
    pub cfa: u8,
    /// Where the caller's rbp is: one of `rbp`.
    pub rbp: u8,
    /// Bytes that belong to `rbp`.
    pub rbp_offset: i16,
    /// Bytes that belong to `cfa`; for `cfa::DEREF_*` two offsets in one, see `pack_deref`.
    pub cfa_offset: i32,
}

const _: () = assert!(size_of::<Rule>() == 8 && align_of::<Rule>() == 4);
const _: () = assert!(offset_of!(Rule, rbp_offset) == 2 && offset_of!(Rule, cfa_offset) == 4);

/// Values of `Rule::cfa`. The CFA is the caller's rsp, and its return address lies 8 bytes below.
pub mod cfa {
    /// No row: step by frame pointer. Code of JITs and Go, which keep one.
    pub const NONE: u8 = 0;
    /// CFA = rsp + offset
    pub const RSP: u8 = 1;
    /// CFA = rbp + offset
    pub const RBP: u8 = 2;
    /// CFA = rsp + 8, and 8 more where the low four bits of the address reach the offset: what
    /// linkers write for the 16-byte entries of a PLT, which push one word half way.
    pub const PLT: u8 = 3;
    /// CFA = *(rsp + inner) + added: code that aligns the stack and saves the old rsp on it.
    pub const DEREF_RSP: u8 = 4;
    /// CFA = *(rbp + inner) + added: the same by compilers.
    pub const DEREF_RBP: u8 = 5;
    /// The return address is undefined: the first function of a thread.
    pub const END: u8 = 6;
    /// There is a row, but this format cannot hold it.
    pub const BAD: u8 = 7;
    /// What the kernel pushes to run a signal handler; the registers lie at `SIGNAL_*`.
    pub const SIGNAL: u8 = 8;
}

/// Values of `Rule::rbp`.
pub mod rbp {
    /// As it is.
    pub const SAME: u8 = 0;
    /// At CFA + offset.
    pub const CFA_OFFSET: u8 = 1;
    /// At the callee's rbp + offset.
    pub const RBP_OFFSET: u8 = 2;
    /// At the callee's rsp + offset.
    pub const RSP_OFFSET: u8 = 3;
}

/// What became of a step. 0 goes on, all others end the walk; the numbers are on the wire.
pub mod outcome {
    /// The registers are the caller's now.
    pub const CONTINUE: u32 = 0;
    /// There is no caller: the stack is complete.
    pub const ROOT: u32 = 1;
    /// The rule is `cfa::BAD` or unknown.
    pub const BAD_RULE: u32 = 2;
    /// The memory that the rule points at cannot be read.
    pub const UNREADABLE: u32 = 3;
    /// No row, and rbp is no frame pointer either.
    pub const NO_FRAME_POINTER: u32 = 4;
}

/// How many rules there can be: their ids are 16 bits. Every ELF file of a Debian 12 with compilers
/// and servers on it needs 4 400 together.
pub const RULES_MAX: usize = 65_536;

/// The id of `Rule::NONE`, also for addresses that no row covers.
pub const RULE_ID_NONE: u16 = 0;

/// The id of `Rule::BAD`, also for rules that found the dictionary full.
pub const RULE_ID_BAD: u16 = 1;

/// Where the kernel saves rbp, from rsp at `__restore_rt`: `uc_mcontext.rbp` of a `rt_sigframe`
/// whose return address has been popped.
/// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/uapi/asm/sigcontext.h>
pub const SIGNAL_RBP: i16 = 120;
/// Likewise rsp.
pub const SIGNAL_RSP: i16 = 160;
/// Likewise rip, the address of the interrupted instruction.
pub const SIGNAL_RIP: i64 = 168;

/// Nothing is mapped below (`vm.mmap_min_addr` is at least a page where it matters), so a smaller
/// return address is a mark that somebody put at the end of the stack.
const LOWEST_CODE: u64 = 4096;

impl Rule {
    /// No row.
    pub const NONE: Rule = Rule::new(cfa::NONE, 0, rbp::SAME, 0);
    /// A row beyond this format.
    pub const BAD: Rule = Rule::new(cfa::BAD, 0, rbp::SAME, 0);
    /// The end of the stack.
    pub const END: Rule = Rule::new(cfa::END, 0, rbp::SAME, 0);
    /// A signal frame.
    pub const SIGNAL: Rule = Rule::new(cfa::SIGNAL, 0, rbp::SAME, 0);
    /// The first instruction of any function, also of one that has no row.
    pub const ENTRY: Rule = Rule::new(cfa::RSP, 8, rbp::SAME, 0);
    /// What code that keeps a frame pointer does between prologue and epilogue.
    const FRAME_POINTER: Rule = Rule::new(cfa::RBP, 16, rbp::CFA_OFFSET, -16);
    /// `SIGNAL` spelled out, but for the return address.
    const SIGNAL_FRAME: Rule = Rule::new(
        cfa::DEREF_RSP,
        pack_deref(SIGNAL_RSP, 0),
        rbp::RSP_OFFSET,
        SIGNAL_RBP,
    );

    /// A rule from its parts.
    pub const fn new(cfa: u8, cfa_offset: i32, rbp: u8, rbp_offset: i16) -> Rule {
        Rule {
            cfa,
            rbp,
            rbp_offset,
            cfa_offset,
        }
    }
}

/// The two offsets of a `cfa::DEREF_*` in one word: `inner` before the read, `added` after it.
pub const fn pack_deref(inner: i16, added: i16) -> i32 {
    ((added as i32) << 16) | (inner as u16 as i32)
}

/// The offsets `(inner, added)` that `pack_deref` packed.
pub const fn unpack_deref(packed: i32) -> (i16, i16) {
    (packed as i16, (packed >> 16) as i16)
}

/// The registers that a walk follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// In the first frame the address of the next instruction. In all others the return address:
    /// the code that runs is at `rip - 1`, which rules are looked up with.
    pub rip: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The frame pointer, where the code keeps one.
    pub rbp: u64,
}

/// Goes from a frame to its caller by `rule`, the rule of the address `pc` (see `Registers::rip`).
///
/// `read` gives the 8 bytes at an address, `None` where nothing is mapped. Returns one of
/// `outcome`; the registers change only with `outcome::CONTINUE`. An interrupted instruction is no
/// return address, so one is added to look like one: `rip - 1` is right in every frame.
///
/// The rsp of a caller may lie below: goroutines call C on another stack. The walk must therefore
/// be bounded by its number of frames.
///
/// All kinds of frame share three reads, since each becomes code of its own in BPF.
#[inline(always)]
pub fn step(
    rule: Rule,
    pc: u64,
    registers: &mut Registers,
    mut read: impl FnMut(u64) -> Option<u64>,
) -> u32 {
    let Registers { rsp, rbp, .. } = *registers;
    let by_frame_pointer = rule.cfa == cfa::NONE;
    let interrupted = rule.cfa == cfa::SIGNAL;
    let mut rule = rule;
    if by_frame_pointer {
        if rbp == 0 {
            return outcome::ROOT;
        }
        // A frame pointer is where a push wrote; anything else saves a fault and a false frame.
        if rbp & 7 != 0 {
            return outcome::NO_FRAME_POINTER;
        }
        rule = Rule::FRAME_POINTER;
    } else if interrupted {
        rule = Rule::SIGNAL_FRAME;
    }
    let unreadable = if by_frame_pointer {
        outcome::NO_FRAME_POINTER
    } else {
        outcome::UNREADABLE
    };

    let mut frame = match rule.cfa {
        cfa::RSP => offset(rsp, rule.cfa_offset as i64),
        cfa::RBP => offset(rbp, rule.cfa_offset as i64),
        cfa::PLT => {
            let pushed = pc & 15 >= rule.cfa_offset as u64;
            offset(rsp, if pushed { 16 } else { 8 })
        }
        cfa::DEREF_RSP => offset(rsp, unpack_deref(rule.cfa_offset).0 as i64),
        cfa::DEREF_RBP => offset(rbp, unpack_deref(rule.cfa_offset).0 as i64),
        cfa::END => return outcome::ROOT,
        _ => return outcome::BAD_RULE,
    };
    if rule.cfa == cfa::DEREF_RSP || rule.cfa == cfa::DEREF_RBP {
        let Some(saved) = read(frame) else {
            return unreadable;
        };
        frame = offset(saved, unpack_deref(rule.cfa_offset).1 as i64);
    }

    let return_slot = if interrupted {
        offset(rsp, SIGNAL_RIP)
    } else {
        offset(frame, -8)
    };
    let Some(return_address) = read(return_slot) else {
        return unreadable;
    };
    if return_address < LOWEST_CODE {
        return outcome::ROOT;
    }
    let mut caller_rbp = rbp;
    if rule.rbp != rbp::SAME {
        let base = match rule.rbp {
            rbp::CFA_OFFSET => frame,
            rbp::RBP_OFFSET => rbp,
            _ => rsp,
        };
        let Some(saved) = read(offset(base, rule.rbp_offset as i64)) else {
            return unreadable;
        };
        caller_rbp = saved;
    }
    // A chain that points at itself would fill the stack with one frame.
    if by_frame_pointer && caller_rbp == rbp {
        return outcome::NO_FRAME_POINTER;
    }
    registers.rip = return_address.wrapping_add(interrupted as u64);
    registers.rsp = frame;
    registers.rbp = caller_rbp;
    outcome::CONTINUE
}

/// An address moved by signed bytes, around the end if it must be: hostile stacks hold anything.
#[inline(always)]
const fn offset(address: u64, bytes: i64) -> u64 {
    address.wrapping_add(bytes as u64)
}
