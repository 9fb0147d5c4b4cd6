//! Owns the trace of a whole host: programs that were there, that come and go, that cannot be
//! traced, and whose C library is nobody else's.
//! Must not know how processes come from one another.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::harness::{
    agent::Agent,
    kernel,
    programs::{self, Build},
    stream::Process,
    truth::{assert_exact, assert_exact_at_once, assert_live_at_once},
    workload::Workload,
};

/// Starts programs, a dozen each time, until told to stop; gives how often. With pauses: each of them is reported too,
/// and thousands would be a test of patience.
fn bustle(is_over: &AtomicBool) -> u32 {
    let script = "for i in 1 2 3 4 5; do /bin/ls / | /bin/cat; done";
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).stdout(Stdio::null());
        assert!(shell.status().unwrap().success());
        count += 1;
        thread::sleep(Duration::from_millis(100));
    }
    count
}

/// While other programs start and stop, a process that leaks is reported exactly, whether it was
/// there before the trace or came later, and whether it is still there or not.
#[test]
fn programs_come_and_go() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let others = Arc::clone(&is_over);
    let bustle = thread::spawn(move || bustle(&others));
    let mut older = Workload::start("steps", &[]);
    // Others may allocate without pause, such as a compiler beside the tests.
    let agent = Agent::trace(&["--ring-size", "256MiB"]);
    let mut newer = Workload::start("entry_points", &[]);
    let mut brief = Workload::start("steps", &[]);
    older.talk.say("alloc 1000 100");
    older.talk.hear("did ");
    brief.talk.say("alloc 30 77");
    brief.talk.hear("did ");
    let brief_pid = brief.pid();
    let of_brief = brief.talk.phase();
    brief.finish();
    let of_newer = newer.talk.phase();
    let of_older = older.talk.phase();
    let stream = agent.interrupt();
    is_over.store(true, Ordering::Relaxed);
    assert!(bustle.join().unwrap() > 1, "nothing else happened");
    assert_exact(&stream.process(older.pid()), &of_older.truths);
    assert_exact_at_once(&stream.process(newer.pid()), &of_newer.truths);
    let brief = stream.process(brief_pid);
    assert_exact(&brief, &of_brief.truths);
    assert!(brief.has_exited());
    assert_eq!(brief.name(), "steps");
}

/// A program without symbols is listed as not covered, with a reason and without a figure.
fn assert_not_covered(process: &Process) {
    let line = &process.line;
    assert_eq!(line["coverage"], "none", "{line:#}");
    let reason = line["coverage_reason"].as_str().unwrap();
    assert!(reason.contains("statically linked"), "{reason}");
    assert_eq!(line.get("live_bytes"), None, "{line:#}");
    assert_eq!(line.get("live_count"), None, "{line:#}");
    assert!(process.sites.is_empty(), "{:#?}", process.sites);
}

/// So it is whether it was there before the trace or came later.
#[test]
fn stripped_static_programs_are_not_covered() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let program = programs::stripped_workload("entry_points");
    let mut older = Workload::run(&mut Command::new(&program));
    let agent = Agent::trace(&[]);
    let mut newer = Workload::run(&mut Command::new(&program));
    older.talk.phase();
    newer.talk.phase();
    let stream = agent.interrupt();
    assert_not_covered(&stream.process(older.pid()));
    assert_not_covered(&stream.process(newer.pid()));
}

/// A copy of the C library that no other process maps, in a directory of its own.
fn copied_libc(name: &str) -> PathBuf {
    let directory = programs::scratch().join(name);
    // A file of its own each time: an old one may still be mapped.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    fs::copy(programs::libc(), directory.join("libc.so.6")).unwrap();
    directory
}

fn with_libc(directory: &Path, name: &str) -> Workload {
    let mut command = Command::new(programs::workload(name));
    Workload::run(command.env("LD_LIBRARY_PATH", directory))
}

fn assert_uses(process: &Process, directory: &Path) {
    let path = process.line["allocators"][0]["path"].as_str().unwrap();
    assert!(path.starts_with(&*directory.to_string_lossy()), "{path}");
}

/// A C library that only one process maps, and mapped before the trace, is traced exactly.
#[test]
fn a_libc_of_its_own_before_the_trace() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let directory = copied_libc("libc-before");
    let mut workload = with_libc(&directory, "entry_points");
    let agent = Agent::trace(&[]);
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_exact_at_once(&process, &phase.truths);
    assert_uses(&process, &directory);
    workload.finish();
}

/// A program without an allocator that anybody may have written and that bears the build id of the C library; killed
/// when dropped.
struct Impostor(Child);

impl Impostor {
    fn start() -> Self {
        let mut readelf = Command::new("readelf");
        let notes = readelf.arg("-n").arg(programs::libc()).output().unwrap();
        let notes = String::from_utf8(notes.stdout).unwrap();
        let build_id = notes.split("Build ID: ").nth(1).unwrap();
        let build_id = build_id.split_whitespace().next().unwrap();
        let build = Build::of("cc", "silent.c", "impostor");
        let note = format!("-Wl,--build-id=0x{build_id}");
        let program = build.with(&["-nostdlib", "-static", &note]).program();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
        Self(Command::new(program).spawn().unwrap())
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that appears during the trace is found and probed, also after a file of a stranger with the same build id turned
/// out to have no allocator. What its first process did before that was not seen, and its report says so; the next
/// process has it from the start.
#[test]
fn a_libc_of_its_own_during_the_trace() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let directory = copied_libc("libc-during");
    let mut agent = Agent::trace(&["--interval", "100ms"]);
    let impostor = Impostor::start();
    agent.await_process(impostor.0.id(), |line| line["coverage"] == "none");
    let mut first = with_libc(&directory, "entry_points");
    agent.await_process(first.pid(), |line| line["coverage"] == "full");
    let of_first = first.talk.phase();
    let mut second = with_libc(&directory, "entry_points");
    let of_second = second.talk.phase();
    let stream = agent.interrupt();
    let process = stream.process(first.pid());
    assert_eq!(process.accuracy(), "lossy", "{:#}", process.line);
    assert_eq!(process.lost("attached_late"), 1, "{:#}", process.line);
    assert_live_at_once(&process, &of_first.truths);
    assert_uses(&process, &directory);
    let process = stream.process(second.pid());
    assert_exact_at_once(&process, &of_second.truths);
    assert_uses(&process, &directory);
}

/// Processes are chosen by name, those that come later too, and nobody else is reported.
#[test]
fn chosen_by_name() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut chosen = Workload::start("entry_points", &[]);
    let mut other = Workload::start("steps", &[]);
    let agent = Agent::trace(&["--comm", "entry_po*"]);
    let phase = chosen.talk.phase();
    other.talk.phase();
    let stream = agent.interrupt();
    assert_exact(&stream.process(chosen.pid()), &phase.truths);
    assert_eq!(stream.last().len(), 1, "{:#?}", stream.last());
}
