//! Owns the demo: a leaking program of the project's own, traced and reported.
//! Must not know how the agent works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::agent::{self, Profile};
use crate::setup::Tools;
use crate::toolchain;

/// How the agent is called: long enough for a verdict on the leak and on the cache.
const TRACE: &[&str] = &["--duration", "20s", "--min-age", "2s"];

/// A child that does not outlive this value, whatever goes wrong meanwhile.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only where the child is gone already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds the agent and the leaking program, and shows the first in the second.
///
/// # Errors
/// Fails where one of them does not build, or the trace does not succeed.
pub fn run(tools: &Tools) -> Result<()> {
    let agent = agent::build(tools, Profile::Release)?;
    let orders = compile()?;
    let mut child = Command::new(&orders);
    child.stdin(Stdio::null());
    toolchain::scrub(&mut child);
    let child = child
        .spawn()
        .with_context(|| format!("failed to start {}", orders.display()))?;
    let mut running = Running(child);
    let pid = running.0.id();
    eprintln!(
        "xtask: {} runs as process {pid}; it leaks, let us see where",
        orders.display()
    );

    let mut trace = agent::command(&agent);
    trace.args(["trace", "--pid", &pid.to_string()]).args(TRACE);
    agent::run(&mut trace)?;
    if let Some(status) = running
        .0
        .try_wait()
        .context("failed to look after the demo program")?
    {
        bail!(
            "{} ended by itself while it was traced ({status})",
            orders.display()
        );
    }
    drop(running);
    eprintln!(
        "\nxtask: `growing` is the leak: `append_entry`, reached by `audit_order` \
         (leaktrace/demo/orders.c);\n       `find_customer` holds memory too, but it is a cache \
         that drops its oldest.\n       Next, your own program: cargo xtask run -- trace --pid PID \
         --duration 30s"
    );
    Ok(())
}

/// Compiles the leaking program as a packager would, with frame pointers.
fn compile() -> Result<PathBuf> {
    let source = Path::new("leaktrace/demo/orders.c");
    let dir = toolchain::target_dir().join("demo");
    fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let program = dir.join("orders");
    let mut cc = Command::new("cc");
    cc.current_dir(toolchain::workspace_dir())
        .args([
            "-O2",
            "-g",
            "-fno-omit-frame-pointer",
            "-Wall",
            "-Wextra",
            "-o",
        ])
        .args([program.as_path(), source]);
    toolchain::scrub(&mut cc);
    agent::run(&mut cc)?;
    Ok(program)
}
