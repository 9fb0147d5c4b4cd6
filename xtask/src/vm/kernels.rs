//! Owns which kernels are tested, and how they come from Debian's mirror without being installed.
//! Must not know how they are booted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{agent, cache, toolchain};

/// A kernel of the matrix.
pub struct Kernel {
    /// Its version.
    pub name: &'static str,
    /// The release of Debian that has it.
    suite: &'static str,
    /// The version whose image it boots, where another has it too.
    image: &'static str,
    /// What the agent does there: `multi`, `perf` (how it attaches), `refusal`, or `whole` stacks of threads that
    /// preempt each other.
    pub expected: &'static str,
    /// What else is on its command line.
    pub arguments: &'static str,
}

/// One before attach cookies, one before `uprobe_multi`, one with both, that one where probes are preempted, and
/// the newest there is.
const KERNELS: [Kernel; 5] = [
    Kernel {
        name: "5.10",
        suite: "bullseye",
        image: "5.10",
        expected: "refusal",
        arguments: "",
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
        image: "6.1",
        expected: "perf",
        arguments: "",
    },
    Kernel {
        name: "6.12",
        suite: "trixie",
        image: "6.12",
        expected: "multi",
        arguments: "",
    },
    Kernel {
        name: "6.12-preempt",
        suite: "trixie",
        image: "6.12",
        expected: "whole",
        arguments: "preempt=full",
    },
    Kernel {
        name: "7.2",
        suite: "sid",
        image: "7.2",
        expected: "multi",
        arguments: "",
    },
];

/// Those that every run of the tests boots: one for each way in which probes are attached.
pub const TESTED: [&str; 2] = ["6.1", "6.12"];

/// The package that depends on the suite's present kernel for virtual machines.
const NEWEST: &str = "linux-image-cloud-amd64";

/// What can be asked for.
pub fn names() -> Vec<&'static str> {
    KERNELS.iter().map(|kernel| kernel.name).collect()
}

/// Those that were named; all where none was.
pub fn choose(chosen: &[String]) -> impl Iterator<Item = &'static Kernel> {
    KERNELS
        .iter()
        .filter(move |kernel| chosen.is_empty() || chosen.iter().any(|name| name == kernel.name))
}

/// The kernel's image, fetched once into the cache.
///
/// # Errors
/// Fails, with the remedy, where apt knows no mirror or the mirror refuses.
pub fn fetch(kernel: &Kernel) -> Result<PathBuf> {
    let cache = cache::dir()?;
    let home = cache.join(format!("linux-{}", kernel.image));
    if let Some(image) = image_in(&home) {
        return Ok(image);
    }
    let _lock = cache::lock(&cache)?;
    if let Some(image) = image_in(&home) {
        return Ok(image);
    }
    let staging = cache::staging_dir(&cache)?;
    download(kernel, &staging).with_context(|| format!("failed to fetch Linux {}", kernel.name))?;
    cache::publish(&staging, &home)?;
    image_in(&home).with_context(|| format!("no kernel below {}: delete it", home.display()))
}

/// Where packages have it: in `boot`, or, where the image has a package of its own, beside its modules.
fn image_in(home: &Path) -> Option<PathBuf> {
    let list = |dir: &str| {
        let entries = fs::read_dir(home.join(dir)).ok();
        entries.into_iter().flatten().flatten()
    };
    let in_boot = list("boot").map(|entry| entry.path());
    let in_modules = list("usr/lib/modules").map(|entry| entry.path().join("vmlinuz"));
    in_boot.chain(in_modules).find(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("vmlinuz") && path.is_file()
    })
}

/// Asks apt with a configuration of its own: the machine's stays as it is.
fn download(kernel: &Kernel, staging: &Path) -> Result<()> {
    let apt = Apt::of("deb", kernel.suite, staging)?;
    let depends_on = |package: &str, prefix: &str| -> Result<Option<String>> {
        let mut ask = apt.command("apt-cache");
        let depends = toolchain::stdout_of(ask.args(["depends", package]))?;
        let mut names = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned))
    };
    let package = depends_on(NEWEST, "linux-image-")?
        .with_context(|| format!("{NEWEST} depends on no image"))?;
    // Later suites have the image itself in a package of its own.
    let package = depends_on(&package, "linux-binary-")?.unwrap_or(package);
    agent::run(apt.command("apt-get").args(["download", "-qq", &package]))?;
    let debs = fs::read_dir(staging).context("failed to list what apt brought")?;
    let mut debs = debs.flatten().map(|entry| entry.path());
    let deb = debs
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .context("apt brought no package")?;
    agent::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(staging))?;
    fs::remove_file(&deb).context("failed to remove the unpacked package")?;
    apt.remove()
}
