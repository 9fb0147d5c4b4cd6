//! Owns the thread that traces a launched command: which thread stopped, and what lets it go on.
//! Must not know what the agent does with a process that is held.

use std::{
    collections::HashMap, io, os::unix::process::ExitStatusExt as _, process::ExitStatus,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{Options, seize},
        signal::{Signal, kill},
    },
    unistd::{Pid, gettid},
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    sync::mpsc::{Sender, UnboundedReceiver, error::TryRecvError, error::TrySendError},
    time::{Instant, sleep_until},
};

use super::{
    Event, Overdue,
    loading::{Image, Loading},
    ptrace::{self, Change},
    task::TaskStatus,
};

/// How long a child waits to be claimed by its parent, who is usually stopped
/// already: only a parent that was killed in between never does.
const CLAIM_DEADLINE: Duration = Duration::from_millis(100);

/// Changes taken before requests and deadlines get their turn.
const CHANGES_PER_TURN: usize = 256;

/// The thread looks by itself that often, should somebody else in the process
/// have taken SIGCHLD away.
const IDLE: Duration = Duration::from_secs(1);

/// What the agent wants.
#[derive(Debug)]
pub(super) enum Request {
    /// Let a process that is held run.
    Resume(u32),
    /// Send a signal to the command.
    Signal(Signal),
}

/// How long the agent may take for an answer, and who did not get one in time.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) deadline: Duration,
    pub(super) overdue: Overdue,
}

/// How a process came to be.
#[derive(Clone, Copy, Debug)]
struct Birth {
    parent: Pid,
    vfork: bool,
}

/// What the thread knows. Each new process is reported twice, in either order:
/// by its own first stop and by a stop of its parent, who goes on at once.
#[derive(Debug)]
pub(super) struct Tracer {
    command: Pid,
    follows_children: bool,
    /// Every thread that is traced, with its process.
    processes: HashMap<Pid, Pid>,
    /// Made according to their parents, not stopped yet.
    announced: HashMap<Pid, Birth>,
    /// Stopped, not claimed by a parent yet; with the end of the wait for it.
    unclaimed: HashMap<Pid, Instant>,
    /// Reported to the agent; with the end of the wait for its answer.
    held: HashMap<Pid, Instant>,
    /// Between an exec and the new program's own code.
    loading: HashMap<Pid, Loading>,
    events: Sender<Event>,
    answers: Answers,
    child_signals: SignalStream,
    ended: bool,
}

impl Tracer {
    /// Makes the command's process and seizes it. The thread that calls this
    /// must be the one that runs.
    pub(super) fn begin(
        events: Sender<Event>,
        answers: Answers,
        fork: impl FnOnce() -> nix::Result<Pid>,
    ) -> io::Result<(Self, Runtime)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let child_signals = {
            let _context = runtime.enter();
            signal(SignalKind::child())?
        };
        let command = fork()?;
        // A thread made by a thread that is not traced would be lost, and with
        // it the processes that it makes: that is why threads are traced at all.
        let options = Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACESYSGOOD;
        let follows_children = seize(command, options).is_ok();
        let tracer = Self {
            command,
            follows_children,
            processes: HashMap::from([(command, command)]),
            announced: HashMap::new(),
            unclaimed: HashMap::new(),
            held: HashMap::new(),
            loading: HashMap::new(),
            events,
            answers,
            child_signals,
            ended: false,
        };
        Ok((tracer, runtime))
    }

    /// The command's pid.
    pub(super) fn command(&self) -> u32 {
        self.command.as_raw().cast_unsigned()
    }

    /// Whether the kernel let us seize it.
    pub(super) fn follows_children(&self) -> bool {
        self.follows_children
    }

    /// Runs until nothing is left to trace or nobody is left to ask for it.
    pub(super) async fn run(mut self, mut requests: UnboundedReceiver<Request>) {
        loop {
            let more = match self.take_changes() {
                Ok(more) => more,
                // ECHILD: the command and all its descendants are gone.
                Err(_) => return,
            };
            loop {
                match requests.try_recv() {
                    Ok(request) => self.obey(&request),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.pass_deadlines(Instant::now());
            if more {
                continue;
            }
            let next = self.next_deadline();
            tokio::select! {
                _ = self.child_signals.recv() => {}
                () = sleep_until(next) => {}
                request = requests.recv() => match request {
                    Some(request) => self.obey(&request),
                    None => return,
                },
            }
        }
    }

    /// Handles what has happened; tells whether there may be more.
    fn take_changes(&mut self) -> nix::Result<bool> {
        for _ in 0..CHANGES_PER_TURN {
            match ptrace::next_change() {
                Ok(Some((tid, change))) => self.handle(tid, change),
                Ok(None) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn handle(&mut self, tid: Pid, change: Change) {
        if let Change::Ended(status) = change {
            self.forget(tid, status);
            return;
        }
        if !self.processes.contains_key(&tid) {
            self.first_stop(tid, change);
            return;
        }
        match change {
            Change::Made { vfork } => {
                if let (Some(child), Some(&parent)) =
                    (ptrace::message(tid), self.processes.get(&tid))
                {
                    self.announce(child, Birth { parent, vfork });
                }
                self.go_on(tid, 0);
            }
            Change::Executed => {
                // An exec by another thread gives it the id of the first one,
                // and its own id ends without a report.
                if let Some(former) = ptrace::message(tid).filter(|former| *former != tid) {
                    self.processes.remove(&former);
                }
                self.begin_image(tid);
            }
            Change::Call => self.pass_call(tid),
            Change::Signal(signal) => self.go_on(tid, signal),
            Change::GroupStop => ptrace::listen(tid),
            Change::Trap | Change::Other => self.go_on(tid, 0),
            Change::Ended(_) => {}
        }
    }

    /// Lets a thread that was known before run.
    fn go_on(&self, tid: Pid, signal: i32) {
        if self.loading.contains_key(&tid) {
            ptrace::resume_to_call(tid, signal);
        } else {
            ptrace::resume(tid, signal);
        }
    }

    /// A process stands at the end of its exec, before the new image runs.
    fn begin_image(&mut self, pid: Pid) {
        self.loading.remove(&pid);
        match Image::of(pid) {
            Some(Image::Linked(loading)) => {
                self.loading.insert(pid, loading);
                self.go_on(pid, 0);
            }
            Some(Image::Whole) => self.hold_image(pid),
            None => self.go_on(pid, 0),
        }
    }

    /// A process enters or leaves a system call of its dynamic linker.
    fn pass_call(&mut self, tid: Pid) {
        let Some(loading) = self.loading.get_mut(&tid) else {
            self.go_on(tid, 0);
            return;
        };
        let step = loading.step(ptrace::entered_call(tid));
        if !step.look_on {
            self.loading.remove(&tid);
        }
        if step.hold {
            self.hold_image(tid);
        } else {
            self.go_on(tid, 0);
        }
    }

    fn hold_image(&mut self, pid: Pid) {
        let event = Event::Entered {
            pid: pid.as_raw().cast_unsigned(),
        };
        self.hold(pid, event);
    }

    /// A thread or process stands before its first instruction.
    fn first_stop(&mut self, tid: Pid, change: Change) {
        let birth = self.announced.remove(&tid);
        let Some(status) = TaskStatus::read(tid) else {
            // It was killed; its end will be reported.
            ptrace::resume(tid, 0);
            return;
        };
        self.processes.insert(tid, status.process);
        if status.process != tid {
            // A thread shares its process's memory and thereby its probes.
            match change {
                Change::GroupStop => ptrace::listen(tid),
                _ => ptrace::resume(tid, 0),
            }
        } else if let Some(birth) = birth {
            self.hold_born(tid, birth);
        } else {
            self.unclaimed.insert(tid, Instant::now() + CLAIM_DEADLINE);
        }
    }

    /// A parent tells of its child.
    fn announce(&mut self, child: Pid, birth: Birth) {
        if self.unclaimed.remove(&child).is_some() {
            self.hold_born(child, birth);
        } else if !self.processes.contains_key(&child) {
            // Unless it was killed and reported already: nothing would remove it.
            let tracer = TaskStatus::read(child).map(|status| status.tracer);
            if tracer == Some(gettid()) {
                self.announced.insert(child, birth);
            }
        }
    }

    fn hold_born(&mut self, child: Pid, birth: Birth) {
        let event = Event::Born {
            pid: child.as_raw().cast_unsigned(),
            parent: birth.parent.as_raw().cast_unsigned(),
            vfork: birth.vfork,
        };
        self.hold(child, event);
    }

    /// Leaves a process stopped until the agent has answered.
    fn hold(&mut self, pid: Pid, event: Event) {
        // The last place is kept for the command's exit.
        let sent = if self.events.capacity() > 1 {
            self.events.try_send(event)
        } else {
            Err(TrySendError::Full(event))
        };
        match sent {
            Ok(()) => drop(
                self.held
                    .insert(pid, Instant::now() + self.answers.deadline),
            ),
            Err(_) => self.let_go_unanswered(pid),
        }
    }

    fn let_go_unanswered(&self, pid: Pid) {
        self.answers.overdue.note(pid.as_raw().cast_unsigned());
        self.go_on(pid, 0);
    }

    fn obey(&mut self, request: &Request) {
        match request {
            Request::Resume(pid) => {
                let pid = Pid::from_raw(pid.cast_signed());
                if self.held.remove(&pid).is_some() {
                    self.go_on(pid, 0);
                }
            }
            // Only this thread reaps it, so until then the pid is not reused.
            Request::Signal(signal) if !self.ended => drop(kill(self.command, *signal)),
            Request::Signal(_) => {}
        }
    }

    fn pass_deadlines(&mut self, now: Instant) {
        for pid in expired(&mut self.held, now) {
            self.let_go_unanswered(pid);
        }
        for child in expired(&mut self.unclaimed, now) {
            match TaskStatus::read(child) {
                Some(status) => self.hold_born(
                    child,
                    Birth {
                        parent: status.parent,
                        vfork: false,
                    },
                ),
                None => ptrace::resume(child, 0),
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let deadlines = self.held.values().chain(self.unclaimed.values());
        deadlines
            .copied()
            .min()
            .unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn forget(&mut self, tid: Pid, status: i32) {
        self.processes.remove(&tid);
        self.announced.remove(&tid);
        self.unclaimed.remove(&tid);
        self.held.remove(&tid);
        self.loading.remove(&tid);
        if tid == self.command {
            self.ended = true;
            let status = ExitStatus::from_raw(status);
            // It fails only where nobody listens.
            let _ = self.events.try_send(Event::Exited {
                pid: self.command(),
                status,
            });
        }
    }
}

/// Takes out those whose time has come.
fn expired(waiting: &mut HashMap<Pid, Instant>, now: Instant) -> Vec<Pid> {
    let over: Vec<Pid> = waiting
        .iter()
        .filter(|(_, deadline)| **deadline <= now)
        .map(|(pid, _)| *pid)
        .collect();
    for pid in &over {
        waiting.remove(pid);
    }
    over
}
