//! Owns the trust in `--max-overhead`: what a program pays is what it may be made to pay, whatever it
//! does, and the report says what that took.
//! Must not know how costs are counted.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    agent::{Agent, Ended},
    kernel,
    workload::{Talk, Workload},
};

/// What a program that tells its pace did in some time.
struct Pace {
    pairs_per_second: f64,
    cpu: f64,
}

/// Listens to a program for so long.
fn pace(talk: &mut Talk, time: Duration) -> Pace {
    let mut hear = || -> [f64; 3] {
        let line = talk.hear("pace ");
        let mut words = line.split(' ').skip(1).map(|it| it.parse().unwrap());
        [(); 3].map(|()| words.next().unwrap())
    };
    let first = hear();
    loop {
        let now = hear();
        let wall_ns = now[2] - first[2];
        if wall_ns >= time.as_nanos() as f64 {
            return Pace {
                pairs_per_second: (now[0] - first[0]) * 1e9 / wall_ns,
                cpu: (now[1] - first[1]) / wall_ns,
            };
        }
    }
}

fn set(workload: &mut Workload, line: &str) {
    workload.talk.forget();
    workload.talk.say(line);
    workload.talk.hear("did");
}

/// A program that goes from a thousand to two million allocations a second while it is traced pays
/// no more than it may, at once and on average, keeps its pace, and the report says how.
#[test]
fn a_storm_costs_what_it_may() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("storm", &[]);
    set(&mut workload, "2000000 0");
    let alone = pace(&mut workload.talk, Duration::from_secs(1));
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
    // Within a second.
    agent.await_stderr("leaktrace: probes take ");
    let first = pace(&mut workload.talk, Duration::from_secs(1));
    assert!(
        first.cpu - alone.cpu < 0.5,
        "{} after {}",
        first.cpu,
        alone.cpu
    );
    workload.talk.forget();
    let traced = pace(&mut workload.talk, Duration::from_secs(6));
    // The limit, and as much again for what calibration cannot know: caches, deeper stacks, a shared
    // machine. Without a limit it is 100 %.
    let added = traced.cpu - alone.cpu;
    assert!(added < 0.10, "{added}: {} after {}", traced.cpu, alone.cpu);
    let kept = traced.pairs_per_second / alone.pairs_per_second;
    assert!(kept > 0.8, "{kept}");
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
    let (agent, line) = (0..6)
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
    let before = pace(&mut workload.talk, Duration::from_secs(1));
    let pid = workload.pid();
    let pid_text = workload.pid_text();
    let mut agent = Agent::trace(&["--pid", &pid_text, "--interval", "1s"]);
    agent.await_process(pid, |_| true);
    let line = agent.await_process(pid, |line| line["report"].as_u64() > Some(1));
    let during = pace(&mut workload.talk, Duration::from_secs(1));
    let figure = |name: &str| line["overhead"][name].as_f64().unwrap();
    let hits = figure("hits_per_second");
    assert!((hits - 30_000.0).abs() < 6_000.0, "{line:#}");
    // An emulated trap takes 0.2 to 1 microseconds by itself.
    let ns_per_hit = figure("ns_per_hit");
    assert!((100.0..20_000.0).contains(&ns_per_hit), "{line:#}");
    let told = figure("cpu_fraction");
    assert!((told - hits * ns_per_hit / 1e9).abs() < 1e-6, "{line:#}");
    // What it tells is about what it takes: within a factor of three either way.
    let taken = during.cpu - before.cpu;
    assert!(taken < told * 3.0 + 0.02, "{taken} taken, {told} told");
    assert!(told < taken * 3.0 + 0.02, "{taken} taken, {told} told");
    agent.interrupt();
}
