//! Owns the fuzzing of what reads hostile files: the tool, the targets and how they are run.
//! Must not know what the targets check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::setup::Tools;
use crate::{agent, cache, toolchain};

/// The tool's release.
const VERSION: &str = "0.13.2";

/// Targets, each a program in `leaktrace/fuzz/fuzz_targets`.
const TARGETS: &[&str] = &[
    "tables",
    "frames",
    "symbols",
    "allocators",
    "pclntab",
    "debug_info",
];

/// Fuzzes one target, or all, each for so many seconds.
///
/// What is found in between is kept below the target directory and serves the next run; the seeds are the
/// repository's.
///
/// # Errors
/// Fails where the tool cannot be installed, and where a target fails: its last lines tell the input's file.
pub fn run(tools: &Tools, name: Option<&str>, seconds: u32) -> Result<()> {
    let bin = ensure()?;
    let fuzz_dir = Path::new("leaktrace/fuzz");
    for target in names().filter(|target| name.is_none_or(|name| name == *target)) {
        let kept = toolchain::target_dir().join("fuzz").join(target);
        let corpus = kept.join("corpus");
        fs::create_dir_all(&corpus)
            .with_context(|| format!("failed to create {}", corpus.display()))?;
        let mut cargo = tools.cargo()?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = cargo
            .get_envs()
            .find_map(|(key, value)| value.filter(|_| key == "PATH"))
            .unwrap_or(&path);
        let dirs = std::iter::once(bin.clone()).chain(std::env::split_paths(path));
        let path = std::env::join_paths(dirs).context("a directory in PATH has a colon")?;
        cargo
            .env("PATH", path)
            // Coverage is counted by an option of rustc that is not stable.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", "run", "--sanitizer", "none", "--fuzz-dir"])
            .arg(fuzz_dir)
            .arg("--target-dir")
            .arg(toolchain::target_dir().join("fuzz-build"))
            .arg(target)
            .arg(&corpus)
            .arg(fuzz_dir.join("seeds").join(target))
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", kept.display()))
            .args([
                "-rss_limit_mb=2048",
                "-timeout=10",
                "-max_len=65536",
                "-print_final_stats=1",
            ]);
        agent::run(&mut cargo).with_context(|| format!("the target {target} failed"))?;
    }
    Ok(())
}

/// The targets' names, as the command line accepts them.
pub fn names() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().copied()
}

/// The directory of cargo-fuzz, which is installed first where it is missing.
fn ensure() -> Result<PathBuf> {
    let cache = cache::dir()?;
    let installed = cache.join(format!("cargo-fuzz-{VERSION}"));
    let bin = installed.join("bin");
    if bin.join("cargo-fuzz").is_file() {
        return Ok(bin);
    }
    let _lock = cache::lock(&cache)?;
    let staging = cache::staging_dir(&cache)?;
    let build_dir = staging.join("build");
    eprintln!("xtask: building cargo-fuzz {VERSION} once");
    let mut cargo = toolchain::command("cargo");
    cargo
        .args(["install", "cargo-fuzz", "--version", VERSION, "--locked"])
        .args(["--no-track", "--quiet", "--root"])
        .arg(&staging)
        .env("CARGO_TARGET_DIR", &build_dir)
        .env_remove("RUSTFLAGS")
        // Outside the workspace, whose settings are none of the tool's business.
        .current_dir(&cache)
        .stdin(Stdio::null());
    agent::run(&mut cargo).context("cargo-fuzz could not be built")?;
    fs::remove_dir_all(&build_dir)
        .with_context(|| format!("failed to remove {}", build_dir.display()))?;
    cache::publish(&staging, &installed)?;
    Ok(bin)
}
