//! Owns the programs that come from packages: what the tests trace, and what other commands need.
//! Must not know what is done with them.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{agent, apt, cache, golang, libraries, python, toolchain};

/// A program that tests start, or another file that they need, and Debian's package with it.
struct TestProgram {
    /// A name to look for in `PATH`, or a path.
    name: &'static str,
    package: &'static str,
}

/// Servers on glibc's malloc, one with threads, one with forked workers, and what brings Go
/// toolchains and Go programs.
const PROGRAMS: &[TestProgram] = &[
    TestProgram {
        name: "memcached",
        package: "memcached",
    },
    TestProgram {
        name: "nginx",
        package: "nginx-light",
    },
    TestProgram {
        name: "redis-server",
        package: "redis-server",
    },
    TestProgram {
        name: "pg_ctlcluster",
        package: "postgresql",
    },
    TestProgram {
        name: "python3",
        package: "python3",
    },
    TestProgram {
        name: "node",
        package: "nodejs",
    },
    TestProgram {
        name: "c++",
        package: "g++",
    },
    TestProgram {
        name: "musl-gcc",
        package: "musl-tools",
    },
    TestProgram {
        name: "/usr/lib/x86_64-linux-gnu/libjemalloc_pic.a",
        package: "libjemalloc-dev",
    },
    TestProgram {
        name: "/usr/lib/x86_64-linux-gnu/libmimalloc.so",
        package: "libmimalloc-dev",
    },
    TestProgram {
        name: "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
        package: "libtcmalloc-minimal4",
    },
    // Another C++ library, with operators of its own.
    TestProgram {
        name: "/usr/include/c++/v1/new",
        package: "libc++-dev",
    },
    TestProgram {
        name: "/usr/lib/x86_64-linux-gnu/libc++abi.so",
        package: "libc++abi-dev",
    },
    TestProgram {
        name: "pip3",
        package: "python3-pip",
    },
    TestProgram {
        name: "npm",
        package: "npm",
    },
    TestProgram {
        name: "qemu-system-x86_64",
        package: QEMU,
    },
    TestProgram {
        name: "promtool",
        package: "prometheus",
    },
    TestProgram {
        name: "busybox",
        package: "busybox-static",
    },
    TestProgram {
        name: "cpio",
        package: "cpio",
    },
    // It looks at the pages of reports.
    TestProgram {
        name: "chromium",
        package: "chromium",
    },
];

/// The emulator's package.
const QEMU: &str = "qemu-system-x86";

/// The names of the programs that this machine lacks.
pub fn missing() -> Vec<String> {
    let mut missing = missing_packages();
    missing.extend(golang::missing());
    missing.extend(libraries::missing());
    if !python::is_there() {
        missing.push("Python packages".to_owned());
    }
    missing
}

fn missing_packages() -> Vec<String> {
    absent().map(|program| program.name.to_owned()).collect()
}

/// The programs that this machine lacks.
fn absent() -> impl Iterator<Item = &'static TestProgram> {
    PROGRAMS
        .iter()
        .filter(|program| !is_installed(program.name))
}

/// Installs what is missing.
///
/// # Errors
/// Fails, with the remedy, without root, without apt, or where an installer fails.
pub fn ensure() -> Result<()> {
    ensure_packages()?;
    golang::ensure()?;
    libraries::ensure()?;
    python::ensure(&python::CHECKS)?;
    python::ensure(&python::TRACED)
}

fn ensure_packages() -> Result<()> {
    let programs: Vec<_> = absent()
        .map(|program| (program.name, program.package))
        .collect();
    provide(&programs, "the tests")
}

/// Installs what is missing of some programs (or other files), each with Debian's package; `purpose` is what for.
///
/// # Errors
/// Fails, with the remedy, without root, without apt, or where apt fails.
pub fn provide(needed: &[(&str, &str)], purpose: &str) -> Result<()> {
    let absent = absent_of(needed);
    if absent.is_empty() {
        return Ok(());
    }
    let packages = packages_of(&absent);
    let remedy = format!("(Debian: apt-get install {})", packages.join(" "));
    let names = names_of(&absent);
    if !toolchain::is_in_path("apt-get") {
        bail!("no {names}, and no apt-get to bring it: install it by other means {remedy}");
    }
    if !agent::is_root() {
        bail!("no {names}: run this as root, which installs it, or install it {remedy}");
    }
    eprintln!("xtask: installing {} for {purpose}", packages.join(", "));
    // A fresh machine has no package lists, or old ones that name files long gone.
    apt(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    let (qemu, others): (Vec<_>, Vec<_>) = packages.into_iter().partition(|name| *name == QEMU);
    if !others.is_empty() {
        apt(&[&install, others.as_slice()].concat())?;
    }
    // Nothing that is there may go: where QEMU's tools are of the backports, so must be what is added.
    let install = [install.as_slice(), &["--no-remove", QEMU]].concat();
    if !qemu.is_empty() && apt(&install).is_err() {
        apt_with_backports(&install)?;
    }
    let left = absent_of(&absent);
    if !left.is_empty() {
        bail!(
            "still no {} after apt-get install: install it by hand",
            names_of(&left)
        );
    }
    Ok(())
}

/// Those that this machine lacks.
fn absent_of<'a>(programs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut absent = programs.to_vec();
    absent.retain(|(name, _)| !is_installed(name));
    absent
}

/// Debian's packages with some programs, each once.
fn packages_of<'a>(programs: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let mut packages: Vec<_> = programs.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn names_of(programs: &[(&str, &str)]) -> String {
    let names: Vec<_> = programs.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Runs apt-get with Debian's backports first, beside the machine's own sources, whose files stay as they are.
fn apt_with_backports(install: &[&str]) -> Result<()> {
    let release =
        fs::read_to_string("/etc/os-release").context("failed to read /etc/os-release")?;
    let mut lines = release.lines();
    let suite = lines
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| format!("{name}-backports"))
        .context("/etc/os-release names no suite: install by hand what is missing")?;
    let list = cache::dir()?.join("backports.list");
    fs::write(&list, format!("deb {} {suite} main\n", apt::mirror()?))
        .with_context(|| format!("failed to write {}", list.display()))?;
    let source = format!("Dir::Etc::SourceList={}", list.display());
    let unchecked = "Acquire::Check-Valid-Until=false";
    let options = ["-o", &source, "-o", unchecked];
    apt(&[&options, ["update", "-qq"].as_slice()].concat())?;
    apt(&[&options, install, &["-t", &suite]].concat())
}

/// Runs apt-get, which may ask nothing and start no service.
fn apt(args: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // In the single-user runlevel no service is started: the tests start their
        // own servers, and a stray one would stand in reports on the whole host.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        // dpkg's word is progress; stdout is for results.
        .stdout(Stdio::null());
    toolchain::scrub(&mut apt);
    agent::run(&mut apt).context("apt-get could not install what is missing")
}

/// Whether a program can be started. Servers lie in directories that an ordinary
/// user's `PATH` leaves out.
pub fn is_installed(name: &str) -> bool {
    let in_sbin = || {
        let dirs = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
        dirs.iter()
            .any(|dir| std::path::Path::new(dir).join(name).is_file())
    };
    toolchain::is_in_path(name) || in_sbin()
}
