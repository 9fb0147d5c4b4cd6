//! Owns the check that everything compiles for aarch64, which no machine here runs.
//! Must not know what differs there.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::setup::Tools;
use crate::{agent, packages, toolchain};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What compiles C for it: some of our dependencies are in C.
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// That and C's headers, with Debian's packages.
const NEEDED: [(&str, &str); 2] = [
    (COMPILER, "gcc-aarch64-linux-gnu"),
    (
        "/usr/aarch64-linux-gnu/include/stdio.h",
        "libc6-dev-arm64-cross",
    ),
];

/// Compiles the agent, with the probes built for that processor in it, and clippy's opinion of both.
///
/// # Errors
/// Fails, with the remedy, where a compiler or the target is missing, and where something does not compile.
pub fn check(tools: &Tools) -> Result<()> {
    packages::provide(&NEEDED, "aarch64")?;
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET, "--toolchain", toolchain::VERSION]);
    toolchain::scrub(&mut rustup);
    agent::run(rustup.stdin(Stdio::null()).stdout(Stdio::null()))
        .with_context(|| format!("rustup could not add {TARGET}: check the network"))?;
    let compiler = env::var_os("CC_aarch64_unknown_linux_gnu").unwrap_or_else(|| COMPILER.into());
    let mut cargo = tools.cargo()?;
    cargo
        .args(["clippy", "--package", "leaktrace", "--target", TARGET])
        .args(["--", "-D", "warnings"])
        .env("CC_aarch64_unknown_linux_gnu", compiler);
    agent::run(&mut cargo)
}
