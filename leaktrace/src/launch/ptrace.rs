//! Owns the raw calls: waiting for any tracee, and letting one go with any signal.
//! Must not know what a stop means to the launcher.
//!
//! nix has both, but its `Signal` knows no real-time signal: the stop would be
//! taken from the kernel and then lost in an error.

use std::ptr;

use nix::{
    Result,
    errno::Errno,
    libc,
    sys::ptrace::{getevent, syscall_info},
    unistd::Pid,
};

use super::loading::Call;

/// `PTRACE_O_TRACESYSGOOD` makes stops at system calls unlike any signal.
const CALL_SIGNAL: i32 = libc::SIGTRAP | 0x80;

/// What the kernel tells about one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It ended; the status is `waitpid`'s.
    Ended(i32),
    /// It is about to receive a signal.
    Signal(i32),
    /// Its process was stopped by a signal and waits for SIGCONT.
    GroupStop,
    /// It stopped for us: at its birth, or because a group stop has ended.
    Trap,
    /// It made a thread or a process.
    Made {
        /// By vfork or posix_spawn.
        vfork: bool,
    },
    /// It executed another program.
    Executed,
    /// It enters or leaves a system call.
    Call,
    /// Anything else: nothing that was asked for.
    Other,
}

/// Takes the next change of a child or tracee of this thread, if there is one.
///
/// # Errors
///
/// `ECHILD` where nothing is left to wait for.
pub(super) fn next_change() -> Result<Option<(Pid, Change)>> {
    let mut status = 0;
    // `__WNOTHREAD`: other threads' children are theirs to wait for.
    let flags = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
    // SAFETY: the kernel writes one integer, to one that lives through the call.
    let tid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    match Errno::result(tid)? {
        0 => Ok(None),
        tid => Ok(Some((Pid::from_raw(tid), decode(status)))),
    }
}

fn decode(status: i32) -> Change {
    if !libc::WIFSTOPPED(status) {
        return if libc::WIFCONTINUED(status) {
            Change::Other
        } else {
            Change::Ended(status)
        };
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == CALL_SIGNAL => Change::Call,
        0 => Change::Signal(signal),
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Change::Trap,
        libc::PTRACE_EVENT_STOP => Change::GroupStop,
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_CLONE => Change::Made { vfork: false },
        libc::PTRACE_EVENT_VFORK => Change::Made { vfork: true },
        libc::PTRACE_EVENT_EXEC => Change::Executed,
        _ => Change::Other,
    }
}

/// The id that comes with `Made` (the new thread) and `Executed` (the caller's
/// id before).
pub(super) fn message(tid: Pid) -> Option<Pid> {
    getevent(tid)
        .ok()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw)
}

/// The system call that a stopped thread enters; nothing where it leaves one.
pub(super) fn entered_call(tid: Pid) -> Option<Call> {
    let info = syscall_info(tid).ok()?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says that this is the part that the kernel filled in.
    let entry = unsafe { info.u.entry };
    Some(Call {
        arch: info.arch,
        instruction: info.instruction_pointer,
        number: entry.nr,
        arguments: entry.args,
    })
}

/// Lets a stopped thread run up to its next system call, with a signal unless
/// that is 0. The kernel takes that back when we detach or die.
pub(super) fn resume_to_call(tid: Pid, signal: i32) {
    request(libc::PTRACE_SYSCALL, tid, signal);
}

/// Lets a stopped thread run, with a signal unless that is 0.
pub(super) fn resume(tid: Pid, signal: i32) {
    request(libc::PTRACE_CONT, tid, signal);
}

/// Leaves a thread in its group stop, but lets SIGCONT end it.
pub(super) fn listen(tid: Pid) {
    request(libc::PTRACE_LISTEN, tid, 0);
}

fn request(request: libc::c_uint, tid: Pid, signal: i32) {
    let data = ptr::without_provenance_mut::<libc::c_void>(signal.cast_unsigned() as usize);
    // SAFETY: none of the requests reads or writes memory of ours: the address is
    // unused and the last argument is a signal number. The only error is that a
    // SIGKILL came first, and the thread's end will be reported.
    unsafe { libc::ptrace(request, tid.as_raw(), ptr::null_mut::<libc::c_void>(), data) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(signal: i32, event: i32) -> i32 {
        (event << 16) | (signal << 8) | 0x7f
    }

    /// Each status that wait reports has its meaning, real-time signals too.
    #[test]
    fn statuses() {
        let cases = [
            (0, Change::Ended(0)),
            (3 << 8, Change::Ended(3 << 8)),
            (libc::SIGKILL, Change::Ended(libc::SIGKILL)),
            (stopped(libc::SIGUSR1, 0), Change::Signal(libc::SIGUSR1)),
            (stopped(libc::SIGTRAP, 0), Change::Signal(libc::SIGTRAP)),
            (stopped(63, 0), Change::Signal(63)),
            (stopped(libc::SIGTRAP | 0x80, 0), Change::Call),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_STOP),
                Change::Trap,
            ),
            (
                stopped(libc::SIGTSTP, libc::PTRACE_EVENT_STOP),
                Change::GroupStop,
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_FORK),
                Change::Made { vfork: false },
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_CLONE),
                Change::Made { vfork: false },
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_VFORK),
                Change::Made { vfork: true },
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_EXEC),
                Change::Executed,
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_EXIT),
                Change::Other,
            ),
            (0xffff, Change::Other),
        ];
        for (status, expected) in cases {
            assert_eq!(decode(status), expected, "{status:#x}");
        }
    }
}
