//! Owns the soak of `leaktrace watch`: what it needs, and how long it lasts.
//! Must not know what is done to the agent: `soak/soak.py` does it.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::agent::{self, Profile};
use crate::setup::Tools;
use crate::{packages, toolchain};

/// Runs the agent for so many minutes beside what must not harm it.
///
/// # Errors
/// Fails where something is missing, and where the agent grows, ends or is not served well.
pub fn run(tools: &Tools, minutes: u32, may_set_clock: bool, options: &[OsString]) -> Result<()> {
    packages::provide(&[("prometheus", "prometheus")], "the soak")?;
    let agent = agent::build(tools, Profile::Release)?;
    let mut soak = toolchain::command("python3");
    soak.arg("-u")
        .arg(Path::new("xtask/src/soak/soak.py"))
        .arg(agent)
        .arg(minutes.to_string())
        .arg(toolchain::target_dir().join("soak"));
    if may_set_clock {
        soak.arg("clock");
    }
    soak.args(options).current_dir(toolchain::workspace_dir());
    agent::run(&mut soak).context("the agent does not bear it")
}
