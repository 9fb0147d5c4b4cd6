//! Owns the tracers whose cost is measured: how each is attached to a target.
//! Must not know how costs are compared.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use leaktrace::{
    allocators,
    binary::elf::Elf,
    probes::{Probes, Scope, Settings},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::target::Target;

/// How long a tracer may take until it says that it traces: bcc compiles its programs first.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A tracer in place. Dropping it ends it.
pub enum Tracer {
    /// Nobody.
    None,
    /// Our instructions with programs that do nothing: held, never asked.
    Empty { _probes: Box<Probes> },
    /// A program of its own, reading while the target runs.
    Process(Child),
}

impl Tracer {
    /// Puts programs that do nothing where leaktrace's would be.
    pub fn empty(target: &Target) -> anyhow::Result<Self> {
        let bytes = fs::read(&target.library)?;
        let allocators =
            allocators::examine(&Elf::parse(&bytes)?, &[], allocators::ReturnProbes::Used);
        let mut probes = Box::new(Probes::load(&Settings::default())?);
        let file = File::open(&target.library)?;
        probes.attach_empty(&file, &allocators, Scope::Process(target.pid()))?;
        Ok(Self::Empty { _probes: probes })
    }

    /// The agent that users run, exact and with stacks.
    pub fn leaktrace(target: &Target, report: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leaktrace"))
            .args(["trace", "--format", "json", "--min-age", "0s", "--pid"])
            .arg(target.pid().to_string())
            .arg("--output")
            .arg(report)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start leaktrace")?;
        let lines = child.stderr.take().context("no stderr")?;
        wait_for_line(lines, "tracing").or_else(|said| give_up(&mut child, &said))?;
        Ok(Self::Process(child))
    }

    /// bcc's memleak with its own defaults; an error tells why it cannot run here.
    pub fn memleak(target: &Target) -> anyhow::Result<Self> {
        let program = ["/usr/sbin/memleak-bpfcc", "/usr/share/bcc/tools/memleak"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .context("not installed (Debian: bpfcc-tools and linux-headers-amd64)")?;
        let mut child = Command::new(program)
            .args(["-p", &target.pid().to_string()])
            // Python keeps what it prints to a pipe back otherwise.
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let lines = child.stdout.take().context("no stdout")?;
        // Its first report: the line before it comes while probes are still being placed.
        if wait_for_line(lines, "outstanding").is_err() {
            let mut said = String::new();
            let _ = child.kill();
            if let Some(mut errors) = child.stderr.take() {
                errors.read_to_string(&mut said)?;
            }
            let headers = said.lines().find(|line| line.contains("kernel headers"));
            let why = headers.or(said.lines().last()).unwrap_or("it ended");
            bail!("cannot run: {why}");
        }
        Ok(Self::Process(child))
    }

    /// CPU time that its process has spent so far, in nanoseconds.
    pub fn spent_ns(&self) -> f64 {
        let Self::Process(child) = self else {
            return 0.0;
        };
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", child.id())) else {
            return 0.0;
        };
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Asks a program for its last words and waits for its end.
    pub fn finish(&mut self) {
        if let Self::Process(child) = self {
            // One that is gone already is what was wanted.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT);
            let _ = child.wait();
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Self::Process(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn give_up(child: &mut Child, said: &str) -> anyhow::Result<()> {
    let _ = child.kill();
    bail!("leaktrace did not begin to trace: {said}")
}

/// Waits for a line with this word, then reads on so that the writer never waits for room. The
/// error is what was said instead.
fn wait_for_line(
    lines: impl std::io::Read + Send + 'static,
    word: &'static str,
) -> Result<(), String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            // Nobody listens any more once the word was there.
            let _ = sender.send(line);
        }
    });
    let mut said = String::new();
    while let Ok(line) = receiver.recv_timeout(READY_WITHIN) {
        if line.contains(word) {
            return Ok(());
        }
        said = line;
    }
    Err(said)
}
