//! Owns the proof that a sampled Go program is told of by its own memory profile, without a probe, where it has one.
//! Must not know how the profile is read.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    PATIENCE,
    agent::{self, Agent},
    golang::{self, Link},
    kernel,
    stream::{Process, Stream},
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

/// The text of the program that grows.
const GROWING: &str = include_str!("../workloads/go/growing.go");

/// A program that grows, with or without a memory profile of its own.
fn growing(profile: &str) -> Workload {
    let program = golang::program("1.27.3", "growing", Link::Stripped);
    // Collections come often enough to let the pieces live, as they do in a service that is busy.
    Workload::run(Command::new(program).arg(profile).env("GOGC", "50"))
}

/// Whether `watch` says that it has found a leak.
fn is_found(line: &str) -> bool {
    line.contains(" leaks at ")
}

/// What `watch` said of a process.
fn said_of(workload: &Workload, said: &[String]) -> Vec<String> {
    let about = format!("leaktrace: pid {} ", workload.pid());
    let of_it = said.iter().filter(|line| line.starts_with(&about));
    of_it.cloned().collect()
}

/// How many times a second probes fired in a process at most.
fn most_hits(stream: &Stream, pid: u32) -> f64 {
    let lines = stream.lines.iter();
    let of_it = lines.filter(|it| it["type"] == "process" && it["process"]["pid"] == pid);
    let hits = of_it.filter_map(|it| it["overhead"]["hits_per_second"].as_f64());
    hits.fold(0.0, f64::max)
}

/// The only site that grows is the line that keeps pieces.
#[track_caller]
fn assert_pieces_grow(process: &Process) {
    let growing = process.sites.iter().filter(|it| it["verdict"] == "growing");
    let growing: Vec<&Value> = growing.collect();
    assert_eq!(growing.len(), 1, "{:#?}", process.sites);
    let mut lines = (1..).zip(GROWING.lines());
    let (line, _) = lines.find(|it| it.1.contains("// LEAK: pieces")).unwrap();
    let innermost = &growing[0]["stack"][0];
    assert_eq!(innermost["function"], "main.keep", "{:#}", growing[0]);
    assert_eq!(innermost["line"], line as u64, "{:#}", growing[0]);
    let file = innermost["file"].as_str().unwrap();
    assert!(file.ends_with("/growing.go"), "{file}");
    assert_eq!(process.accuracy(), "sampled", "{:#}", process.line);
    let speed = growing[0]["growth_bytes_per_second"].as_f64().unwrap();
    // Of samples, on a machine that may be slow.
    assert!((300_000.0..6_000_000.0).contains(&speed), "{speed}");
}

/// `watch` names what grows in a Go program: by the program's own memory profile where it is on, without a probe; and
/// where it is off and every call would be too dear, by samples of where its allocator's caches get their blocks.
#[test]
fn watch_names_go_programs_that_grow() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    let (profiled, bare) = (growing("profile"), growing("no-profile"));
    let mut watch = agent::program();
    watch.args(["watch", "--interval", "1s", "--look-every", "200ms"]);
    watch.args(["--max-overhead", "2%", "--min-age", "1s"]);
    // Whatever else grows on this machine would take their places.
    watch.args(["--pid", &profiled.pid_text(), "--pid", &bare.pid_text()]);
    let mut agent = Agent::run(&mut watch);
    agent.await_stderr("leaktrace: watching ");
    let mut said: Vec<String> = Vec::new();
    while said.iter().filter(|it| is_found(it)).count() < 2 {
        said.push(agent.await_stderr_within("leaktrace: pid ", 2 * PATIENCE));
    }
    let stream = agent.interrupt();

    let process = stream.process(profiled.pid());
    assert_pieces_grow(&process);
    let line = &process.line;
    assert_eq!(line["go"]["profile_bytes"], 512 << 10, "{line:#}");
    assert_eq!(line["allocators"][0]["entry_points"], json!([]), "{line:#}");
    assert!(most_hits(&stream, profiled.pid()) == 0.0, "{line:#}");
    let found = said_of(&profiled, &said).pop().unwrap();
    assert!(found.contains("probes took 0.00 % of a CPU"), "{found}");

    let process = stream.process(bare.pid());
    assert_pieces_grow(&process);
    let line = &process.line;
    assert!(line["go"].get("profile_bytes").is_none(), "{line:#}");
    assert_eq!(line["accuracy"]["sample_bytes"], APART_BYTES, "{line:#}");
    assert!(most_hits(&stream, bare.pid()) > 0.0, "{line:#}");
    let is_sampled = |it: &String| it.contains("it is sampled where its allocator's caches");
    assert!(said_of(&bare, &said).iter().any(is_sampled), "{said:#?}");
    profiled.finish();
    bare.finish();
}
