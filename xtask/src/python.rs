//! Owns the Python packages that check manifests, run pods and query streams: in the cache, beside the system's own.
//! Must not know what they are used for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{agent, cache, toolchain};

/// What is installed, with what it needs.
const PACKAGES: [&str; 4] = [
    "duckdb==2.0.1",
    "grpcio-tools==1.85.1",
    "kubernetes-validate==1.37.0",
    "PyYAML==6.0.4",
];

/// Changes with `PACKAGES`.
const SET: &str = "1";

/// Where the packages are: for one version of Python, because some are compiled.
fn home() -> Result<PathBuf> {
    let ask = ["-c", "import platform; print(platform.python_version())"];
    let version = toolchain::stdout_of(Command::new("python3").args(ask))
        .context("no python3: run `cargo xtask setup --test-programs` as root")?;
    Ok(cache::dir()?.join(format!("python-{}-set-{SET}", version.trim())))
}

/// Whether all are there.
pub fn is_there() -> bool {
    home().is_ok_and(|home| home.is_dir())
}

/// Installs what is missing.
///
/// # Errors
/// Fails, with the remedy, without Python or pip, or where pip fails.
pub fn ensure() -> Result<()> {
    let home = home()?;
    if home.is_dir() {
        return Ok(());
    }
    let cache = cache::dir()?;
    let _lock = cache::lock(&cache)?;
    if home.is_dir() {
        return Ok(());
    }
    eprintln!("xtask: installing {} for the tests", PACKAGES.join(", "));
    let staging = cache::staging_dir(&cache)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore"])
        .arg("--target")
        .arg(&staging)
        .args(PACKAGES)
        .stdin(Stdio::null())
        // stdout is for results.
        .stdout(Stdio::null());
    toolchain::scrub(&mut pip);
    agent::run(&mut pip).context("pip could not install Python packages")?;
    cache::publish(&staging, &home)
}

/// A Python that finds the packages, and our own files in a directory of the workspace.
///
/// # Errors
/// As `ensure`.
pub fn command(own: &Path) -> Result<Command> {
    ensure()?;
    let path = std::env::join_paths([&home()?, &toolchain::workspace_dir().join(own)]);
    let Ok(path) = path else {
        bail!("the cache's path cannot stand in PYTHONPATH: set LEAKTRACE_CACHE");
    };
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(toolchain::workspace_dir());
    toolchain::scrub(&mut python);
    Ok(python)
}
