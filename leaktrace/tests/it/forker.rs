//! Owns processes that come from one another: what a child inherits, and what exec and exit end.
//! Must not know processes that have nothing to do with each other.

use std::ffi::OsStr;

use crate::harness::{
    agent::Agent,
    kernel, programs,
    stream::Stream,
    truth::assert_exact,
    workload::{Phase, Workload},
};

/// Every process that told its truth is in the report, exactly and by name; the workload's mode
/// is traced as a command and as part of a host.
fn check(args: &[&str], exited: bool) {
    let path = programs::workload("forker");
    let mut command: Vec<&OsStr> = vec![path.as_os_str()];
    command.extend(args.iter().map(OsStr::new));
    let (agent, mut talk) = Agent::trace_command(&[], &command);
    talk.ready();
    let phase = talk.phase();
    check_processes(&agent.interrupt_command(), &phase, exited);
    talk.close();

    let agent = Agent::trace(&[]);
    let mut workload = Workload::start("forker", args);
    let phase = workload.talk.phase();
    check_processes(&agent.interrupt(), &phase, exited);
    workload.finish();
}

fn check_processes(stream: &Stream, phase: &Phase, exited: bool) {
    for pid in phase.pids() {
        let process = stream.process(pid);
        assert_exact(&process, &phase.of(pid));
        assert_eq!(process.name(), "forker");
        assert_eq!(process.has_exited(), exited, "{:#}", process.line);
    }
}

/// A child has what its parent had, frees it without touching the parent's, and adds its own.
#[test]
fn fork() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check(&["fork"], false);
}

/// All blocks are gone with the image; those of the new one are its own.
#[test]
fn exec() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check(&["exec"], false);
}

/// A child that borrows its parent's memory has nothing of it, and the parent keeps all.
#[test]
fn vfork() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check(&["vfork"], false);
}

/// The same by posix_spawn.
#[test]
fn spawn() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check(&["spawn"], false);
}

/// Children that leak and are gone within milliseconds are reported with their names and blocks.
#[test]
fn short_lived_children() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check(&["short", "20"], true);
}

/// The same, each in a program of its own.
#[test]
fn short_lived_programs() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check(&["short-exec", "20"], true);
}

/// A child of a process traced by its pid is traced a moment after its birth, and the report says
/// so; the parent stays exact.
#[test]
fn fork_of_a_named_process() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("forker", &["fork"]);
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let phase = workload.talk.phase();
    let stream = agent.interrupt();
    for pid in phase.pids() {
        let process = stream.process(pid);
        if pid == workload.pid() {
            assert_exact(&process, &phase.of(pid));
        } else {
            assert_eq!(process.accuracy(), "lossy", "{:#}", process.line);
            assert_eq!(process.lost("attached_late"), 1, "{:#}", process.line);
        }
    }
    workload.finish();
}
