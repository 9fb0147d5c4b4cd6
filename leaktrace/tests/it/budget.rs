//! Owns the trust in `--max-overhead`: what a program pays is what it may be made to pay, whatever it
//! does, and the report says what that took.
//! Must not know how costs are counted.

use std::collections::VecDeque;

use serde_json::Value;

use crate::harness::{
    agent::{Agent, Ended},
    kernel,
    workload::Workload,
};

/// What a report tells of what its process has paid.
struct Spent {
    /// Part of a CPU since the report before: traps that were counted, times what one costs here.
    cpu: f64,
    /// Since the start, in milliseconds.
    unwatched_ms: u64,
}

impl Spent {
    fn of(line: &Value) -> Self {
        let lost = &line["accuracy"]["lost"];
        Self {
            cpu: line["overhead"]["cpu_fraction"].as_f64().unwrap(),
            unwatched_ms: lost["unwatched_milliseconds"].as_u64().unwrap_or(0),
        }
    }
}

fn set(workload: &mut Workload, line: &str) {
    workload.talk.forget();
    workload.talk.say(line);
    workload.talk.hear("did");
}

/// A program that goes from a thousand to two million allocations a second while it is traced pays
/// no more than it may on average, most of the time nothing, and the report says how. What it takes by the clock is
/// the benchmark's to tell: `cargo xtask bench watch`.
#[test]
fn a_storm_costs_what_it_may() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("storm", &[]);
    set(&mut workload, "1000 0");
    let pid = workload.pid();
    let pid_text = workload.pid_text();
    let mut agent = Agent::trace(&[
        "--pid",
        &pid_text,
        "--max-overhead",
        "5%",
        "--interval",
        "250ms",
    ]);
    let quiet = agent.await_process(pid, |line| {
        line["overhead"]["hits_per_second"].as_f64() > Some(2_000.0)
    });
    assert_eq!(quiet["accuracy"]["kind"], "exact", "{quiet:#}");
    let cost = quiet["overhead"]["cpu_fraction"].as_f64().unwrap();
    assert!(cost > 0.0 && cost < 0.05, "{quiet:#}");
    set(&mut workload, "2000000 0");
    agent.await_stderr("leaktrace: probes take ");
    // Of the reports since, those of the last ten seconds: the time over which the limit holds.
    let mut last = VecDeque::new();
    agent.await_process(pid, |line| {
        last.push_back(Spent::of(line));
        if last.len() <= 40 {
            return false;
        }
        last.pop_front();
        let mean = last.iter().map(|it| it.cpu).sum::<f64>() / last.len() as f64;
        let out = last[last.len() - 1].unwatched_ms - last[0].unwatched_ms;
        // The limit, and a quarter for when reports come late.
        mean > 0.0 && mean < 0.05 * 1.25 && out > 5_000
    });
    let line = agent.await_process(pid, |line| line["coverage"] == "partial");
    assert_eq!(line["accuracy"]["kind"], "lossy", "{line:#}");
    let out = line["accuracy"]["lost"]["unwatched_milliseconds"].as_u64();
    assert!(out > Some(0), "{line:#}");
    let why = line["coverage_reason"].as_str().unwrap();
    assert!(why.contains("its probes were out for"), "{why}");
    workload.assert_runs();
    agent.interrupt();
}

/// Where records are what is dear, fewer are made: the probes stay in, and figures are estimates.
#[test]
fn records_are_saved_before_probes_go() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("storm", &[]);
    // Traps must fit and records not, and there is little room between: two measurements of a shared machine may
    // disagree by more, and then the next ones are taken.
    set(&mut workload, "20000 0");
    let (agent, line) = (0..10)
        .find_map(|_| sampled(&workload))
        .expect("records are saved");
    assert!(
        line["accuracy"]["sample_bytes"].as_u64() >= Some(16 << 10),
        "{line:#}"
    );
    assert_eq!(line["coverage"], "full", "{line:#}");
    // Its 64 live blocks are few samples, but what was known of them is not forgotten.
    assert!(line["live_count"].as_u64() <= Some(1_000), "{line:#}");
    agent.interrupt();
}

/// An agent that saves records of this process, and the line that says so; `None` where it found nothing to save, or
/// that it takes more.
fn sampled(workload: &Workload) -> Option<(Agent, Value)> {
    let limit = format!("{:.4}", traps_of(workload, 20_000.0) * 1.4);
    let pid = workload.pid_text();
    let limits = ["--max-overhead", &limit, "--interval", "250ms"];
    let mut agent = Agent::trace(&[&["--pid", &pid], &limits[..]].concat());
    let line = agent.await_process(workload.pid(), |line| {
        let is_left = line["report"].as_u64() >= Some(12) || line["coverage"] == "partial";
        line["accuracy"]["kind"] == "sampled" || is_left
    });
    if line["accuracy"]["kind"] == "sampled" {
        return Some((agent, line));
    }
    agent.interrupt();
    None
}

/// The part of a CPU that the traps of so many pairs a second take, as the agent itself measures.
fn traps_of(workload: &Workload, pairs_per_second: f64) -> f64 {
    let pid = workload.pid_text();
    let args = [
        "trace",
        "--format",
        "json",
        "--pid",
        &pid,
        "--duration",
        "100ms",
    ];
    let more = ["--sample-bytes", "1GiB"];
    let agent = Agent::spawn(&[&args[..], &more[..]].concat());
    let ended: Ended = agent.wait();
    let process = ended.stream().process(workload.pid());
    let ns_per_hit = process.line["overhead"]["ns_per_hit"].as_f64().unwrap();
    3.0 * ns_per_hit * pairs_per_second / 1e9
}

/// Every report tells what a trap costs here and what the traps cost the process.
#[test]
fn every_report_tells_its_cost() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("storm", &[]);
    set(&mut workload, "10000 0");
    let pid = workload.pid();
    let pid_text = workload.pid_text();
    let mut agent = Agent::trace(&["--pid", &pid_text, "--interval", "1s"]);
    // Three traps a pair; a busy machine may hold the program up for a while.
    let line = agent.await_process(pid, |line| {
        let hits = line["overhead"]["hits_per_second"].as_f64().unwrap();
        (hits - 30_000.0).abs() < 6_000.0
    });
    let figure = |name: &str| line["overhead"][name].as_f64().unwrap();
    let hits = figure("hits_per_second");
    // An emulated trap takes 0.2 to 1 microseconds by itself.
    let ns_per_hit = figure("ns_per_hit");
    assert!((100.0..20_000.0).contains(&ns_per_hit), "{line:#}");
    let told = figure("cpu_fraction");
    assert!((told - hits * ns_per_hit / 1e9).abs() < 1e-6, "{line:#}");
    agent.interrupt();
}
