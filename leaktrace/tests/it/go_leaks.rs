//! Owns the proof that the ways in which services in Go leak are named at the line that makes what is kept.
//! Must not know how the agent sees it.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
};

use crate::harness::{
    agent::Agent,
    golang::{self, Link},
    kernel,
    stream::Process,
    workload::Workload,
};

/// The text of the service, whose comments tell its leaks.
const SERVICE: &str = include_str!("../workloads/go/leaks.go");

/// How often it does each thing in a phase.
const REQUESTS: u64 = 200;

/// What connections that are kept for reuse and the last few of anything come to.
const A_FEW: u64 = 40;

/// The lines that a word stands before what they are called.
fn marked(word: &str) -> BTreeMap<u64, &'static str> {
    let lines = (1..).zip(SERVICE.lines());
    let marks = lines.filter_map(|(line, text)| Some((line, text.split_once(word)?.1)));
    let marks: BTreeMap<_, _> = marks.collect();
    assert!(marks.len() > 4, "{word} {marks:?}");
    marks
}

/// Live objects that have survived a collection, of each site whose stack goes through a line of the service.
fn live_at(process: &Process, line: u64) -> Vec<u64> {
    let is_there = |frame: &serde_json::Value| {
        let file = frame["file"].as_str().unwrap_or_default();
        file.ends_with("/leaks.go") && frame["line"].as_u64() == Some(line)
    };
    let through = process.sites.iter().filter(|site| {
        let frames = site["stack"].as_array().unwrap();
        frames.iter().any(is_there)
    });
    let survivors = through.filter(|site| site["gc_cycles_survived"].as_u64() > Some(0));
    survivors
        .map(|site| site["live_count"].as_u64().unwrap())
        .collect()
}

/// Unclosed response bodies, forgotten cancel functions, blocked senders, a map that only grows and an array
/// behind a small slice: each object of each is named at the line that makes it and has survived collections,
/// and what is given up again is not there.
#[test]
fn leaks_of_a_service_are_named() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    for version in ["1.24.11", "1.27.3"] {
        let program = golang::program(version, "leaks", Link::Plain);
        let mut workload = Workload::run(&mut Command::new(program));
        let agent = Agent::trace(&["--pid", &workload.pid_text()]);
        workload.talk.phase();
        let process = agent.interrupt().process(workload.pid());
        assert_eq!(process.accuracy(), "exact", "{:#}", process.line);
        for (line, leak) in marked("// LEAK: ") {
            let counts = live_at(&process, line);
            assert!(
                counts.contains(&REQUESTS),
                "{leak} in Go {version}: {counts:?}"
            );
        }
        for (line, innocent) in marked("// INNOCENT: ") {
            let counts = live_at(&process, line);
            let all: u64 = counts.iter().sum();
            assert!(all <= A_FEW, "{innocent} in Go {version}: {counts:?}");
        }
        workload.finish();
    }
}

/// What the text's example puts into its map each second, here five hundred times as fast.
const PERIOD: &str = "2ms";

/// Killed when dropped: it never ends.
pub struct Endless(Child);

impl Endless {
    /// Runs it; nobody reads what it says.
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The site of the values that the example keeps, in the last report.
pub fn leaky_cache(process: &Process) -> serde_json::Value {
    let is_it = |site: &&serde_json::Value| {
        let frame = &site["stack"][0];
        frame["function"] == "main.leakyCache.func1" && frame["line"] == 15
    };
    let sites = process.sites.iter().filter(is_it);
    let most = sites.max_by_key(|site| site["live_bytes"].as_u64());
    most.expect("its line is named").clone()
}

/// The text says that a collector reclaims what a goroutine puts into a map for ever while main sleeps. It is
/// named as a leak, at its line, with its rate.
#[test]
fn the_example_of_a_leaky_cache_grows() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    let programs = ["1.24.11", "1.27.3"].map(|version| {
        let program = golang::program(version, "origin", Link::Stripped);
        let mut command = Command::new(program);
        command.arg(PERIOD);
        // As often as beside the churn that a service has.
        command.env("GOGC", "30");
        Endless::start(&mut command)
    });
    let pids = programs.each_ref().map(|it| it.pid().to_string());
    let args: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
    let agent = Agent::trace(&[&args[..], &["--duration", "22s"]].concat());
    let stream = agent.wait().stream();
    for program in &programs {
        let process = stream.process(program.pid());
        assert_eq!(process.accuracy(), "exact", "{:#}", process.line);
        assert_eq!(process.line["verdict"], "growing", "{:#}", process.line);
        let site = leaky_cache(&process);
        assert_eq!(site["verdict"], "growing", "{site:#}");
        let live_bytes = site["live_bytes"].as_f64().unwrap();
        // It slept for two milliseconds and a little more each time: how often is known by what it made.
        let rate = live_bytes / 22.0;
        let told = site["growth_bytes_per_second"].as_f64().unwrap();
        assert!((told - rate).abs() < 0.2 * rate, "{rate}: {site:#}");
        assert!((100_000.0..=512_000.0).contains(&rate), "{site:#}");
    }
}
