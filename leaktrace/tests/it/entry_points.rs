//! Owns the exactness of every entry point of the allocator, and of blocks older than the trace.
//! Must not know threads or children.

use crate::harness::{agent::Agent, kernel, programs, truth::assert_exact, workload::Workload};

/// Each site of each entry point holds what the program says, attached while it waits.
#[test]
fn attached_while_it_waits() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("entry_points", &[]);
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let phase = workload.talk.phase();
    let stream = agent.interrupt();
    assert_eq!(stream.reason(), "signal");
    let process = stream.process(workload.pid());
    assert_exact(&process, &phase.truths);
    assert_eq!(process.name(), "entry_points");
    assert_eq!(process.figure("freed_untraced_count"), 0);
    workload.finish();
}

/// The same from the first allocation of a command, which runs on after the report.
#[test]
fn from_the_first_allocation() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let path = programs::workload("entry_points");
    let (agent, mut talk) = Agent::trace_command(&[], &[path.as_os_str()]);
    let pid = talk.ready();
    let phase = talk.phase();
    let process = agent.interrupt_command().process(pid);
    assert_exact(&process, &phase.truths);
    assert_eq!(process.figure("freed_untraced_count"), 0);
    assert!(!process.has_exited(), "{:#}", process.line);
}

/// A command's end is the end of the trace, and what it never freed is in the report.
#[test]
fn a_command_that_ends() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let path = programs::workload("entry_points");
    let (agent, mut talk) = Agent::trace_command(&[], &[path.as_os_str()]);
    let pid = talk.ready();
    let phase = talk.phase();
    talk.close();
    let stream = agent.wait_command();
    assert_eq!(stream.reason(), "targets exited");
    let process = stream.process(pid);
    assert_exact(&process, &phase.truths);
    assert!(process.has_exited(), "{:#}", process.line);
}

/// Blocks older than the trace are no blocks of it: given back they are counted apart, resized
/// they become blocks of the caller of realloc.
#[test]
fn blocks_older_than_the_trace() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("older", &[]);
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_exact(&process, &phase.truths);
    let untraced = phase.note("untraced ");
    assert_eq!(
        process.line["freed_untraced_count"],
        untraced["freed_count"]
    );
    workload.finish();
}
