//! Owns the exactness of C libraries and allocators of other releases than the host's, and of Python's libraries that bring
//! allocators of their own.
//! Must not know the agent's inside.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    allocators::{allocators, allocators_of_sites, assert_seen},
    harness::{
        agent::Agent,
        kernel,
        programs::{self, Build},
        truth::assert_exact,
        workload::Workload,
    },
};

/// The oldest and the newest glibc that is promised, as Debian has them, and where they lie in its packages.
pub const GLIBC: [(&str, &str); 2] = [
    ("2.31", "lib/x86_64-linux-gnu"),
    ("2.41", "usr/lib/x86_64-linux-gnu"),
];

/// A program that is loaded by another release's loader, and linked with its C library.
pub fn with_glibc(workload: &str, version: &str, library: &Path) -> PathBuf {
    let file = |name: &str| library.join(name).to_str().unwrap().to_owned();
    let loader = file("ld-linux-x86-64.so.2");
    let chosen = format!("-Wl,--dynamic-linker={loader},-rpath={}", library.display());
    let output = format!("{workload}-glibc-{version}");
    let build = Build::of("cc", &format!("{workload}.c"), &output).with(&["-nodefaultlibs"]);
    // Threads had a library of their own until 2.34.
    let files = [file("libc.so.6"), file("libpthread.so.0"), loader];
    let files = files.each_ref().map(String::as_str);
    build.with(&files).with(&["-lgcc", &chosen]).program()
}

/// Programs on another glibc are traced exactly, each alone, and beside those on the host's, by name and with the whole
/// host: nothing counts twice, whatever file of that name a process maps.
#[test]
fn glibc_of_other_releases() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut programs = vec![programs::workload("portable")];
    for (version, below) in GLIBC {
        let Some(library) = programs::kept(&format!("glibc-{version}/{below}"), || ()) else {
            return;
        };
        let program = with_glibc("portable", version, &library);
        let process = assert_seen(&mut Command::new(&program));
        assert_eq!(allocators(&process), ["glibc"]);
        let path = process.line["allocators"][0]["path"].as_str().unwrap();
        assert!(path.starts_with(library.to_str().unwrap()), "{path}");
        programs.push(program);
    }
    let named = |workloads: &[Workload]| {
        let pids: Vec<String> = workloads.iter().map(Workload::pid_text).collect();
        let options: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
        Agent::trace(&options)
    };
    assert_each_exact(&programs, named);
    // Others may allocate without pause, such as a compiler beside the tests.
    let whole = |_: &[Workload]| Agent::trace(&["--ring-size", "256MiB"]);
    assert_each_exact(&programs, whole);
}

/// What programs allocate at once is seen exactly, of each.
#[track_caller]
fn assert_each_exact(programs: &[PathBuf], trace: impl Fn(&[Workload]) -> Agent) {
    let run = |program: &PathBuf| Workload::run(&mut Command::new(program));
    let mut workloads: Vec<Workload> = programs.iter().map(run).collect();
    let agent = trace(&workloads);
    let told = |it: &mut Workload| it.talk.phase().truths;
    let truths: Vec<_> = workloads.iter_mut().map(told).collect();
    let stream = agent.interrupt();
    for (workload, truths) in workloads.into_iter().zip(truths) {
        assert_exact(&stream.process(workload.pid()), &truths);
        workload.finish();
    }
}

/// musl as it was before it had another malloc (1.2.1): what Alpine had up to 3.12, and Rust put into its programs up to 1.70.
#[test]
fn musl_with_its_first_malloc() {
    let Some(_turn) = kernel::turn_with("musl-gcc", || ()) else {
        return;
    };
    let Some(library) = programs::kept("musl-1.1.24/libc.a", || ()) else {
        return;
    };
    let file = |name: &str| library.with_file_name(name).to_str().unwrap().to_owned();
    let files = ["crt1.o", "crti.o", "libc.a"].map(file);
    let build = Build::of("musl-gcc", "portable.c", "portable-musl-1.1.24");
    let build = build.with(&["-static", "-nostdlib", "-nostartfiles"]);
    let build = build.with(&files.each_ref().map(String::as_str));
    let program = build.with(&["-lgcc", &file("crtn.o")]).program();
    let process = assert_seen(&mut Command::new(&program));
    assert_eq!(allocators(&process), ["musl"]);
}

/// The same as a shared library, which is its own loader: each function of it is called from the program, and by itself.
#[test]
fn musl_with_its_first_malloc_shared() {
    let Some(_turn) = kernel::turn_with("musl-gcc", || ()) else {
        return;
    };
    let Some(library) = programs::kept("musl-1.2.3-oldmalloc/libc.so", || ()) else {
        return;
    };
    let file = |name: &str| library.with_file_name(name).to_str().unwrap().to_owned();
    let build = Build::of("musl-gcc", "portable.c", "portable-musl-shared");
    let build = build.with(&["-nostdlib", "-nostartfiles"]);
    let files = ["crt1.o", "crti.o", "libc.so"].map(file);
    let build = build.with(&files.each_ref().map(String::as_str));
    let loader = format!("-Wl,--dynamic-linker={}", library.display());
    let program = build.with(&["-lgcc", &file("crtn.o"), &loader]).program();
    let process = assert_seen(&mut Command::new(&program));
    assert_eq!(allocators(&process), ["musl"]);
    assert_eq!(
        process.line["allocators"][0]["path"],
        library.to_str().unwrap(),
        "{:#}",
        process.line
    );
}

/// A Rust program with Google's tcmalloc built into it, as the crate `tcmalloc-better` does: every block is given back by a
/// delete that is told its size and alignment.
#[test]
fn googles_tcmalloc_in_a_rust_program() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let Some(archive) = programs::kept("tcmalloc-0.1.14/libtcmalloc.a", || ()) else {
        return;
    };
    let archive = format!("link-arg={}", archive.display());
    let build = Build::of("rustc", "rust/allocator.rs", "rust-tcmalloc");
    let build = build.with(&[
        "--cfg",
        "tcmalloc",
        "-C",
        &archive,
        "-C",
        "link-arg=-lstdc++",
    ]);
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators_of_sites(&process), ["tcmalloc"]);
    assert_eq!(process.line["coverage"], "full", "{:#}", process.line);
}

/// Python that makes tables with a library, traced from before the first: what is live of the library's own allocator
/// follows what the library counts, in parts of a thousand.
#[track_caller]
fn assert_follows(library: &str, pool: &str, allocator: &str, parts: RangeInclusive<u64>) {
    let version = Command::new("python3")
        .args(["-c", "import platform; print(platform.python_version())"])
        .output()
        .unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let home = format!("python-{}-traced-1", version.trim());
    let Some(home) = programs::kept(&home, || ()) else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/tables.py");
    let mut command = Command::new(programs::find("python3").unwrap());
    command.arg(script).arg(library).env("PYTHONPATH", home);
    command.env("ARROW_DEFAULT_MEMORY_POOL", pool);
    let mut workload = Workload::run(&mut command);
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    workload.finish();
    assert_eq!(process.accuracy(), "exact", "{:#}", process.line);
    let told = allocators(&process);
    assert!(told.contains(&allocator.to_owned()), "{told:?}");
    let of_it = |site: &&serde_json::Value| site["allocator"] == allocator;
    let sites = process.sites.iter().filter(of_it);
    let seen: u64 = sites.map(|it| it["live_bytes"].as_u64().unwrap()).sum();
    let counted = phase.note("counted ").as_u64().unwrap();
    assert!(counted > 10_000_000, "{counted}");
    assert!(parts.contains(&(seen * 1000 / counted)), "{seen} {counted}");
}

/// pyarrow's buffers, of either allocator that it has in it, are what it says that it allocated.
#[test]
fn pyarrow_counts_the_same() {
    let Some(_turn) = kernel::turn_with("python3", || ()) else {
        return;
    };
    for allocator in ["mimalloc", "jemalloc"] {
        assert_follows("pyarrow", allocator, allocator, 1000..=1000);
    }
}

/// polars' frames are what it estimates their size to be, and little more: it rounds up what grows.
#[test]
fn polars_counts_the_same() {
    let Some(_turn) = kernel::turn_with("python3", || ()) else {
        return;
    };
    assert_follows("polars", "", "jemalloc", 1000..=1020);
}
