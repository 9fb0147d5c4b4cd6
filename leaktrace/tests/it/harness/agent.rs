//! Owns a running agent: its arguments, its ready line, its end.
//! Must not know whom it traces.

use std::{
    ffi::OsStr,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

use super::{
    lines::Lines,
    programs,
    stream::Stream,
    workload::{Talk, wait},
};

/// All that is outstanding, as JSON, with every site.
const EVERYTHING: &[&str] = &["--format", "json", "--min-age", "0s", "--top", "100000"];

/// The agent, killed when dropped.
pub struct Agent {
    child: Child,
    stdout: Option<Lines>,
    stderr: Option<Lines>,
}

/// What is left of an agent.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its lines on stdout.
    pub stdout: Vec<String>,
    /// Its lines on stderr.
    pub stderr: Vec<String>,
}

impl Ended {
    /// The report, of a run that must have ended well.
    pub fn stream(&self) -> Stream {
        assert_eq!(self.code, Some(0), "{self:#?}");
        Stream::parse(&self.stdout)
    }

    /// The one line of an error, of a run that must have failed with exit code 2.
    pub fn refusal(&self) -> &str {
        assert_eq!(self.code, Some(2), "{self:#?}");
        assert!(self.stdout.is_empty(), "stdout is the report's: {self:#?}");
        assert_eq!(self.stderr.len(), 1, "an error is one line: {self:#?}");
        self.stderr[0].strip_prefix("leaktrace: ").unwrap()
    }
}

/// The agent's program.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_leaktrace"))
}

impl Agent {
    /// Runs it with these arguments and nothing else.
    pub fn spawn(args: &[&str]) -> Self {
        Self::run(program().args(args))
    }

    /// Runs a command that is the agent.
    pub fn run(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            stdout: child.stdout.take().map(Lines::of),
            stderr: child.stderr.take().map(Lines::of),
            child,
        }
    }

    /// Traces all that is outstanding, and returns once every probe is in place.
    pub fn trace(args: &[&str]) -> Self {
        let mut agent = Self::run(program().arg("trace").args(EVERYTHING).args(args));
        agent.await_stderr("leaktrace: tracing ");
        agent
    }

    /// Traces a command, whose streams are the agent's: the report goes to a file.
    pub fn trace_command(args: &[&str], command: &[&OsStr]) -> (Self, Talk) {
        let mut agent = program();
        agent.arg("trace").args(EVERYTHING).args(args);
        agent.arg("--output").arg(report_path());
        agent.arg("--").args(command);
        agent.stdin(Stdio::piped());
        agent.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = agent.spawn().unwrap();
        let talk = Talk::new(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut agent = Self {
            stdout: None,
            stderr: child.stderr.take().map(Lines::of),
            child,
        };
        agent.await_stderr("leaktrace: tracing ");
        (agent, talk)
    }

    /// Waits for a line on stderr, as long as the agent may take to be ready.
    pub fn await_stderr(&mut self, prefix: &str) -> String {
        self.await_stderr_within(prefix, super::READINESS)
    }

    /// Waits for a line on stderr for so long.
    pub fn await_stderr_within(&mut self, prefix: &str, patience: std::time::Duration) -> String {
        let lines = self.stderr.as_mut().expect("it runs");
        lines.find_within(prefix, patience)
    }

    /// Waits for the line of a process that is as it should be, in a report with `--interval`.
    pub fn await_process(&mut self, pid: u32, is_so: impl FnMut(&Value) -> bool) -> Value {
        self.await_line("process", pid, is_so)
    }

    /// Waits for the line of a process's goroutines that is as it should be, in a report with `--interval`.
    pub fn await_goroutines(&mut self, pid: u32, is_so: impl Fn(&Value) -> bool) -> Value {
        self.await_line("goroutines", pid, is_so)
    }

    fn await_line(&mut self, of: &str, pid: u32, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        let lines = self.stdout.as_mut().expect("it runs");
        let deadline = std::time::Instant::now() + super::PATIENCE;
        let mut last = None;
        while std::time::Instant::now() < deadline {
            let line = lines.next().expect("reports come until it is stopped");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["type"] == of && line["process"]["pid"] == pid {
                if is_so(&line) {
                    return line;
                }
                last = Some(line);
            }
        }
        panic!("the {of} line of {pid} is not as it should be, but {last:#?}")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.nix_pid(), signal).unwrap();
    }

    /// Stops it, and returns once none of its threads runs any more.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let status = waitpid(self.nix_pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    /// Ctrl-C: the report that this brings.
    pub fn interrupt(self) -> Stream {
        self.signal(Signal::SIGINT);
        self.wait().stream()
    }

    /// Ctrl-C under `trace_command`: the report that this brings.
    pub fn interrupt_command(self) -> Stream {
        self.signal(Signal::SIGINT);
        self.wait_command()
    }

    /// Waits for its end under `trace_command`, and reads its report.
    pub fn wait_command(self) -> Stream {
        let ended = self.wait_alone();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let text = std::fs::read_to_string(report_path()).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Stream::parse(&lines)
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let status = wait(&mut self.child);
        let rest = |lines: Option<Lines>| lines.map(Lines::all).unwrap_or_default();
        Ended {
            code: status.code(),
            stdout: rest(self.stdout.take()),
            stderr: rest(self.stderr.take()),
        }
    }

    /// The same where a command that runs on holds the agent's streams open.
    pub fn wait_alone(mut self) -> Ended {
        let status = wait(&mut self.child);
        let said = |lines: Option<Lines>| lines.map(Lines::so_far).unwrap_or_default();
        Ended {
            code: status.code(),
            stdout: said(self.stdout.take()),
            stderr: said(self.stderr.take()),
        }
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the report of a command goes: one at a time, as tests have turns.
fn report_path() -> std::path::PathBuf {
    programs::scratch().join("report.ndjson")
}
