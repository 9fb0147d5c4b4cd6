//! Owns the probes that follow processes: made, given a new image, gone.
//! Must not know what the agent does about it.
//!
//! Their records share the ring with allocations, so that the agent sees a fork or an exec at its
//! place among them.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_get_current_uid_gid},
    programs::TracePointContext,
};
use leaktrace_common::{
    counter::Counter,
    event::{Fork, Header, Image, Kind},
};

use crate::{
    count, early, emit,
    maps::{CODE_REFS, CONFIG, IMAGES, THREADS},
    sampling,
};

/// `CLONE_THREAD` of include/uapi/linux/sched.h: a thread, not a process.
const CLONE_THREAD: u64 = 0x0001_0000;

/// hook: tracepoint `task:task_newtask`, in the parent, after the memory was copied and before the
/// child runs.
#[inline(always)]
pub fn fork(ctx: &TracePointContext) -> u32 {
    let config = CONFIG.load();
    // SAFETY: the helper checks the address; the offset is the one of this kernel's format file.
    let flags = unsafe { ctx.read_at::<u64>(config.newtask_flags_offset as usize) };
    // SAFETY: the helper checks the address; the offset is the one of this kernel's format file.
    let child = unsafe { ctx.read_at::<u32>(config.newtask_pid_offset as usize) };
    let (Ok(clone_flags), Ok(child_tgid)) = (flags, child) else {
        count::bump(0, Counter::LifecycleLost);
        return 0;
    };
    if clone_flags & CLONE_THREAD != 0 {
        return 0;
    }
    let tgid = current_tgid();
    sampling::inherit(tgid, child_tgid, &config);
    // The child's code is its parent's, so that its stacks are whole from its first allocation.
    // SAFETY: the value is copied at once.
    if let Some(code) = unsafe { CODE_REFS.get(&tgid) }.copied() {
        // Without it the child is walked by frame pointers until the agent sees to it.
        let _ = CODE_REFS.insert(&child_tgid, &code, 0);
    }
    early::inherit(tgid, child_tgid);
    let record = Fork {
        header: Header {
            kind: Kind::Fork as u8,
            call: 0,
            flags: 0,
            tgid,
        },
        child_tgid,
        uid: current_uid(),
        time_ns: emit::now_ns(),
        clone_flags,
    };
    if !emit::urgent_record(record) {
        count::bump(child_tgid, Counter::LifecycleLost);
    }
    0
}

/// hook: tracepoint `sched:sched_process_exec`, in the process, when its new image is in place.
#[inline(always)]
pub fn exec(_ctx: &TracePointContext) -> u32 {
    let thread_id = bpf_get_current_pid_tgid();
    let tgid = (thread_id >> 32) as u32;
    // SAFETY: the value is copied at once; the element is only removed when the process ends.
    let image = unsafe { IMAGES.get(&tgid) }
        .copied()
        .unwrap_or(0)
        .wrapping_add(1);
    // A table that is full leaves stacks of the old and the new image under one id at worst where
    // their addresses are equal, and address randomization makes them differ.
    let _ = IMAGES.insert(&tgid, &image, 0);
    let _ = THREADS.remove(&thread_id);
    sampling::forget(tgid, &CONFIG.load());
    // The agent tells the new image's code as soon as it has seen it mapped.
    let _ = CODE_REFS.remove(&tgid);
    early::welcome(tgid);
    if !emit::urgent_record(image_record(Kind::Exec, tgid)) {
        count::bump(tgid, Counter::LifecycleLost);
    }
    0
}

/// hook: tracepoint `sched:sched_process_exit`, in each thread that ends.
#[inline(always)]
pub fn exit(ctx: &TracePointContext) -> u32 {
    let thread_id = bpf_get_current_pid_tgid();
    let tgid = (thread_id >> 32) as u32;
    // Most threads of a host have no entry.
    let _ = THREADS.remove(&thread_id);
    let offset = CONFIG.load().exit_group_dead_offset;
    let is_last = if offset == 0 {
        tgid == thread_id as u32
    } else {
        // SAFETY: the helper checks the address; the offset is the one of the format file.
        unsafe { ctx.read_at::<u8>(offset as usize) }.unwrap_or(1) != 0
    };
    if !is_last {
        return 0;
    }
    let _ = IMAGES.remove(&tgid);
    sampling::forget(tgid, &CONFIG.load());
    let _ = CODE_REFS.remove(&tgid);
    early::forget(tgid);
    if !emit::urgent_record(image_record(Kind::Exit, tgid)) {
        count::bump(tgid, Counter::LifecycleLost);
    }
    0
}

#[inline(always)]
fn image_record(kind: Kind, tgid: u32) -> Image {
    Image {
        header: Header {
            kind: kind as u8,
            call: 0,
            flags: 0,
            tgid,
        },
        time_ns: emit::now_ns(),
        uid: current_uid(),
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    }
}

#[inline(always)]
fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn current_uid() -> u32 {
    // SAFETY: the helper has no arguments and no preconditions; the uid is the lower half.
    unsafe { bpf_get_current_uid_gid() as u32 }
}
