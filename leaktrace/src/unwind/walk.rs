//! Owns walking a whole stack in the agent, by the step that the probes take.
//! Must not know where memory and tables come from.
//!
//! It is what the probes are compared with, and what tests of tables walk by.

use leaktrace_common::unwind::{Registers, Rule, outcome, step};

/// A stack, the innermost frame first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The address that runs, then return addresses (see `Registers::rip`).
    pub frames: Vec<u64>,
    /// Why it ends: one of `outcome`, `outcome::CONTINUE` where it was cut at the limit.
    pub outcome: u32,
}

/// Walks up to `frames_max` frames.
///
/// `lookup` gives the rule of an address that runs: in all frames but the first it is asked for
/// the return address minus one, because a call may be the last instruction of its function.
/// `read` gives the 8 bytes at an address.
pub fn walk(
    mut registers: Registers,
    frames_max: usize,
    mut lookup: impl FnMut(u64) -> Rule,
    mut read: impl FnMut(u64) -> Option<u64>,
) -> Walk {
    let mut frames = Vec::new();
    while frames.len() < frames_max {
        let pc = registers.rip.wrapping_sub(u64::from(!frames.is_empty()));
        frames.push(registers.rip);
        let outcome = step(lookup(pc), pc, &mut registers, &mut read);
        if outcome != outcome::CONTINUE {
            return Walk { frames, outcome };
        }
    }
    Walk {
        frames,
        outcome: outcome::CONTINUE,
    }
}
