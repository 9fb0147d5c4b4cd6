//! Owns the benchmark `attach`: what it costs to put probes into a host of many processes and many files.
//! Must not know the agent's inside.
//!
//! Up to 1000 processes sleep, on 60 copies of the C library at most, each of which is a file of its own. The agent is asked
//! to trace them by name, each with probes of its own, or the whole host, and to stop at once: its CPU time covers looking
//! at the files, their unwind tables, attaching and detaching. Then programs start with a C library that nobody has mapped
//! yet, under a trace of the host: how long they run until their allocations are seen.

mod notice;

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use leaktrace::host::maps::read_maps;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use support::{Options, machine};

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// The processes; killed when dropped.
struct Crowd {
    children: Vec<Child>,
    directory: PathBuf,
}

impl Crowd {
    fn start(processes: usize, files: usize) -> anyhow::Result<Self> {
        let libc = read_maps(std::process::id())?
            .into_iter()
            .map(|mapping| mapping.path)
            .find(|path| path.ends_with("/libc.so.6"))
            .or_else(|| Some("/lib/x86_64-linux-gnu/libc.so.6".to_owned()))
            .context("there is no libc")?;
        let name = format!("leaktrace-attach-{}", std::process::id());
        let mut crowd = Self {
            children: Vec::new(),
            directory: std::env::temp_dir().join(name),
        };
        for number in 0..files {
            let directory = crowd.directory.join(number.to_string());
            fs::create_dir_all(&directory)?;
            fs::copy(&libc, directory.join("libc.so.6"))?;
        }
        for number in 0..processes {
            let mut command = Command::new(LOADER);
            command.arg("--library-path");
            command.arg(crowd.directory.join((number % files).to_string()));
            command.args(["/bin/sleep", "600"]);
            crowd.children.push(command.stdin(Stdio::null()).spawn()?);
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is what was wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn children_cpu_ms() -> anyhow::Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time() + usage.system_time()).num_milliseconds())
}

fn main() -> anyhow::Result<()> {
    let options = Options::read();
    println!("attach: processes traced by name or with the whole host, and left at once");
    println!("{}", machine());
    let crowds: &[(usize, usize)] = if options.is_quick {
        &[(1, 1), (50, 6)]
    } else {
        &[(1, 1), (10, 10), (100, 60), (1_000, 60)]
    };
    for (processes, files) in crowds {
        println!("{processes} processes on {files} files");
        let crowd = Crowd::start(*processes, *files)?;
        // Their name is their loader's.
        round("by name", &["--comm", "ld-linux-x86-64*"])?;
        round("the host", &[])?;
        drop(crowd);
    }
    let rounds = if options.is_quick { 3 } else { 20 };
    let workshop = Crowd::start(0, 1)?;
    let noticed = notice::measure(&agent(), &workshop.directory, rounds)?;
    println!(
        "a new file is probed {:.1} ms after its program is started (median of {rounds}; {:.1} to {:.1})",
        noticed.median, noticed.min, noticed.max,
    );
    Ok(())
}

/// One trace of no time.
fn round(what: &str, targets: &[&str]) -> anyhow::Result<()> {
    let before_ms = children_cpu_ms()?;
    let began = Instant::now();
    let mut child = Command::new(agent())
        .args(["trace", "--duration", "100ms", "--format", "json"])
        .args(["--top", "1"])
        .args(targets)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start the agent")?;
    let stderr = BufReader::new(child.stderr.take().context("it has a stderr")?);
    let mut said = stderr.lines().map_while(Result::ok);
    let ready = said.find(|line| line.starts_with("leaktrace: tracing "));
    let ready_ms = began.elapsed().as_millis();
    let ready = ready.context("the agent did not get ready")?;
    said.for_each(drop);
    ensure!(child.wait()?.success(), "the agent failed");
    println!(
        "  {what}: ready after {ready_ms} ms, ended after {} ms, {} ms of CPU; {}",
        began.elapsed().as_millis(),
        children_cpu_ms()? - before_ms,
        ready.trim_start_matches("leaktrace: "),
    );
    Ok(())
}

/// The agent that was built with this.
fn agent() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_leaktrace")).to_owned()
}
