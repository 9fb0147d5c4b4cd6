//! Owns exactness under load: threads that free and resize each other's blocks at full speed.
//! Must not know processes that come and go.

use crate::harness::{agent::Agent, kernel, truth::assert_exact, workload::Workload};

/// Room for what the threads of some seconds make faster than an agent built for debugging reads.
const LARGE_RING: &str = "256MiB";

/// After seconds of threads that free and resize each other's blocks, where addresses change hands
/// within microseconds, exactly the blocks that are left are reported.
fn check_exchange(seconds: &str, threads: &str) {
    let mut workload = Workload::start("exchange", &[seconds, threads]);
    let agent = Agent::trace(&["--pid", &workload.pid_text(), "--ring-size", LARGE_RING]);
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_exact(&process, &phase.truths);
    assert_eq!(process.lost("frees_implied"), 0, "{:#}", process.line);
    workload.finish();
}

/// Two threads, one on each of two processors.
#[test]
fn two_threads() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check_exchange("3", "2");
}

/// More threads than processors, so that they are preempted between a block's end and its record.
#[test]
fn many_threads() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check_exchange("3", "8");
}
