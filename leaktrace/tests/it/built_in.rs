//! Owns the exactness of allocators that were built into programs, and what is said of those that cannot be found.
//! Must not know the agent's inside.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    allocators::{
        allocators, allocators_of_sites, assert_seen, assert_seen_with, prefixed_jemalloc,
    },
    harness::{
        agent::Agent,
        kernel,
        programs::{self, Build},
        workload::Workload,
    },
};

/// mimalloc's source as Rust's crate brings it: the agent's own allocator.
fn mimalloc_source() -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--offline",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
        "--locked",
    ]);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = command
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let package = packages.find(|it| it["name"] == "libmimalloc-sys").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    manifest.parent().unwrap().join("c_src/mimalloc/v3")
}

/// A Rust program with mimalloc built into it, as the crate `mimalloc` does: no malloc of its own, but that of its C
/// library beside it.
#[test]
fn mimalloc_in_a_rust_program() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let source = mimalloc_source();
    let object = programs::scratch().join("mimalloc.o");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-O1", "-fPIC", "-DNDEBUG", "-c", "-o"])
        .arg(&object);
    compiler.arg("-I").arg(source.join("include"));
    let status = compiler.arg(source.join("src/static.c")).status().unwrap();
    assert!(status.success(), "{compiler:?}: {status}");
    let build = Build::of("rustc", "rust/allocator.rs", "rust-mimalloc");
    let object = format!("link-arg={}", object.display());
    let build = build.with(&["--cfg", "mimalloc", "-C", "opt-level=3", "-C", &object]);
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators_of_sites(&process), ["mimalloc"]);
    assert_eq!(process.line["coverage"], "full", "{:#}", process.line);
}

/// A Rust program with musl and nothing else in it.
#[test]
fn musl_in_a_static_rust_program() {
    let Some(_turn) = kernel::turn_with("musl-gcc", || ()) else {
        return;
    };
    let build = Build::of("rustc", "rust/bare.rs", "rust-musl");
    let options = ["panic=abort", "linker=musl-gcc", "relocation-model=static"];
    let linked = ["link-arg=-Wl,-static", "link-arg=-lc"];
    let options = options.iter().chain(&linked).flat_map(|it| ["-C", it]);
    let build = build.with(&options.collect::<Vec<_>>());
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators(&process), ["musl"]);
}

/// A Rust program whose allocator has no names of its own is not covered in full, whatever its C library gives out: what
/// every Rust program allocates by may be anywhere.
#[test]
fn one_of_its_own_in_a_rust_program() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let build = Build::of("rustc", "rust/allocator.rs", "rust-bump").with(&["--cfg", "bump"]);
    let mut workload = Workload::run(&mut Command::new(build.program()));
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    workload.finish();
    assert_eq!(process.line["coverage"], "partial", "{:#}", process.line);
    assert_eq!(allocators(&process), ["glibc", "rust"]);
    let reason = process.line["coverage_reason"].as_str().unwrap();
    assert!(reason.starts_with("__rust_alloc of "), "{reason}");
}

/// libc++'s operators, which are another library's than libstdc++'s.
#[test]
fn operators_of_libcxx() {
    let headers = "/usr/include/c++/v1";
    let Some(_turn) = kernel::turn_with("/usr/include/c++/v1/new", || ()) else {
        return;
    };
    let build = Build::of("c++", "operators.cc", "operators-libcxx");
    let build = build.with(&["-nostdinc++", "-isystem", headers, "-nodefaultlibs"]);
    let build = build.with(&["-lc++", "-lc++abi", "-lm", "-lc", "-lgcc_s"]);
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators(&process), ["glibc", "c++"]);
    let path = process.line["allocators"][1]["path"].as_str().unwrap();
    assert!(path.contains("libc++"), "{path}");
}

/// Where return probes do harm, results are had at the instructions by which functions return, and as exactly.
#[test]
fn results_without_return_probes() {
    let Some(_turn) = kernel::turn_with("musl-gcc", || ()) else {
        return;
    };
    let program = Build::of("musl-gcc", "portable.c", "portable-musl").program();
    assert_seen_with(&mut Command::new(program), &["--without-return-probes"]);
}

/// A program that has an allocator without any symbol beside the C library's is not covered in full: its figures would
/// be a small part of the truth.
#[test]
fn one_without_symbols_is_not_passed_over() {
    let library = "/usr/lib/x86_64-linux-gnu/libjemalloc_pic.a";
    let Some(_turn) = kernel::turn_with(library, || ()) else {
        return;
    };
    let archive = prefixed_jemalloc("_rjem_");
    let build = Build::of("cc", "extended.c", "extended-bare");
    let build = build.with(&["-s", "-DPREFIX=_rjem_", &archive, "-lm"]);
    let mut workload = Workload::run(&mut Command::new(build.program()));
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    workload.finish();
    assert_eq!(process.line["coverage"], "partial", "{:#}", process.line);
    assert_eq!(allocators(&process), ["glibc", "jemalloc"]);
    let reason = process.line["coverage_reason"].as_str().unwrap();
    assert!(reason.contains("jemalloc built in, stripped"), "{reason}");
}
