//! Owns what the kernel does with a probed instruction, told from the instruction's bytes.
//! Must not know functions or which of their instructions is probed.

/// The page size; the kernel does not rewrite a nop that crosses a page.
const PAGE_BYTES: u64 = 4096;

/// How the kernel runs the probed instruction, which is most of what a probe costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostClass {
    /// Emulated by every kernel from 5.10 on.
    Emulated,
    /// A 5-byte nop: single-stepped before 6.18, a system call on 6.18 (the cheapest of all);
    /// kernels under development emulate it and rewrite a 10-byte nop instead.
    Nop5,
    /// Single-stepped out of line.
    Stepped,
}

/// How the kernel would run an instruction.
///
/// Only forms without prefix count as emulated (but for `push r8` to `r15`): with prefixes, the
/// kernel emulates some, steps others and refuses the rest, by version.
/// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/kernel/uprobes.c>, `branch_setup_xol_ops`
/// and `push_setup_xol_ops`; the nop: v6.18, `can_optimize`.
pub(crate) fn cost_class(bytes: &[u8], svma: u64) -> CostClass {
    match bytes {
        // nop; push r64; push r8 to r15.
        [0x90] | [0x50..=0x57] | [0x41, 0x50..=0x57] => CostClass::Emulated,
        // jmp rel8; jcc rel8; jcc rel32; jmp and call rel32.
        [0xeb | 0x70..=0x7f, _] | [0x0f, 0x80..=0x8f, _, _, _, _] | [0xe8 | 0xe9, _, _, _, _] => {
            CostClass::Emulated
        }
        [0x0f, 0x1f, 0x44, 0x00, 0x00] if svma % PAGE_BYTES <= PAGE_BYTES - 5 => CostClass::Nop5,
        _ => CostClass::Stepped,
    }
}

/// Entries that the kernel would run wrongly, or that are no code of the function's own.
pub(super) fn hazard(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xcc | 0xf1, ..] | [0xcd, ..] => Some("the entry is a breakpoint"),
        // The kernel looks at the opcode 0x90 alone and takes `xchg r8, rax` for a nop.
        [0x41 | 0x43 | 0x45 | 0x47 | 0x49 | 0x4b | 0x4d | 0x4f, 0x90] => {
            Some("the kernel would skip the entry, xchg with r8, as if it were a nop")
        }
        _ => None,
    }
}
