//! Owns the exactness of allocators wherever their files lie: loaded while traced, replaced, in memory only, in
//! containers that share a file, in programs that map no library.
//! Must not know the agent's inside.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _},
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::harness::{
    agent::Agent,
    kernel,
    programs::{self, Build},
    truth::{assert_exact, assert_live},
    workload::Workload,
};

/// A library that the tests load.
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";

/// A directory of one test, empty.
fn empty_directory(name: &str) -> PathBuf {
    let path = programs::scratch().join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// An allocator that is loaded while its process is traced is found by itself, and all that is made from then on counts.
#[test]
fn one_that_is_loaded_later() {
    let Some(_turn) = kernel::turn_with(JEMALLOC, || ()) else {
        return;
    };
    let program = Build::of("cc", "dlopened.c", "dlopened").with(&["-ldl"]);
    let mut command = Command::new(program.program());
    command.arg(JEMALLOC);
    // What a library keeps for each thread has little room where it is loaded late.
    command.env("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384");
    let mut workload = Workload::run(&mut command);
    let mut agent = Agent::trace(&["--pid", &workload.pid_text(), "--interval", "100ms"]);
    workload.talk.phase();
    let is_loaded = |line: &serde_json::Value| {
        let allocators = line["allocators"].as_array().unwrap();
        allocators.iter().any(|it| it["name"] == "jemalloc")
    };
    let line = agent.await_process(workload.pid(), is_loaded);
    // What it made before its probes were in place was not seen, and that is told.
    assert_eq!(line["accuracy"]["lost"]["attached_late"], 1, "{line:#}");
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_live(&process, &of_later(&phase.truths, &process.by_function()));
    workload.finish();
}

/// The truths; what the loader itself holds has no site among them and is left out of both.
fn of_later(
    truths: &[crate::harness::workload::Truth],
    reported: &std::collections::BTreeMap<String, (u64, u64)>,
) -> Vec<crate::harness::workload::Truth> {
    let mut truths = truths.to_vec();
    for (function, (live_count, live_bytes)) in reported {
        if function.is_empty() {
            truths.push(crate::harness::workload::Truth {
                pid: truths[0].pid,
                function: String::new(),
                live_count: *live_count,
                live_bytes: *live_bytes,
            });
        }
    }
    truths
}

/// A C library that was replaced under a running process is probed in the file that the process still maps.
#[test]
fn one_that_was_replaced() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let directory = empty_directory("replaced");
    let libc = directory.join("libc.so.6");
    fs::copy(programs::libc(), &libc).unwrap();
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let mut workload = Workload::run(
        Command::new(loader)
            .arg("--library-path")
            .arg(&directory)
            .arg(programs::workload("portable")),
    );
    let fresh = directory.join("fresh");
    fs::write(&fresh, b"not a library").unwrap();
    fs::rename(&fresh, &libc).unwrap();
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_exact(&process, &phase.truths);
    workload.finish();
}

/// A program that lies in memory only, and maps no library.
#[test]
fn one_without_a_path() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let bytes = fs::read(programs::static_workload("portable")).unwrap();
    let memory = memfd_create(c"portable", MFdFlags::empty()).unwrap();
    let mut file = File::from(memory);
    file.write_all(&bytes).unwrap();
    // Executed through a descriptor that cannot write: what is written to is not executed.
    let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    drop(file);
    let readable = readable.into_raw_fd();
    nix::fcntl::fcntl(
        // SAFETY: it was given up just above and is closed by nobody else.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(readable) },
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let mut workload = Workload::run(&mut Command::new(format!("/proc/self/fd/{readable}")));
    // SAFETY: as above; the child has its own.
    drop(unsafe { File::from_raw_fd(readable) });
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_exact(&process, &phase.truths);
    workload.finish();
}

/// A command that maps no library has its probes before its first instruction.
#[test]
fn one_of_a_static_command() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let path = programs::static_workload("portable");
    let (agent, mut talk) = Agent::trace_command(&[], &[path.as_os_str()]);
    let pid = talk.ready();
    let phase = talk.phase();
    let process = agent.interrupt_command().process(pid);
    let reported = process.by_function();
    // What the C library makes before main begins is seen too.
    assert_live(&process, &of_later(&phase.truths, &reported));
    assert_eq!(process.accuracy(), "exact", "{:#}", process.line);
    assert_eq!(process.line["coverage"], "full", "{:#}", process.line);
}

/// Two containers whose images share a layer: each has the very same file under a device number of its own. Each block
/// counts once, in the one that is there already and in the one that comes later.
#[test]
fn one_that_containers_share() {
    let Some(_turn) = kernel::turn_with("musl-gcc", || ()) else {
        return;
    };
    let root = empty_directory("containers");
    let layer = root.join("layer");
    fs::create_dir_all(layer.join("lib")).unwrap();
    let program = Build::of("musl-gcc", "portable.c", "portable-musl").program();
    fs::copy(program, layer.join("portable")).unwrap();
    fs::copy(
        "/usr/lib/x86_64-linux-musl/libc.so",
        layer.join("lib/ld-musl-x86_64.so.1"),
    )
    .unwrap();
    let mut first = container(&root, &layer, "first");
    // No more sites than theirs: whatever else runs here need not be named.
    let options = [
        "trace",
        "--format",
        "json",
        "--min-age",
        "0s",
        "--top",
        "40",
        // Others may allocate without pause, such as a compiler beside the tests.
        "--ring-size",
        "256MiB",
    ];
    let mut agent = Agent::spawn(&options);
    agent.await_stderr("leaktrace: tracing ");
    let mut second = container(&root, &layer, "second");
    let first_phase = first.talk.phase();
    let second_phase = second.talk.phase();
    let stream = agent.interrupt();
    let process = stream.process(first.pid());
    assert_exact(&process, &first_phase.truths);
    let process = stream.process(second.pid());
    assert_live(&process, &second_phase.truths);
    first.finish();
    second.finish();
}

/// The workload in a mount namespace and a root of its own, which lies on a layer that others share.
fn container(root: &Path, layer: &Path, name: &str) -> Workload {
    let own = root.join(name);
    for part in ["upper", "work", "merged"] {
        fs::create_dir_all(own.join(part)).unwrap();
    }
    let script = "mount -t overlay overlay -o \"lowerdir=$1,upperdir=$2/upper,workdir=$2/work\" \"$2/merged\" \
                  && exec chroot \"$2/merged\" /portable";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.args([layer.as_os_str(), own.as_os_str() as &OsStr]);
    Workload::run(&mut command)
}
