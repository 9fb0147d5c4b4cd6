//! Owns the proof that a sampled Go program is told of by its own memory profile, without a probe, where it has one.
//! Must not know how the profile is read.

use std::process::Command;

use serde_json::json;

use crate::harness::{
    agent::Agent,
    golang::{self, Link},
    kernel,
    stream::Process,
    workload::{Phase, Workload},
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

/// How far apart the samples of what follows are: as near as refills allow, so that there are many.
const APART_BYTES: u64 = 128 << 10;

/// Estimates of a program that tells what it keeps hold the truth as their own interval says, site by site.
#[track_caller]
fn assert_estimates(process: &Process, phase: &Phase, build: &str) {
    let line = &process.line;
    assert_eq!(process.accuracy(), "sampled", "{build}: {line:#}");
    assert_eq!(line["accuracy"]["sample_bytes"], APART_BYTES, "{line:#}");
    assert_eq!(line["coverage"], "full", "{build}: {line:#}");
    let functions = ["runtime.(*mcache).nextFree", "runtime.(*mcache).allocLarge"];
    assert_eq!(line["allocators"][0]["entry_points"], json!(functions));
    // Squares of how many standard errors each is off.
    let mut squares = 0.0;
    for truth in &phase.truths {
        let sites = process.sites.iter();
        let sites = sites.filter(|site| site["stack"][0]["function"] == truth.function.as_str());
        let counts: Vec<f64> = sites
            .filter_map(|site| site["live_count"].as_f64())
            .collect();
        // Once each, however deep in the allocator it was seen: a helper of a collection may have another stack.
        assert!(counts.len() <= 2, "{build}: {}: {counts:?}", truth.function);
        let slot_bytes = truth.live_bytes as f64 / truth.live_count as f64;
        let share = -(-slot_bytes / APART_BYTES as f64).exp_m1();
        let error = (truth.live_count as f64 * (1.0 - share) / share).sqrt();
        let off = (counts.iter().sum::<f64>() - truth.live_count as f64) / error;
        assert!(
            off.abs() < 5.0,
            "{build}: {} is off by {off} standard errors: {counts:?} of {}",
            truth.function,
            truth.live_count
        );
        squares += off * off;
    }
    assert_eq!(phase.truths.len(), 6);
    // Of six, the sum is beyond this once in 100 000 times.
    assert!(squares < 33.0, "{build}: {squares}");
    let error = line["accuracy"]["live_bytes_error"].as_f64().unwrap();
    let bytes = phase.note("stats ")["bytes"].as_f64().unwrap();
    // The interval is for 95 of 100.
    let off = (process.figure("live_bytes") as f64 - bytes).abs();
    assert!(
        off < 2.5 * error,
        "{build}: {off} of {bytes}, {error}: {line:#}"
    );
}

/// One without a profile is sampled where its allocator's caches get their blocks, which is one trap in many, and
/// what is told is what it keeps, within the bounds of chance: of objects of each size and kind, in a random
/// order, also where collections come all the time and take from caches what was not handed out.
#[test]
fn samples_of_refills_are_unbiased() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    for (version, link, percent) in [
        ("1.21.13", Link::Plain, "100"),
        ("1.27.3", Link::StrippedPie, "20"),
    ] {
        let program = golang::program(version, "many", link);
        let mut workload = Workload::run(Command::new(program).env("GOGC", percent));
        let (pid, apart) = (workload.pid_text(), APART_BYTES.to_string());
        let args = [
            "trace",
            "--format",
            "json",
            "--min-age",
            "0s",
            "--top",
            "50",
        ];
        let mut agent =
            Agent::spawn(&[&args[..], &["--sample-bytes", &apart, "--pid", &pid]].concat());
        let announced = agent.await_stderr("leaktrace: tracing ");
        assert!(announced.contains("through 4 probes"), "{announced}");
        let phase = workload.talk.phase();
        let process = agent.interrupt().process(workload.pid());
        assert_estimates(&process, &phase, version);
        workload.finish();
    }
}

/// Where samples are to lie nearer than refills allow, every object is looked at.
#[test]
fn near_samples_are_of_every_object() {
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
    assert_eq!(line["allocators"][0]["entry_points"][0], "runtime.mallocgc");
    workload.finish();
}
