//! Owns the exactness of every allocator that is known, however it comes into a program.
//! Must not know the agent's inside.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use crate::harness::{
    PATIENCE,
    agent::Agent,
    kernel,
    programs::{self, Build},
    stream::Process,
    truth::assert_exact,
    workload::Workload,
};

/// Where Debian has libraries.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// Traces a workload by pid from before its first block, and compares it with what it knows itself.
#[track_caller]
pub fn assert_seen(command: &mut Command) -> Process {
    assert_seen_with(command, &[])
}

/// The same with more options.
#[track_caller]
pub fn assert_seen_with(command: &mut Command, options: &[&str]) -> Process {
    let mut workload = Workload::run(command);
    let pid = workload.pid_text();
    let agent = Agent::trace(&[&["--pid", &pid], options].concat());
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_exact(&process, &phase.truths);
    workload.finish();
    process
}

/// The names of the allocators that a report tells of.
pub fn allocators(process: &Process) -> Vec<String> {
    let allocators = process.line["allocators"].as_array().unwrap();
    let name = |it: &serde_json::Value| it["name"].as_str().unwrap().to_owned();
    allocators.iter().map(name).collect()
}

/// The allocators of the sites, each once.
pub fn allocators_of_sites(process: &Process) -> Vec<String> {
    let sites = process.sites.iter();
    let name = |it: &serde_json::Value| it["allocator"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = sites.map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A program whose malloc is replaced when it is loaded, as C and as C++.
fn preloaded(library: &str, name: &str, operators: &[&str]) {
    let library = Path::new(LIBRARIES).join(library);
    let process =
        assert_seen(Command::new(programs::workload("portable")).env("LD_PRELOAD", &library));
    assert!(allocators(&process).contains(&name.to_owned()));
    assert_eq!(allocators_of_sites(&process), [name]);
    let program = operators_program(&[]);
    let process = assert_seen(
        Command::new(program)
            .args(operators)
            .env("LD_PRELOAD", &library),
    );
    assert_eq!(allocators_of_sites(&process), [name]);
}

fn operators_program(flags: &[&str]) -> std::path::PathBuf {
    let output = format!("operators{}", flags.concat());
    let build = Build::of("c++", "operators.cc", &output);
    build.with(flags).program()
}

/// jemalloc: its operators take the fast path of malloc into themselves.
#[test]
fn jemalloc_preloaded() {
    let library = "/usr/lib/x86_64-linux-gnu/libjemalloc_pic.a";
    let Some(_turn) = kernel::turn_with(library, || ()) else {
        return;
    };
    preloaded("libjemalloc.so.2", "jemalloc", &[]);
}

/// mimalloc, whose malloc and mi_malloc are one function.
#[test]
fn mimalloc_preloaded() {
    let library = "/usr/lib/x86_64-linux-gnu/libmimalloc.so";
    let Some(_turn) = kernel::turn_with(library, || ()) else {
        return;
    };
    preloaded("libmimalloc.so.2.0", "mimalloc", &["no failures"]);
}

/// tcmalloc, whose malloc, tc_malloc and operators are one function.
#[test]
fn tcmalloc_preloaded() {
    let library = "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4";
    let Some(_turn) = kernel::turn_with(library, || ()) else {
        return;
    };
    preloaded("libtcmalloc_minimal.so.4", "tcmalloc", &[]);
}

/// glibc's, and libstdc++'s operators over it: each block counts once, with the operator as its
/// site, also after one that failed by an exception.
#[test]
fn operators_over_glibc() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let process = assert_seen(&mut Command::new(operators_program(&[])));
    assert_eq!(allocators(&process), ["glibc", "c++"]);
    assert_exact_when_linked(&["-static"]);
    assert_exact_when_linked(&["-static-pie"]);
}

#[track_caller]
fn assert_exact_when_linked(flags: &[&str]) {
    let process = assert_seen(&mut Command::new(operators_program(flags)));
    assert_eq!(allocators_of_sites(&process), ["glibc"], "{flags:?}");
}

/// A C library within the program, which maps no other file, at a fixed place and anywhere.
#[test]
fn glibc_linked_statically() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let process = assert_seen(&mut Command::new(programs::static_workload("portable")));
    assert_eq!(allocators(&process), ["glibc"]);
    let anywhere = Build::of("cc", "portable.c", "portable-static-pie");
    assert_seen(&mut Command::new(anywhere.with(&["-static-pie"]).program()));
}

/// musl, as a library and within the program.
#[test]
fn musl() {
    let Some(_turn) = kernel::turn_with("musl-gcc", || ()) else {
        return;
    };
    for (output, flags) in [
        ("portable-musl", [].as_slice()),
        ("portable-musl-static", &["-static"]),
    ] {
        let build = Build::of("musl-gcc", "portable.c", output).with(flags);
        let process = assert_seen(&mut Command::new(build.program()));
        assert_eq!(allocators(&process), ["musl"], "{output}");
    }
}

/// jemalloc's own functions, in the library, and in a program under a prefix beside glibc's malloc.
#[test]
fn jemalloc_by_its_own_functions() {
    let library = "/usr/lib/x86_64-linux-gnu/libjemalloc_pic.a";
    let Some(_turn) = kernel::turn_with(library, || ()) else {
        return;
    };
    let dynamic = Build::of("cc", "extended.c", "extended").with(&["-ljemalloc"]);
    let process = assert_seen(&mut Command::new(dynamic.program()));
    assert_eq!(allocators_of_sites(&process), ["jemalloc"]);
    let archive = prefixed_jemalloc("_rjem_");
    let build = Build::of("cc", "extended.c", "extended-static");
    let build = build.with(&["-DPREFIX=_rjem_", &archive, "-lm"]);
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators(&process), ["jemalloc", "glibc"]);
    assert_eq!(allocators_of_sites(&process), ["jemalloc"]);
}

/// Debian's jemalloc as programs build it into themselves: all that it defines has a prefix.
pub fn prefixed_jemalloc(prefix: &str) -> String {
    let archive = Path::new(LIBRARIES).join("libjemalloc_pic.a");
    let output = programs::scratch().join(format!("lib{prefix}jemalloc.a"));
    let mut command = Command::new("objcopy");
    for name in [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "malloc_usable_size",
        "mallocx",
        "rallocx",
        "xallocx",
        "sallocx",
        "dallocx",
        "sdallocx",
        "nallocx",
        "mallctl",
        "mallctlnametomib",
        "mallctlbymib",
        "malloc_stats_print",
    ] {
        command.arg(format!("--redefine-sym={name}={prefix}{name}"));
    }
    let status = command.arg(&archive).arg(&output).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    output.to_str().unwrap().to_owned()
}

/// mimalloc's own functions.
#[test]
fn mimalloc_by_its_own_functions() {
    let library = "/usr/lib/x86_64-linux-gnu/libmimalloc.so";
    let Some(_turn) = kernel::turn_with(library, || ()) else {
        return;
    };
    let build = Build::of("cc", "mimalloc.c", "mimalloc").with(&["-lmimalloc"]);
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators_of_sites(&process), ["mimalloc"]);
}

/// A Rust program with jemalloc built into it, as `tikv-jemallocator` does.
#[test]
fn jemalloc_in_a_rust_program() {
    let library = "/usr/lib/x86_64-linux-gnu/libjemalloc_pic.a";
    let Some(_turn) = kernel::turn_with(library, || ()) else {
        return;
    };
    let archive = prefixed_jemalloc("_rjem_");
    let build = Build::of("rustc", "rust/allocator.rs", "rust-jemalloc");
    let archive = format!("link-arg={archive}");
    let build = build.with(&["--cfg", "jemalloc", "-C", &archive, "-C", "link-arg=-lm"]);
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators_of_sites(&process), ["jemalloc"]);
}

/// A Rust program with nothing but itself: its C library is in it, at any place in memory.
#[test]
fn glibc_in_a_static_rust_program() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let build = Build::of("rustc", "rust/allocator.rs", "rust-static");
    let build = build.with(&["-C", "target-feature=+crt-static"]);
    let process = assert_seen(&mut Command::new(build.program()));
    assert_eq!(allocators(&process)[0], "glibc");
}

/// redis, whose own count of what it uses is what jemalloc gave it: the traced bytes follow it.
#[test]
fn redis_counts_the_same() {
    let Some(_turn) = kernel::turn_with("redis-server", || ()) else {
        return;
    };
    let socket = programs::scratch().join("redis.sock");
    let _ = std::fs::remove_file(&socket);
    let mut redis = Command::new(programs::find("redis-server").unwrap());
    redis
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket);
    redis.stdout(Stdio::null());
    let mut redis = Killed(redis.spawn().unwrap());
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < deadline, "redis listens");
        std::thread::yield_now();
    }
    let before = used_memory(&socket);
    let pid = redis.0.id().to_string();
    let agent = Agent::trace(&["--pid", &pid]);
    // Sizes that jemalloc has a class for: redis counts in these, and we in what was asked for.
    let mut load = Command::new("redis-benchmark");
    load.arg("-s").arg(&socket);
    load.args(["-q", "-t", "set", "-n", "6000", "-r", "1500", "-d", "16378"]);
    assert!(load.stdout(Stdio::null()).status().unwrap().success());
    let after = used_memory(&socket);
    let process = agent.interrupt().process(redis.0.id());
    let _ = redis.0.kill();
    assert_eq!(process.accuracy(), "exact", "{:#}", process.line);
    let (seen, counted) = (process.figure("live_bytes") as f64, after - before);
    assert!(counted > 10e6, "{before} {after}");
    assert!((seen / counted - 1.0).abs() < 0.02, "{seen} {counted}");
}

/// A child that is killed when the test is over.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn used_memory(socket: &Path) -> f64 {
    let mut command = Command::new("redis-cli");
    command.arg("-s").arg(socket).args(["info", "memory"]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    line.expect("redis tells it").trim().parse().unwrap()
}
