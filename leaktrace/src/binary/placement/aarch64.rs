//! Owns what the kernel does with a probed instruction of aarch64, and where a function is probed there.
//! Must not know how x86-64 does it.
//!
//! Instructions are four bytes each, so that every fourth byte is a boundary. A return probe replaces x30, which
//! only the entry is sure to have, and most functions save it at once: so the entry is probed, or nothing.

use super::{CostClass, FunctionCode, Placement};

/// Hints that may be stepped: `nop`, those that sign or strip x30, and landing pads (`bti`).
const STEPPABLE_HINTS: [u32; 12] = [0, 7, 8, 10, 24, 25, 26, 27, 32, 34, 36, 38];

/// How the kernel would run an instruction; `None` where it refuses a probe.
///
/// <https://github.com/torvalds/linux/blob/v6.12/arch/arm64/kernel/probes/decode-insn.c>: what reads or writes the program counter is
/// emulated or refused, exclusives and system calls are refused, and the rest is stepped out of line.
pub(crate) fn cost_class(word: u32) -> Option<CostClass> {
    let is = |mask: u32, value: u32| word & mask == value;
    let is_emulated = is(0x7c00_0000, 0x1400_0000) // b, bl
        || is(0xff00_0010, 0x5400_0000) // b.cond
        || is(0x7e00_0000, 0x3400_0000) // cbz, cbnz
        || is(0x7e00_0000, 0x3600_0000) // tbz, tbnz
        || is(0x1f00_0000, 0x1000_0000) // adr, adrp
        || is(0xffff_fc1f, 0xd61f_0000) // br
        || is(0xffff_fc1f, 0xd63f_0000) // blr
        || is(0xffff_fc1f, 0xd65f_0000); // ret
    if is_emulated {
        return Some(CostClass::Emulated);
    }
    let is_refused = is(0x3b00_0000, 0x1800_0000) // loads relative to the program counter
        || is(0x3f00_0000, 0x0800_0000) // exclusives
        || is(0xff00_0000, 0xd400_0000) // system calls, breakpoints
        || is(0xfe00_0000, 0xd600_0000) // other branches to registers: signed ones, eret
        || is(0xfff8_f01f, 0xd500_401f) // msr of a number
        || is(0xfff0_0000, 0xd510_0000) // msr of a register
        || is(0xffff_0000, 0); // no instruction
    let hint = (word >> 5) & 0x7f;
    let is_hint = is(0xffff_f01f, 0xd503_201f);
    let steps = !is_refused && (!is_hint || STEPPABLE_HINTS.contains(&hint));
    steps.then_some(CostClass::Stepped)
}

/// The entry of a function, and whether it may be probed.
pub(super) fn choose(function: FunctionCode<'_>) -> Placement {
    let word = function
        .bytes
        .first_chunk()
        .map(|it| u32::from_le_bytes(*it));
    let class = word.and_then(cost_class);
    Placement {
        offset: 0,
        class: class.unwrap_or(CostClass::Stepped),
        instruction: word.map_or_else(|| String::from("(bad)"), |it| format!(".inst {it:#010x}")),
        why: String::from("the entry, which alone is sure to have the return address in x30"),
        hazard: class
            .is_none()
            .then_some("the kernel refuses a probe on the entry"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::placement::Extent;

    /// What compilers begin functions with, as the kernel sorts it.
    #[test]
    fn entries() {
        use CostClass::{Emulated, Stepped};
        for (word, expected) in [
            (0xb400_0880, Some(Emulated)), // cbz x0: glibc's free
            (0xa9bc_7bfd, Some(Stepped)),  // stp x29, x30, [sp, #-64]!: glibc's malloc
            (0xd503_233f, Some(Stepped)),  // paciasp
            (0xd503_245f, Some(Stepped)),  // bti c
            (0xd503_201f, Some(Stepped)),  // nop
            (0x1400_0000, Some(Emulated)), // b
            (0x9400_0001, Some(Emulated)), // bl
            (0xd000_08a3, Some(Emulated)), // adrp x3
            (0xd65f_03c0, Some(Emulated)), // ret
            (0x5400_0041, Some(Emulated)), // b.ne
            (0x3707_0000, Some(Emulated)), // tbnz w0
            (0xd503_3bbf, Some(Stepped)),  // dmb ish
            (0xd503_203f, None),           // yield
            (0xd65f_0bff, None),           // retaa
            (0x5800_0041, None),           // ldr x1, literal
            (0xc85f_7c20, None),           // ldxr
            (0xd400_0001, None),           // svc
            (0xd420_0000, None),           // brk
            (0, None),
        ] {
            assert_eq!(cost_class(word), expected, "{word:#010x}");
        }
    }

    /// The entry is chosen where the kernel takes a probe there; what ends before an instruction does is refused.
    #[test]
    fn choices() {
        let at = |bytes: &'static [u8]| {
            choose(FunctionCode {
                bytes,
                svma: 0x8_ee50,
                extent: Extent::Whole,
            })
        };
        let malloc = at(&[0xfd, 0x7b, 0xbc, 0xa9, 0xfd, 0x03, 0x00, 0x91]);
        assert_eq!((malloc.offset, malloc.hazard), (0, None));
        assert_eq!(malloc.instruction, ".inst 0xa9bc7bfd");
        assert!(at(&[0x20, 0x7c, 0x5f, 0xc8]).hazard.is_some());
        assert!(at(&[0xfd, 0x7b]).hazard.is_some());
    }
}
