//! Owns the programs that only the tests need: real servers to trace.
//! Must not know what the tests do with them.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{agent, golang, toolchain};

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
    TestProgram {
        name: "pip3",
        package: "python3-pip",
    },
    TestProgram {
        name: "npm",
        package: "npm",
    },
    // It looks at the pages of reports.
    TestProgram {
        name: "chromium",
        package: "chromium",
    },
];

/// The names of the programs that this machine lacks.
pub fn missing() -> Vec<String> {
    let mut missing = missing_packages();
    missing.extend(golang::missing());
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
    golang::ensure()
}

fn ensure_packages() -> Result<()> {
    let packages: Vec<_> = absent().map(|program| program.package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let names = missing_packages().join(", ");
    if !toolchain::is_in_path("apt-get") {
        bail!("{names} missing, and there is no apt-get: install them by other means");
    }
    if !agent::is_root() {
        bail!("{names} missing: run `cargo xtask setup --test-programs` as root");
    }
    eprintln!("xtask: installing {} for the tests", packages.join(", "));
    // A fresh machine has no package lists, or old ones that name files long gone.
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(packages);
    apt(&install)?;
    let left = missing_packages();
    if !left.is_empty() {
        bail!(
            "{} still missing after apt-get install: install them by hand",
            left.join(", ")
        );
    }
    Ok(())
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
    agent::run(&mut apt).context("apt-get could not install the tests' programs")
}

/// Whether a program can be started. Servers lie in directories that an ordinary
/// user's `PATH` leaves out.
fn is_installed(name: &str) -> bool {
    let in_sbin = || {
        let dirs = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
        dirs.iter()
            .any(|dir| std::path::Path::new(dir).join(name).is_file())
    };
    toolchain::is_in_path(name) || in_sbin()
}
