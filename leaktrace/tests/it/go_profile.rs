//! Owns the proof that a sampled Go program is told of by its own memory profile, without a probe, where it has one.
//! Must not know how the profile is read.

use std::process::Command;

use crate::harness::{
    agent::Agent,
    golang::{self, Link},
    kernel,
    workload::Workload,
};

/// What the program keeps: ten thousand buffers of 4 KiB, nodes of 48 bytes, and the slices of both.
const KEPT_BYTES: f64 = 10_000.0 * (4_096.0 + 48.0);

/// A program that has a memory profile is told of by it: no probe is placed, the figures are estimates whose
/// interval holds what the program keeps, and stacks are whole.
#[test]
fn programs_with_a_profile_need_no_probe() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    for (version, link) in [("1.22.10", Link::Plain), ("1.27.3", Link::StrippedPie)] {
        let program = golang::program(version, "waiting", link);
        let workload = Workload::run(&mut Command::new(program));
        let pid = workload.pid_text();
        let args = [
            "trace",
            "--format",
            "json",
            "--min-age",
            "0s",
            "--interval",
            "1s",
        ];
        let mut agent =
            Agent::spawn(&[&args[..], &["--sample-bytes", "1MiB", "--pid", &pid]].concat());
        let announced = agent.await_stderr("leaktrace: tracing ");
        assert!(announced.contains("through 0 probes"), "{announced}");
        agent.await_process(workload.pid(), |line| line["live_count"].as_u64() > Some(0));
        let process = agent.interrupt().process(workload.pid());
        let line = &process.line;
        assert_eq!(process.accuracy(), "sampled", "{line:#}");
        assert_eq!(line["accuracy"]["sample_bytes"], 512 << 10, "{line:#}");
        assert_eq!(line["go"]["profile_bytes"], 512 << 10, "{line:#}");
        assert_eq!(line["coverage"], "full", "{line:#}");
        assert_eq!(process.lost("events_lost"), 0);
        let error = line["accuracy"]["live_bytes_error"].as_f64().unwrap();
        let live = process.figure("live_bytes") as f64;
        // The interval is for 95 of 100: twice as far out is one in ten thousand.
        assert!(
            (live - KEPT_BYTES).abs() < 2.0 * error + 0.05 * KEPT_BYTES,
            "{line:#}"
        );
        let most = process
            .sites
            .iter()
            .max_by_key(|site| site["live_bytes"].as_u64());
        let most = most.expect("there is a site");
        let frames = most["stack"].as_array().unwrap();
        let functions: Vec<_> = frames
            .iter()
            .filter_map(|it| it["function"].as_str())
            .collect();
        assert_eq!(functions.first(), Some(&"main.grow"), "{most:#}");
        assert_eq!(functions.last(), Some(&"runtime.goexit"), "{most:#}");
        assert_eq!(most["gc_cycles_survived"], 1, "{most:#}");
        workload.finish();
    }
}

/// One without a profile, which the linker leaves out where nothing reads it, is sampled by probes.
#[test]
fn programs_without_a_profile_are_probed() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    let program = golang::program("1.24.11", "leaks", Link::Stripped);
    let mut workload = Workload::run(&mut Command::new(program));
    let pid = workload.pid_text();
    let args = [
        "trace",
        "--format",
        "json",
        "--min-age",
        "0s",
        "--sample-bytes",
        "4KiB",
    ];
    let mut agent = Agent::spawn(&[&args[..], &["--pid", &pid]].concat());
    agent.await_stderr("leaktrace: tracing ");
    workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    let line = &process.line;
    assert_eq!(process.accuracy(), "sampled", "{line:#}");
    assert!(line["go"].get("profile_bytes").is_none(), "{line:#}");
    assert!(process.figure("live_count") > 200, "{line:#}");
    workload.finish();
}
