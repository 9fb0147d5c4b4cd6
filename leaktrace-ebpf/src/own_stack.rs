//! Owns that a program keeps to the stack of the task in which it runs.
//! Must not know what the programs do.
//!
//! From 6.13 on the kernel gives programs of this type that need 64 bytes or more a stack of their own, one for each CPU, as
//! nothing of theirs interrupts them elsewhere. A user probe can be preempted, though, and then another task's runs on the same CPU: both
//! wrote to one stack, which cost events and made the kernel itself follow a bad pointer (seen on 7.2, `PREEMPT(lazy)`). Programs that
//! may go on in another program are given none.
//! <https://github.com/torvalds/linux/blob/v6.13/kernel/bpf/verifier.c>, `check_max_stack_depth`

use aya_ebpf::EbpfContext;

use crate::maps::{CONFIG, NOWHERE};

/// Says that the program may go on in another, which it never does: an agent always has a pid.
#[inline(always)]
pub fn keep<C: EbpfContext>(ctx: &C) {
    if CONFIG.load().agent_tgid == 0 {
        // SAFETY: the helper takes the program's own context, and the table is empty.
        unsafe { NOWHERE.tail_call(ctx, 0) };
    }
}
