//! Owns the Python packages that check manifests, run pods, query streams and are traced: in the cache, beside the system's own.
//! Must not know what they are used for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{agent, cache, toolchain};

/// Packages that are used together.
pub struct Set {
    name: &'static str,
    /// Changes with `packages`.
    edition: u32,
    packages: &'static [&'static str],
}

/// What checks manifests, in every run of the tests.
pub const CHECKS: Set = Set {
    name: "checks",
    edition: 2,
    packages: &[
        "kubernetes-validate==1.37.0",
        "PyYAML==6.0.4",
        "grafana-foundation-sdk==1769699998!10.1.0",
    ],
};

/// What asks container runtimes, for `cargo xtask pods`.
pub const PODS: Set = Set {
    name: "pods",
    edition: 1,
    packages: &["grpcio-tools==1.85.1", "PyYAML==6.0.4"],
};

/// The engines that streams are queried with, for `cargo xtask pipelines` (0.9 GB).
pub const ENGINES: Set = Set {
    name: "engines",
    edition: 1,
    packages: &["duckdb==2.0.1", "chdb-core==26.9.0"],
};

/// Libraries with allocators of their own, for tests to trace.
pub const TRACED: Set = Set {
    name: "traced",
    edition: 1,
    packages: &["polars==2.1.0", "pyarrow==26.0.1"],
};

/// Where the packages are: for one version of Python, because some are compiled.
fn home(set: &Set) -> Result<PathBuf> {
    let ask = ["-c", "import platform; print(platform.python_version())"];
    let version = toolchain::stdout_of(Command::new("python3").args(ask))
        .context("no python3: run `cargo xtask setup --test-programs` as root")?;
    let (name, edition) = (set.name, set.edition);
    Ok(cache::dir()?.join(format!("python-{}-{name}-{edition}", version.trim())))
}

/// Whether what the tests need is there.
pub fn is_there() -> bool {
    [CHECKS, TRACED]
        .iter()
        .all(|set| home(set).is_ok_and(|home| home.is_dir()))
}

/// Installs what is missing.
///
/// # Errors
/// Fails, with the remedy, without Python or pip, or where pip fails.
pub fn ensure(set: &Set) -> Result<()> {
    let home = home(set)?;
    if home.is_dir() {
        return Ok(());
    }
    let cache = cache::dir()?;
    let _lock = cache::lock(&cache)?;
    if home.is_dir() {
        return Ok(());
    }
    eprintln!("xtask: installing {}", set.packages.join(", "));
    let staging = cache::staging_dir(&cache)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore"])
        .arg("--target")
        .arg(&staging)
        .args(set.packages)
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
pub fn command(set: &Set, own: &Path) -> Result<Command> {
    ensure(set)?;
    let path = std::env::join_paths([&home(set)?, &toolchain::workspace_dir().join(own)]);
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
