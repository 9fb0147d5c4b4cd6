//! Owns the time between fork and exec of a launched command.
//! Must not know that anybody traces it.

use std::{
    ffi::{CString, OsString},
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    os::{fd::RawFd, unix::ffi::OsStrExt as _},
    ptr,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{SigHandler, SigSet, Signal, raise, signal},
    unistd::{ForkResult, Pid, close, fork as fork_process, pause},
};

/// A program and its arguments, as exec wants them.
pub(super) struct Program {
    arguments: Vec<CString>,
}

impl Program {
    /// Takes a command line apart; the first word is the program.
    pub(super) fn new(command: &[OsString]) -> Result<Self> {
        let arguments: Vec<CString> = command
            .iter()
            .map(|argument| CString::new(argument.as_bytes()))
            .collect::<Result<_, _>>()
            .context("the command holds a NUL byte")?;
        arguments.first().context("no command after `--`")?;
        Ok(Self { arguments })
    }

    /// The program as it was given.
    pub(super) fn name(&self) -> String {
        self.arguments[0].to_string_lossy().into_owned()
    }
}

/// Forks a child that executes the program once a byte arrives on `go`, and
/// writes the error number to `failure` if it cannot. `agents_end` is the
/// writing end of `go`.
pub(super) fn fork(
    program: &Program,
    go: PipeReader,
    failure: PipeWriter,
    agents_end: RawFd,
) -> nix::Result<Pid> {
    let mut pointers: Vec<*const libc::c_char> = program
        .arguments
        .iter()
        .map(|argument| argument.as_ptr())
        .collect();
    pointers.push(ptr::null());
    // SAFETY: other threads may hold any lock at this moment, so the child must
    // only make async-signal-safe calls: `wait_and_execute` makes system calls
    // and `execvp`, on memory that was allocated before.
    match unsafe { fork_process() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => wait_and_execute(&pointers, go, failure, agents_end),
    }
}

/// The child's whole life as a copy of the agent.
fn wait_and_execute(
    arguments: &[*const libc::c_char],
    mut go: PipeReader,
    mut failure: PipeWriter,
    agents_end: RawFd,
) -> ! {
    // With this copy open, the agent's death would never end the read below.
    let _ = close(agents_end);
    if go.read_exact(&mut [0]).is_ok() {
        // The Rust runtime ignores SIGPIPE, and exec keeps what is ignored and
        // what is blocked.
        // SAFETY: the default disposition runs no code of ours.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
        let _ = SigSet::empty().thread_set_mask();
        // SAFETY: the array ends with a null pointer and each string with a NUL,
        // and both live until the memory is replaced.
        unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
        let _ = failure.write_all(&Errno::last_raw().to_ne_bytes());
    }
    // Nothing of the agent's may run here, also not what `exit` would run.
    loop {
        let _ = raise(Signal::SIGKILL);
        pause();
    }
}
