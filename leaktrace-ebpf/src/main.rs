//! Owns the BPF object: its programs' attributes and its licence.
//! Must not know what the probes do; each program is a few lines that call the module that does.
//!
//! Every probe exists twice: for `uprobe_multi` links (Linux 6.6 and later) and for links on perf
//! events. The agent loads one set.

#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "core::sync::atomic has no exchange for BPF"
)]
#![feature(core_intrinsics)]

mod count;
mod early;
mod emit;
mod go;
mod lifecycle;
mod maps;
mod native;
mod oracle;
mod own_stack;
mod registers;
mod sampling;
mod scratch;
mod stack;
mod unwind;

use aya_ebpf::{
    macros::{tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext, TracePointContext},
};

#[uprobe(multi)]
pub fn native_enter_multi(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    native::enter(&ctx)
}

#[uretprobe(multi)]
pub fn native_exit_multi(ctx: RetProbeContext) -> u32 {
    own_stack::keep(&ctx);
    native::exit(&ctx)
}

#[uprobe]
pub fn native_enter(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    native::enter(&ctx)
}

#[uretprobe]
pub fn native_exit(ctx: RetProbeContext) -> u32 {
    own_stack::keep(&ctx);
    native::exit(&ctx)
}

#[uprobe(multi)]
pub fn go_alloc_multi(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    go::alloc(&ctx)
}

#[uprobe(multi)]
pub fn go_sweep_multi(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    go::sweep(&ctx)
}

#[uprobe(multi)]
pub fn go_refill_multi(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    go::refill(&ctx)
}

#[uprobe]
pub fn go_refill(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    go::refill(&ctx)
}

#[uprobe]
pub fn go_alloc(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    go::alloc(&ctx)
}

#[uprobe]
pub fn go_sweep(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    go::sweep(&ctx)
}

#[uprobe(multi)]
pub fn native_return_multi(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    native::ret(&ctx)
}

#[uprobe]
pub fn native_return(ctx: ProbeContext) -> u32 {
    own_stack::keep(&ctx);
    native::ret(&ctx)
}

/// The floor of every cost figure: a probe that does nothing.
#[uprobe(multi)]
pub fn empty_enter_multi(_ctx: ProbeContext) -> u32 {
    0
}

/// The floor of every cost figure: a return probe that does nothing.
#[uretprobe(multi)]
pub fn empty_exit_multi(_ctx: RetProbeContext) -> u32 {
    0
}

#[tracepoint]
pub fn process_fork(ctx: TracePointContext) -> u32 {
    lifecycle::fork(&ctx)
}

#[tracepoint]
pub fn process_exec(ctx: TracePointContext) -> u32 {
    lifecycle::exec(&ctx)
}

#[tracepoint]
pub fn process_exit(ctx: TracePointContext) -> u32 {
    lifecycle::exit(&ctx)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
