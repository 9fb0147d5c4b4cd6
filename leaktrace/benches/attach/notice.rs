//! Owns how long a program runs until the allocations from a file that is new on the host are seen.
//! Must not know the agent's inside.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{LOADER, support::Spread};

/// It allocates a thousand times a second, and no more: as a program that has just begun.
const SOURCE: &str = "#include <stdlib.h>\n#include <unistd.h>\n\
    int main(void) { for (;;) { free(malloc(100)); usleep(1000); } }\n";

/// Nobody waits longer for one program.
const PATIENCE: Duration = Duration::from_secs(10);

/// A child that is ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Milliseconds from the start of a program until its first allocation ran into a return probe, which the kernel shows
/// among its mappings.
///
/// `directory` is for what it makes, and has a C library in `0`.
pub fn measure(agent: &Path, directory: &Path, rounds: usize) -> anyhow::Result<Spread> {
    let libc = directory.join("0/libc.so.6");
    let source = directory.join("loop.c");
    let program = directory.join("loop");
    fs::write(&source, SOURCE)?;
    let compiled = Command::new("cc")
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .status();
    ensure!(compiled.context("there is no cc")?.success(), "cc failed");
    let mut tracer = Command::new(agent);
    tracer.args(["trace", "--format", "json", "--top", "1"]);
    tracer.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut tracer = Ended(tracer.spawn()?);
    let stderr = BufReader::new(tracer.0.stderr.take().context("it has a stderr")?);
    let mut said = stderr.lines().map_while(Result::ok);
    said.find(|line| line.starts_with("leaktrace: tracing "))
        .context("the agent did not get ready")?;
    let once = |round: usize| {
        let own = directory.join(format!("new-{round}"));
        fs::create_dir_all(&own)?;
        fs::copy(&libc, own.join("libc.so.6"))?;
        let began = Instant::now();
        let mut command = Command::new(LOADER);
        command.arg("--library-path").arg(&own).arg(&program);
        let child = Ended(command.spawn()?);
        let maps = format!("/proc/{}/maps", child.0.id());
        while !fs::read_to_string(&maps)?.contains("[uprobes]") {
            ensure!(began.elapsed() < PATIENCE, "a program is not probed");
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    let figures = (0..rounds)
        .map(once)
        .collect::<anyhow::Result<Vec<f64>>>()?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(tracer.0.id())?),
        nix::sys::signal::Signal::SIGINT,
    )?;
    said.for_each(drop);
    ensure!(tracer.0.wait()?.success(), "the agent failed");
    Ok(Spread::of(figures))
}
