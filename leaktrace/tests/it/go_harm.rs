//! Owns the proof that Go programs do not notice: agents that come and go or are killed, while thousands of
//! goroutines grow their stacks and verify what they made.
//! Must not know how exact a report is.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::{
    harness::{
        agent::{self, Agent},
        golang::{self, Link, VERSIONS},
        kernel,
        stream::Stream,
        workload::Workload,
    },
    watch::await_untouched_code,
};

/// A ring that a slow agent empties within moments: what is lost is not these tests' matter.
const SMALL_RING: &str = "1MiB";

/// How an agent ends in a round, and whether that is in the middle of the programs' work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    InterruptedAtWork,
    Interrupted,
}

/// Every version, with thousands of goroutines whose stacks grow: agents are attached in the middle of it, end
/// in the middle of it or are killed, and each program's own results are right to its end.
#[test]
fn stressed_programs_outlive_agents_that_come_and_go() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    golang::build(VERSIONS.into_iter().map(|it| (it, "stress", Link::Plain)));
    let start = |version| Workload::run(&mut Command::new(program(version)));
    let mut workloads = VERSIONS.map(start);
    let pids = workloads.each_ref().map(Workload::pid_text);
    let args: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
    for end in [
        End::Killed,
        End::InterruptedAtWork,
        End::Killed,
        End::Interrupted,
    ] {
        // Work begins before the probes are placed, and goes on after them.
        workloads.iter_mut().for_each(|it| it.talk.say(""));
        let agent = Agent::trace(&[&args[..], &["--ring-size", SMALL_RING]].concat());
        workloads.iter_mut().for_each(|it| it.talk.say(""));
        let settle = |workloads: &mut [Workload]| {
            for workload in workloads {
                workload.talk.hear("settled");
                workload.talk.hear("settled");
                workload.assert_runs();
            }
        };
        match end {
            End::Killed => {
                agent.signal(Signal::SIGKILL);
                assert_eq!(agent.wait().code, None);
                settle(&mut workloads);
            }
            End::InterruptedAtWork => {
                agent.interrupt();
                settle(&mut workloads);
            }
            End::Interrupted => {
                settle(&mut workloads);
                assert_seen(&agent.interrupt(), &workloads);
            }
        }
    }
    workloads.into_iter().for_each(Workload::finish);
}

fn program(version: &str) -> std::path::PathBuf {
    golang::program(version, "stress", Link::Plain)
}

/// All of them were really traced.
fn assert_seen(stream: &Stream, workloads: &[Workload]) {
    for workload in workloads {
        let process = stream.process(workload.pid());
        let line = &process.line;
        assert_eq!(line["runtime"], "go", "{line:#}");
        let seen = process.figure("allocated_count") + process.lost("allocations_lost");
        assert!(seen > 10_000, "{line:#}");
    }
}

/// A trace of the whole host has Go programs that were there before it, and those that start later, from
/// their beginning once one of the same file was seen.
#[test]
fn programs_of_a_host_that_start_later_are_traced() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    let [before, later] = ["1.22.10", "1.26.6"];
    golang::build(
        [before, later]
            .into_iter()
            .map(|it| (it, "stress", Link::Plain)),
    );
    let mut older = Workload::run(&mut Command::new(program(before)));
    let mut command = agent::program();
    command.args(["trace", "--format", "json", "--min-age", "0s", "--top", "1"]);
    // Others may allocate without pause, such as a compiler beside the tests: there is room for that, but no more
    // than a slow agent reads between two reports.
    command.args(["--interval", "300ms", "--ring-size", "64MiB"]);
    let mut agent = Agent::run(&mut command);
    agent.await_stderr("leaktrace: tracing ");
    let mut first = Workload::run(&mut Command::new(program(later)));
    agent.await_process(first.pid(), |line| line["coverage"] == "full");
    let mut second = Workload::run(&mut Command::new(program(later)));
    for workload in [&mut older, &mut first, &mut second] {
        workload.talk.say("");
        workload.talk.hear("settled");
    }
    let stream = agent.interrupt();
    for workload in [&older, &first, &second] {
        let process = stream.process(workload.pid());
        let line = &process.line;
        assert_eq!(line["runtime"], "go", "{line:#}");
        let seen = process.figure("allocated_count") + process.lost("allocations_lost");
        assert!(seen > 50_000, "{line:#}");
    }
    let is_late = |of: &Workload| stream.process(of.pid()).lost("attached_late");
    assert_eq!((is_late(&first), is_late(&second)), (1, 0));
    for workload in [older, first, second] {
        workload.finish();
    }
}

/// Probes that cost more than they may go out of a Go program too, so that it no longer runs into them.
#[test]
fn probes_go_out_where_they_cost_too_much() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    let mut workload = Workload::run(&mut Command::new(program("1.26.6")));
    let limit = ["--max-overhead", "0.2%", "--ring-size", SMALL_RING];
    let mut agent = Agent::trace(&[&["--pid", &workload.pid_text()], &limit[..]].concat());
    workload.talk.say("");
    let mut said = String::new();
    while !said.contains("taking the probes out") {
        said = agent.await_stderr("leaktrace: probes take ");
    }
    await_untouched_code(workload.pid(), "/stress-1.26.6");
    workload.talk.hear("settled");
    let process = agent.interrupt().process(workload.pid());
    let line = &process.line;
    assert_eq!(line["coverage"], "partial", "{line:#}");
    assert!(process.lost("unwatched_milliseconds") > 0, "{line:#}");
    workload.finish();
}

/// Programs of versions whose layout is not known are not probed, and their reports say why instead of a figure.
#[test]
fn unknown_versions_are_refused() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    let versions = [("1.21.13", "1.20.13"), ("1.27.3", "1.28.3")];
    // With debug information a newer one is traced.
    let stripped = |version| golang::program(version, "stress", Link::Stripped);
    let start = |(version, other)| {
        Workload::run(&mut Command::new(golang::made_by(
            &stripped(version),
            version,
            other,
        )))
    };
    let mut workloads = versions.map(start);
    let pids = workloads.each_ref().map(Workload::pid_text);
    let args: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
    let ended = Agent::spawn(&[&["trace"], &args[..]].concat()).wait();
    let refusal = ended.refusal();
    assert!(refusal.contains("made by go1."), "{refusal}");
    let [older, newer] = &mut workloads;
    for (workload, why) in [(older, "not supported"), (newer, "not known")] {
        let ended = Agent::spawn(&["trace", "--pid", &workload.pid_text()]).wait();
        let refusal = ended.refusal();
        assert!(refusal.contains(why), "{refusal}");
        workload.talk.say("");
        workload.talk.hear("settled");
    }
    workloads.into_iter().for_each(Workload::finish);
}
