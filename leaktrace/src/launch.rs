//! Owns the command after `--`: started held back; its children held at birth, and their images
//! before they run, until answered for.
//! Must not know why anybody wants them held back.
//!
//! Probes are put into one process at a time, so a child must not run before
//! the agent has reached it. ptrace does that: one thread seizes the command
//! and, with it, everything that it starts; a new process stops before its
//! first instruction and is let go when the agent has answered its
//! [`Event::Born`], or after [`ANSWER_DEADLINE`], noted, so that a stuck
//! agent never hangs the program. A program that was executed is held likewise
//! when it and its libraries are mapped ([`Event::Entered`]). New threads are
//! let go at once, and every other stop is passed on as if nobody looked. What
//! the program can notice: `TracerPid` in its status, no other debugger can
//! attach, tens of microseconds for each thread, child and signal, and some
//! milliseconds for each exec.
//!
//! The command shares the agent's terminal and process group, as with `perf
//! record`: a Ctrl-C reaches both. The command is never killed with the agent:
//! when that goes, in whatever way, the kernel detaches and the program runs
//! on. The exception is a command that has not been let go yet, which ends
//! without having run.

mod child;
mod loading;
mod ptrace;
mod task;
mod tracer;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::AsRawFd as _,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{errno::Errno, sys::signal::Signal};
use tokio::sync::mpsc;

use child::Program;
use tracer::{Answers, Request, Tracer};

/// How long a new process waits for the agent: longer than it takes to go through the largest programs, whose
/// hundreds of megabytes may have to come from a slow disk first.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Events that the agent has not taken yet; beyond that, children are let go.
const EVENT_CAPACITY: usize = 1024;

/// What becomes of the command and of its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process was made and waits for [`Launch::resume`] before its first
    /// instruction.
    Born {
        /// The new process.
        pid: u32,
        /// The process that made it.
        parent: u32,
        /// It was made by vfork or posix_spawn: it runs in its parent's memory,
        /// and the parent waits, until it executes another program.
        vfork: bool,
    },
    /// A process executed a program and waits for [`Launch::resume`]: all that
    /// is mapped at its start is mapped, and none of the program's own code
    /// has run. It comes again where the dynamic linker maps more after that;
    /// it does not come for programs of 32 bits.
    Entered {
        /// The process.
        pid: u32,
    },
    /// The command itself ended; its children may live on, and are followed.
    Exited {
        /// The command.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
}

/// A command and all its descendants. Dropping it lets them run on, untraced.
#[derive(Debug)]
pub struct Launch {
    pid: u32,
    name: String,
    go: Option<PipeWriter>,
    failure: PipeReader,
    requests: mpsc::UnboundedSender<Request>,
    events: mpsc::Receiver<Event>,
    follows_children: bool,
    overdue: Overdue,
    thread: JoinHandle<()>,
}

/// Which processes were let go without an answer, until the agent asks; never more than there are pids.
#[derive(Clone, Debug, Default)]
struct Overdue(Arc<Mutex<BTreeSet<u32>>>);

impl Overdue {
    fn note(&self, pid: u32) {
        let mut pids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pids.insert(pid);
    }

    fn take(&self) -> BTreeSet<u32> {
        let mut pids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *pids)
    }
}

impl Launch {
    /// Makes the command's process, which waits before it executes anything.
    pub fn spawn(command: &[OsString]) -> Result<Self> {
        Self::spawn_with(command, ANSWER_DEADLINE)
    }

    fn spawn_with(command: &[OsString], deadline: Duration) -> Result<Self> {
        let program = Program::new(command)?;
        let name = program.name();
        let (go_read, go) = io::pipe().context("failed to make a pipe")?;
        let (failure, failure_write) = io::pipe().context("failed to make a pipe")?;
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
        let overdue = Overdue::default();
        let (ready_sender, ready) = blocking::channel();

        // ptrace belongs to a thread: fork, attach and wait must be the same one's.
        let answers = Answers {
            deadline,
            overdue: overdue.clone(),
        };
        let agents_end = go.as_raw_fd();
        let run = move || {
            let begun = Tracer::begin(event_sender, answers, || {
                child::fork(&program, go_read, failure_write, agents_end)
            });
            match begun {
                Ok((tracer, runtime)) => {
                    let _ = ready_sender.send(Ok((tracer.command(), tracer.follows_children())));
                    runtime.block_on(tracer.run(requests));
                }
                Err(error) => drop(ready_sender.send(Err(error))),
            }
        };
        let thread = thread::Builder::new()
            .name("leaktrace-ptrace".to_owned())
            .spawn(run)
            .context("failed to start the thread that follows the command")?;
        let (pid, follows_children) = ready
            .recv()
            .map_err(|_| anyhow!("the thread that follows the command has died"))?
            .with_context(|| format!("failed to start `{name}`"))?;
        Ok(Self {
            pid,
            name,
            go: Some(go),
            failure,
            requests: request_sender,
            events,
            follows_children,
            overdue,
            thread,
        })
    }

    /// The command's pid, from the start and through every exec.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether children are held at birth. Without the right to ptrace they
    /// start freely: the only event is [`Event::Exited`].
    pub fn follows_children(&self) -> bool {
        self.follows_children
    }

    /// Lets the command execute its program, and returns once it does.
    ///
    /// # Errors
    ///
    /// One line that names the command, where it cannot be executed.
    pub fn start(&mut self) -> Result<()> {
        let Some(mut go) = self.go.take() else {
            return Ok(());
        };
        let name = &self.name;
        go.write_all(&[1])
            .with_context(|| format!("`{name}` was killed before it started"))?;
        // The other end closes when the program is executed, or tells why not.
        let mut report = Vec::new();
        self.failure
            .read_to_end(&mut report)
            .context("failed to read from the command")?;
        let Ok(errno) = <[u8; 4]>::try_from(report.as_slice()) else {
            return Ok(());
        };
        match Errno::from_raw(i32::from_ne_bytes(errno)) {
            Errno::ENOENT if !name.contains('/') => bail!("`{name}`: command not found"),
            Errno::ENOENT => bail!("`{name}`: no such file, or its interpreter is missing"),
            errno => bail!("`{name}`: cannot be executed: {}", errno.desc()),
        }
    }

    /// What happens, in order; ends when nothing is left to follow.
    pub fn events(&mut self) -> &mut mpsc::Receiver<Event> {
        &mut self.events
    }

    /// Answers an [`Event::Born`] or [`Event::Entered`]: the process may run. Late or repeated
    /// answers do nothing.
    pub fn resume(&self, pid: u32) {
        // Without a receiver nothing is followed any more, so nothing waits.
        let _ = self.requests.send(Request::Resume(pid));
    }

    /// Sends a signal to the command, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = self.requests.send(Request::Signal(signal));
    }

    /// Kills the command; its children live on.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Which processes were let go without an answer since this was asked last: they ran before the agent
    /// was done with them.
    pub fn take_overdue(&self) -> BTreeSet<u32> {
        self.overdue.take()
    }

    /// Lets everything run on untraced, those that wait for an answer as well.
    /// The command's exit is then nobody's to report.
    pub fn detach_all(self) {
        let Self {
            requests, thread, ..
        } = self;
        // The end of the requests is the end of the thread, and the end of a
        // tracer detaches whatever it traces, stopped or not.
        drop(requests);
        // A panic there has been printed, and has detached as well.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests;
