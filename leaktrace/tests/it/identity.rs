//! Owns who is who: a pid that is used again is another process.
//! Must not know what else processes do.

use crate::harness::{agent::Agent, kernel, stream::Process, workload::Workload};

/// Two processes that had one pid, one after the other, are two in the report, each with its own
/// blocks and its own start time.
#[test]
fn a_pid_that_is_used_again() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let agent = Agent::trace(&[]);
    let mut workload = Workload::start("reuse", &[]);
    let phase = workload.talk.phase();
    let pid = phase.pids()[0];
    let stream = agent.interrupt();
    let mut processes: Vec<Process> = stream.last();
    processes.retain(|process| process.pid() == pid);
    // They told their truths in the order of their lives.
    processes.sort_by_key(Process::identity);
    assert_eq!(processes.len(), 2, "{processes:#?}");
    for (process, truth) in processes.iter().zip(&phase.truths) {
        crate::harness::truth::assert_exact(process, std::slice::from_ref(truth));
        assert!(process.has_exited(), "{:#}", process.line);
        assert_eq!(process.name(), "reuse");
    }
    workload.finish();
}
