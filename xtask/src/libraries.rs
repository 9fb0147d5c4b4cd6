//! Owns the C libraries and allocators that tests link programs with, and a Python, of other releases than this machine's.
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

/// The oldest and the newest glibc that is promised, musl with its first malloc (as static programs and as shared ones have
/// it), Google's tcmalloc, and a Python that names the code that it makes; it runs on the newest glibc.
const LIBRARIES: [Library; 6] = [
    Library {
        name: "glibc-2.31",
        proof: "lib/x86_64-linux-gnu/libc-2.31.so",
        install: |staging| unpack("bullseye", &["libc6"], staging),
    },
    Library {
        name: "glibc-2.41",
        proof: "usr/lib/x86_64-linux-gnu/libc.so.6",
        install: |staging| unpack("trixie", &["libc6"], staging),
    },
    Library {
        name: "python-3.13",
        proof: "usr/bin/python3.13",
        install: |staging| unpack("trixie", &PYTHON, staging),
    },
    Library {
        name: "musl-1.1.24",
        proof: "libc.a",
        install: take_musl,
    },
    Library {
        name: "musl-1.2.3-oldmalloc",
        proof: "libc.so",
        install: build_musl,
    },
    Library {
        name: "tcmalloc-0.1.14",
        proof: "libtcmalloc.a",
        install: build_tcmalloc,
    },
];

/// What a Python needs that starts and says what it does.
const PYTHON: [&str; 5] = [
    "python3.13-minimal",
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
    "libexpat1",
    "zlib1g",
];

/// The last release of Rust whose musl target has 1.1.24: since 1.71 it has 1.2.3, whose malloc is another.
/// <https://blog.rust-lang.org/2023/05/09/Updating-musl-targets>
const RUST_OF_MUSL: &str = "1.70.0";

/// Debian's release whose source of musl can still be built with its first malloc.
const SUITE_OF_MUSL: &str = "bookworm";

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

/// Debian's packages of a release, unpacked and not installed.
fn unpack(suite: &str, packages: &[&str], staging: &Path) -> Result<()> {
    let apt = Apt::of("deb", suite, staging)?;
    let named = packages.iter().map(|it| format!("{it}:amd64"));
    agent::run(apt.command("apt-get").args(["download", "-qq"]).args(named))?;
    apt.remove()?;
    let files = fs::read_dir(staging).context("failed to list what apt brought")?;
    let files = files.flatten().map(|entry| entry.path());
    let debs: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|it| it == "deb"))
        .collect();
    anyhow::ensure!(debs.len() == packages.len(), "apt brought {debs:?} only");
    for deb in debs {
        agent::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(staging))?;
        fs::remove_file(&deb).context("failed to remove the unpacked package")?;
    }
    Ok(())
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

/// The shared C library, which is its own loader, and what programs begin and end with, with the malloc that Alpine had up
/// to 3.12: musl's `configure` still knows it.
fn build_musl(staging: &Path) -> Result<()> {
    let apt = Apt::of("deb-src", SUITE_OF_MUSL, staging)?;
    let source = ["source", "-qq", "--download-only", "musl"];
    agent::run(apt.command("apt-get").args(source).stdout(Stdio::null()))?;
    apt.remove()?;
    let fetched = fs::read_dir(staging).context("failed to list what apt brought")?;
    let fetched: Vec<PathBuf> = fetched.flatten().map(|entry| entry.path()).collect();
    let archive = fetched
        .iter()
        .find(|path| path.to_string_lossy().ends_with(".orig.tar.gz"))
        .context("apt brought no source")?;
    let source = staging.join("source");
    fs::create_dir_all(&source).context("failed to create a place for the source")?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(archive);
    agent::run(unpack.args(["--strip-components=1", "-C"]).arg(&source))?;
    let mut configure = Command::new("./configure");
    configure.args(["--with-malloc=oldmalloc", "--disable-wrapper", "CFLAGS=-w"]);
    let files = ["libc.so", "crt1.o", "crti.o", "crtn.o"];
    let mut make = Command::new("make");
    make.arg("-j2")
        .args(files.map(|name| format!("lib/{name}")));
    for mut command in [configure, make] {
        toolchain::scrub(&mut command);
        agent::run(command.current_dir(&source).stdout(Stdio::null()))?;
    }
    for name in files {
        fs::rename(source.join("lib").join(name), staging.join(name))
            .with_context(|| format!("failed to take {name}"))?;
    }
    for left in fetched {
        fs::remove_file(&left).with_context(|| format!("failed to remove {}", left.display()))?;
    }
    fs::remove_dir_all(&source).context("failed to remove the source")
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
