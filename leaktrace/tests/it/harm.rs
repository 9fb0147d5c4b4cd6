//! Owns what happens to programs when the agent goes, in whatever way, and to the agent when they
//! do.
//! Must not know what is in a report.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{
    agent::{self, Agent},
    kernel, programs,
    stream::Stream,
    workload::{Talk, Workload},
};

/// How much dearer a pair may be once the agent is gone: what two windows differ by anyway.
const NOISE: f64 = 1.5;

/// A ring that even an agent built for debugging, on a busy machine, reads within moments: what is
/// lost is not these tests' matter.
const SMALL_RING: &str = "1MiB";

/// CPU nanoseconds of a malloc and its free, over the median of the next windows.
fn ns_per_pair(talk: &mut Talk) -> f64 {
    const WINDOWS: usize = 5;
    let mut costs: Vec<f64> = (0..WINDOWS).map(|_| next_window(talk)).collect();
    costs.sort_by(f64::total_cmp);
    costs[WINDOWS / 2]
}

fn next_window(talk: &mut Talk) -> f64 {
    let line = talk.hear("churn ");
    let window: Value = serde_json::from_str(&line["churn ".len()..]).unwrap();
    window["cpu_ns_per_pair"].as_f64().unwrap()
}

/// Passes over the windows of before, and over the one in which the agent ended: it is of both
/// kinds.
fn skip_window(talk: &mut Talk) {
    talk.forget();
    next_window(talk);
}

/// Waits until probes make pairs dear, and gives how many times dearer a pair then is.
fn await_probes(talk: &mut Talk, before: f64) {
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while next_window(talk) < before * 3.0 {
        assert!(Instant::now() < deadline, "the probes cost nothing");
    }
}

/// After an agent's end by a signal the program runs on at its speed of before.
fn check_speed_after(end: Signal) -> agent::Ended {
    let mut workload = Workload::start("churn", &["0", "2", "600", "0.2"]);
    let before = ns_per_pair(&mut workload.talk);
    let agent = Agent::trace(&["--pid", &workload.pid_text(), "--ring-size", SMALL_RING]);
    await_probes(&mut workload.talk, before);
    agent.signal(end);
    let ended = agent.wait();
    skip_window(&mut workload.talk);
    let after = ns_per_pair(&mut workload.talk);
    assert!(
        after < before * NOISE,
        "a pair cost {before} ns before and {after} ns after {end}"
    );
    ended
}

/// Killed without a chance to clean up.
#[test]
fn killed_at_full_speed() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    assert_eq!(check_speed_after(Signal::SIGKILL).code, None);
}

/// Asked to end by a supervisor: the report is written.
#[test]
fn terminated_at_full_speed() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    assert_eq!(
        check_speed_after(Signal::SIGTERM).stream().report_count(),
        1
    );
}

/// Ctrl-C: the report is written.
#[test]
fn interrupted_at_full_speed() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    assert_eq!(check_speed_after(Signal::SIGINT).stream().report_count(), 1);
}

/// A program that nobody waits for any more; killed when dropped.
struct Outliving(Pid);

impl Drop for Outliving {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// A command outlives an agent that is killed, at full speed.
#[test]
fn a_command_outlives_its_agent() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let path = programs::workload("churn");
    let words = [
        path.as_os_str(),
        "0".as_ref(),
        "2".as_ref(),
        "600".as_ref(),
        "0.2".as_ref(),
    ];
    let (agent, mut talk) = Agent::trace_command(&[], &words);
    let _outliving = Outliving(Pid::from_raw(talk.ready().cast_signed()));
    let traced = ns_per_pair(&mut talk);
    agent.signal(Signal::SIGKILL);
    assert_eq!(agent.wait_alone().code, None);
    skip_window(&mut talk);
    let alone = ns_per_pair(&mut talk);
    assert!(
        alone * 3.0 < traced,
        "a pair cost {traced} ns traced and {alone} ns alone"
    );
}

/// A target's end is no error: the trace ends with it, and the report says so.
#[test]
fn a_target_that_exits() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("steps", &[]);
    let pid = workload.pid();
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    workload.finish();
    let stream = agent.wait().stream();
    assert_eq!(stream.reason(), "targets exited");
    assert!(stream.process(pid).has_exited());
}

/// A target that is killed is one that exits.
#[test]
fn a_target_that_is_killed() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("churn", &["0", "4"]);
    let pid = workload.pid();
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    drop(workload);
    let stream = agent.wait().stream();
    assert_eq!(stream.reason(), "targets exited");
    assert!(stream.process(pid).has_exited());
}

/// Agents that come and go, some of them killed, do not disturb threads that never stop.
#[test]
fn attached_and_detached_under_load() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("exchange", &["600", "4"]);
    workload.talk.say("");
    for round in 0..20 {
        let agent = Agent::trace(&["--pid", &workload.pid_text(), "--ring-size", SMALL_RING]);
        if round % 4 == 3 {
            agent.signal(Signal::SIGKILL);
            assert_eq!(agent.wait().code, None);
        } else {
            let stream: Stream = agent.interrupt();
            assert!(!stream.process(workload.pid()).has_exited());
        }
    }
    workload.assert_runs();
}

/// The time that was asked for is the time that it takes, and then the report comes.
#[test]
fn a_duration_ends_the_trace() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("steps", &[]);
    let began = Instant::now();
    let agent = Agent::trace(&["--pid", &workload.pid_text(), "--duration", "700ms"]);
    let stream = agent.wait().stream();
    assert_eq!(stream.reason(), "duration");
    assert!(began.elapsed() >= Duration::from_millis(700));
    workload.finish();
}
