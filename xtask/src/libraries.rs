//! Owns the C libraries and allocators that tests link programs with, of other releases than this machine's.
//! Must not know what the tests do with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{agent, cache, toolchain};

/// One of them, in a directory of the cache.
struct Library {
    /// The directory, which the tests know.
    name: &'static str,
    /// A file in there that programs are linked with.
    proof: &'static str,
    install: fn(&Path) -> Result<()>,
}

/// The oldest and the newest glibc that is promised, musl with its first malloc, and Google's tcmalloc.
const LIBRARIES: [Library; 4] = [
    Library {
        name: "glibc-2.31",
        proof: "lib/x86_64-linux-gnu/libc-2.31.so",
        install: |staging| unpack_glibc("bullseye", staging),
    },
    Library {
        name: "glibc-2.41",
        proof: "usr/lib/x86_64-linux-gnu/libc.so.6",
        install: |staging| unpack_glibc("trixie", staging),
    },
    Library {
        name: "musl-1.1.24",
        proof: "libc.a",
        install: take_musl,
    },
    Library {
        name: "tcmalloc-0.1.14",
        proof: "libtcmalloc.a",
        install: build_tcmalloc,
    },
];

/// The last release of Rust whose musl target has 1.1.24: since 1.71 it has 1.2.3, whose malloc is another.
/// <https://blog.rust-lang.org/2023/05/09/Updating-musl-targets>
const RUST_OF_MUSL: &str = "1.70.0";

/// A crate that has the source of Google's tcmalloc, without Bazel.
const TCMALLOC_CRATE: &str = "libtcmalloc-sys";
const TCMALLOC_VERSION: &str = "0.1.14";

impl Library {
    fn is_there(&self, cache: &Path) -> bool {
        cache.join(self.name).join(self.proof).is_file()
    }
}

/// What this machine lacks.
pub fn missing() -> Vec<String> {
    let cache = cache::dir().unwrap_or_default();
    let absent = LIBRARIES.iter().filter(|it| !it.is_there(&cache));
    absent.map(|it| it.name.to_owned()).collect()
}

/// Installs what is missing into the cache.
///
/// # Errors
/// Fails where apt, rustup or cargo do, or what they brought is not what it was.
pub fn ensure() -> Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    let cache = cache::dir()?;
    let _lock = cache::lock(&cache)?;
    for library in &LIBRARIES {
        // Another clone may have finished the same work while this one waited.
        if library.is_there(&cache) {
            continue;
        }
        eprintln!("xtask: installing {}", library.name);
        let staging = cache::staging_dir(&cache)?;
        (library.install)(&staging)
            .with_context(|| format!("failed to install {}", library.name))?;
        anyhow::ensure!(
            staging.join(library.proof).is_file(),
            "{} has no {}: is it another release by now?",
            library.name,
            library.proof
        );
        cache::publish(&staging, &cache.join(library.name))?;
    }
    Ok(())
}

/// Debian's C library of a release, unpacked and not installed.
fn unpack_glibc(suite: &str, staging: &Path) -> Result<()> {
    let apt = Apt::of("deb", suite, staging)?;
    agent::run(
        apt.command("apt-get")
            .args(["download", "-qq", "libc6:amd64"]),
    )?;
    apt.remove()?;
    let files = fs::read_dir(staging).context("failed to list what apt brought")?;
    let mut files = files.flatten().map(|entry| entry.path());
    let deb = files
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .context("apt brought no package")?;
    agent::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(staging))?;
    fs::remove_file(&deb).context("failed to remove the unpacked package")
}

/// The C library that an old Rust links into programs, without the toolchain that brings it.
fn take_musl(staging: &Path) -> Result<()> {
    let home = staging.join("rustup");
    let mut rustup = Command::new("rustup");
    rustup
        .args(["toolchain", "install", RUST_OF_MUSL])
        .args(["--profile", "minimal", "--no-self-update"])
        .args(["--target", "x86_64-unknown-linux-musl"])
        .env("RUSTUP_HOME", &home)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    toolchain::scrub(&mut rustup);
    agent::run(&mut rustup)?;
    let toolchain = format!("{RUST_OF_MUSL}-x86_64-unknown-linux-gnu");
    let linked = home
        .join("toolchains")
        .join(toolchain)
        .join("lib/rustlib/x86_64-unknown-linux-musl/lib/self-contained");
    for entry in fs::read_dir(&linked).context("failed to list what rustup brought")? {
        let entry = entry.context("failed to list what rustup brought")?;
        fs::rename(entry.path(), staging.join(entry.file_name()))
            .context("failed to take a file out of rustup's")?;
    }
    fs::remove_dir_all(&home).context("failed to remove rustup's home")
}

/// tcmalloc as one archive, which a program's linker takes.
fn build_tcmalloc(staging: &Path) -> Result<()> {
    let project = staging.join("project");
    fs::create_dir_all(project.join("src")).context("failed to create a project")?;
    let manifest = format!(
        "[package]\nname = \"tcmalloc\"\nedition = \"2024\"\n[dependencies]\n\
         {TCMALLOC_CRATE} = \"={TCMALLOC_VERSION}\"\n[workspace]\n"
    );
    fs::write(project.join("Cargo.toml"), manifest).context("failed to write a manifest")?;
    fs::write(project.join("src/lib.rs"), "").context("failed to write a library")?;
    let target = project.join("target");
    let mut cargo = toolchain::command("cargo");
    cargo
        .args(["build", "--release", "--quiet"])
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .current_dir(&project)
        .stdin(Stdio::null());
    agent::run(&mut cargo)?;
    let archive = find_archive(&target.join("release/build")).context("cargo left no archive")?;
    fs::rename(archive, staging.join("libtcmalloc.a")).context("failed to take the archive")?;
    fs::remove_dir_all(&project).context("failed to remove the project")
}

/// What the crate's build script made.
fn find_archive(builds: &Path) -> Option<PathBuf> {
    let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let outputs = list(builds).map(|entry| entry.path().join("out"));
    let mut files =
        outputs.flat_map(|out| list(&out).map(|entry| entry.path()).collect::<Vec<_>>());
    files.find(|path| path.extension().is_some_and(|it| it == "a"))
}
