//! Owns the names in stacks that are hard to come by: of programs that are gone, of generated code, of stripped code.
//! Must not know the agent's inside.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    harness::{PATIENCE, agent::Agent, kernel, programs, stream::Process, workload::Workload},
    oracle::subjects,
};

/// The functions of each stack, innermost first.
fn stacks(process: &Process) -> Vec<Vec<String>> {
    let stack = |site: &serde_json::Value| -> Vec<String> {
        let frames = site["stack"].as_array().unwrap();
        let name = |frame: &serde_json::Value| frame["function"].as_str().unwrap_or("?").to_owned();
        frames.iter().map(name).collect()
    };
    process.sites.iter().map(stack).collect()
}

/// A program that lives for less than 50 ms, and whose file is gone before anyone can look, has its stacks named up to
/// `main`, and its figures are exact.
#[test]
fn a_brief_program_is_named() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let path = programs::scratch().join("brief-copy");
    fs::copy(programs::workload("brief"), &path).unwrap();
    // Others may allocate without pause, such as a compiler beside the tests.
    let agent = Agent::trace(&["--ring-size", "256MiB"]);
    let mut lived = Duration::MAX;
    let mut pids = Vec::new();
    // Until one was as brief as that, which a busy machine can delay.
    while pids.len() < 5 || (lived >= Duration::from_millis(50) && pids.len() < 100) {
        let began = Instant::now();
        let mut child = Command::new(&path).spawn().unwrap();
        pids.push(child.id());
        assert!(child.wait().unwrap().success());
        lived = lived.min(began.elapsed());
    }
    fs::remove_file(&path).unwrap();
    let stream = agent.interrupt();
    assert!(lived < Duration::from_millis(50), "it lives for {lived:?}");
    for pid in pids {
        let process = stream.process(pid);
        assert_eq!(
            process.by_function()["site_brief"],
            (25, 2500),
            "{:#?}",
            process.sites
        );
        let stacks = stacks(&process);
        let known = stacks.iter().find(|it| it[0] == "site_brief").unwrap();
        assert_eq!(known[..3], ["site_brief", "between", "main"], "{stacks:#?}");
    }
}

const NODE: &str = "
function namedByItself(n) { return n ? namedByItself(n - 1) : Buffer.allocUnsafeSlow(20000); }
globalThis.kept = [];
process.stdin.once('data', () =>
  setInterval(() => { if (kept.length < 2000) kept.push(namedByItself(3)); else console.log('full'); }, 1));
console.log('ready');
";

/// Code that node generates has the names that it writes with `--perf-basic-prof`, also when the report comes after
/// its end and the map has been removed.
#[test]
fn generated_code_is_named() {
    let Some(_turn) = kernel::turn_with("node", || ()) else {
        return;
    };
    let mut command = Command::new(programs::find("node").unwrap());
    command.args(["--perf-basic-prof", "-e", NODE]);
    assert_generated_is_named(&mut command, "namedByItself");
}

const PYTHON: &str = "
import sys
def named_by_itself():
    return bytearray(20000)
print('ready', flush=True)
sys.stdin.readline()
kept = [named_by_itself() for _ in range(2000)]
print('full', flush=True)
sys.stdin.readline()
";

/// The same of Python's functions: since 3.12 it makes some code for each, with `-X perf`, and writes what it is called.
#[test]
fn functions_of_python_are_named() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let libraries = "glibc-2.41/usr/lib/x86_64-linux-gnu";
    let Some(libc) = programs::kept(libraries, || ()) else {
        return;
    };
    let Some(python) = programs::kept("python-3.13/usr", || ()) else {
        return;
    };
    // Its C library is newer than the host's.
    let mut command = Command::new(libc.join("ld-linux-x86-64.so.2"));
    let beside = python.join("lib/x86_64-linux-gnu");
    let searched = format!("{}:{}", libc.display(), beside.display());
    command.args(["--library-path", &searched]);
    command.arg(python.join("bin/python3.13"));
    command.args(["-I", "-X", "perf", "-c", PYTHON]);
    assert_generated_is_named(&mut command, "py::named_by_itself:<string>");
}

/// A program says `ready`, and `full` once it has made its blocks in generated code of this name.
#[track_caller]
fn assert_generated_is_named(command: &mut Command, function: &str) {
    // Node leaves a log of its own, too, where it runs.
    command.current_dir(programs::scratch());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let agent = Agent::trace(&["--pid", &pid.to_string()]);
    // Only now, however long it took to attach.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while lines.next().is_some_and(|line| line.unwrap() != "full") {
        assert!(Instant::now() < deadline);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(format!("/tmp/perf-{pid}.map")).unwrap();
    let ended = agent.wait();
    let stacks = stacks(&ended.stream().process(pid));
    let names: BTreeSet<&String> = stacks.iter().flatten().collect();
    assert!(
        names.iter().any(|name| name.contains(function)),
        "{names:#?}"
    );
}

/// A release build of Rust, linked by lld, has the names of its functions: its code is mapped with another shift than
/// its first segment.
#[test]
fn rust_by_lld_is_named() {
    let Some(_turn) = kernel::turn_with("cc", || ()) else {
        return;
    };
    let subject = subjects::rust();
    let agent = Agent::trace(&["--pid", &subject.pid.to_string()]);
    // It makes thousands of blocks in that time; those that live at its end are named.
    std::thread::sleep(Duration::from_millis(500));
    let process = agent.interrupt().process(subject.pid);
    let stacks = stacks(&process);
    let names: Vec<&String> = stacks.iter().flatten().collect();
    let ours = names.iter().filter(|name| name.contains("tasks::")).count();
    assert!(ours > 0, "{stacks:#?}");
    let nameless = names
        .iter()
        .filter(|name| **name == "?" || name.contains("!sub_"));
    assert_eq!(nameless.count(), 0, "{stacks:#?}");
}

/// A library that a program loads while it runs is unwound 100 ms later, to `main` and beyond, although it keeps no
/// frame pointer.
#[test]
fn a_library_loaded_late_is_unwound() {
    let Some(_turn) = kernel::turn_with("cc", || ()) else {
        return;
    };
    let flags = [
        "-O2",
        "-fomit-frame-pointer",
        "-shared",
        "-fPIC",
        "-DPLUGIN",
    ];
    let library = subjects::compiled(Path::new("cc"), &flags, "plugin.c", "plugin.so");
    let mut workload = Workload::start("plugin", &[library.to_str().unwrap()]);
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let _ = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    workload.finish();
    let of_plugin = |site: &&serde_json::Value| {
        let frames = site["stack"].as_array().unwrap();
        frames
            .iter()
            .any(|frame| frame["function"] == "site_plugin")
    };
    let sites: Vec<_> = process.sites.iter().filter(of_plugin).collect();
    let blocks: u64 = sites
        .iter()
        .map(|site| site["live_count"].as_u64().unwrap())
        .sum();
    assert_eq!(blocks, 10, "{:#?}", process.sites);
    for site in sites {
        assert_eq!(site.get("stack_truncated"), None, "{site:#}");
        let frames = site["stack"].as_array().unwrap();
        assert!(
            frames.iter().any(|frame| frame["function"] == "main"),
            "{site:#}"
        );
    }
}
