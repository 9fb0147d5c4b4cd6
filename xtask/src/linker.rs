//! Owns bpf-linker: its version, where the cache keeps it, and its installation.
//! Must not know what is linked with it.

use std::env::consts::ARCH;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::progress::Progress;
use crate::{cache, toolchain};

/// The release that speaks the LLVM of the pinned Rust. It uses rustc's own
/// libLLVM, so both versions change together.
const VERSION: &str = "0.10.3";

/// The directory to put into `PATH`; bpf-linker is installed first where it is missing.
///
/// # Errors
/// Fails where the cache cannot be used or the installation does not succeed.
pub fn ensure() -> Result<PathBuf> {
    let cache = cache::dir()?;
    let installed = cache.join(directory_name());
    let bin = installed.join("bin");
    let is_there = || bin.join("bpf-linker").is_file();
    if !is_there() {
        let _lock = cache::lock(&cache)?;
        // Another clone may have finished the same work while this one waited.
        if !is_there() {
            install(&cache, &installed)?;
        }
    }
    Ok(bin)
}

/// A name for all that an installed linker depends on: the home directory may be
/// shared by machines, and the Rust version may change under a new checkout.
fn directory_name() -> String {
    format!("bpf-linker-{VERSION}-rust-{}-{ARCH}", toolchain::VERSION)
}

/// Builds bpf-linker with the pinned toolchain and puts it into the cache.
fn install(cache: &Path, installed: &Path) -> Result<()> {
    if !toolchain::is_in_path("cc") {
        bail!(
            "no C compiler: `cc` is not in PATH, install one (Debian: apt-get install gcc libc6-dev)"
        );
    }
    let staging = cache::staging_dir(cache)?;
    let build_dir = staging.join("build");
    let log_path = cache.join("bpf-linker.log");
    eprintln!(
        "xtask: building bpf-linker {VERSION} once, into {}",
        installed.display()
    );

    let mut cargo = toolchain::command("cargo");
    cargo
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--no-track",
            "--root",
        ])
        .arg(&staging)
        .env("CARGO_TARGET_DIR", &build_dir)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        // Cargo's own bar tells how many crates there are; it is read, not shown.
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "80")
        .env("CARGO_TERM_COLOR", "never")
        // Outside the workspace, whose settings are none of the tool's business.
        .current_dir(cache)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = cargo
        .spawn()
        .with_context(|| format!("failed to run {cargo:?}"))?;
    let log = File::create(&log_path)
        .with_context(|| format!("failed to create {}", log_path.display()))?;
    if let Some(said) = child.stderr.take() {
        follow(said, log, started)?;
    }
    let status = child.wait().context("failed to wait for cargo install")?;
    if !status.success() {
        let reason = first_error(&log_path);
        bail!(
            "bpf-linker {VERSION} could not be built ({status}): {reason}; \
             see {}, then run `cargo xtask setup` again",
            log_path.display()
        );
    }
    // The build's intermediate files are many times the tool's own size.
    fs::remove_dir_all(&build_dir)
        .with_context(|| format!("failed to remove {}", build_dir.display()))?;
    cache::publish(&staging, installed)?;
    eprintln!(
        "xtask: bpf-linker {VERSION} is ready ({} s)",
        started.elapsed().as_secs()
    );
    Ok(())
}

/// Shows how far the installation is, until cargo closes its standard error.
fn follow(said: ChildStderr, log: File, started: Instant) -> Result<()> {
    let mut progress = Progress::new("bpf-linker", started);
    progress
        .follow(said, log)
        .context("failed to follow cargo install")?;
    progress.finish();
    Ok(())
}

/// The first line of a log that tells what went wrong.
fn first_error(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let error = text.lines().find(|line| line.starts_with("error"));
    error.unwrap_or("cargo gave no reason").to_owned()
}
