//! Owns the trust in `leaktrace watch`: whose memory keeps growing is told, with the code that leaks, and nobody
//! else's; and probes go out again.
//! Must not know how memory is read or who gets probes when.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{
    PATIENCE,
    agent::{self, Agent},
    kernel,
    stream::Stream,
    workload::Workload,
};

/// A program that does so many pairs a second, and leaks so many bytes.
fn storm(pace: &str) -> Workload {
    let mut workload = Workload::start("storm", &[]);
    workload.talk.say(pace);
    workload.talk.hear("did");
    workload
}

/// Waits until so many leaks were found.
fn await_found(agent: &mut Agent, count: usize) {
    let mut found = 0;
    while found < count {
        // On a slow machine beside others a verdict takes its time.
        let line = agent.await_stderr_within("leaktrace: pid ", 5 * PATIENCE);
        found += usize::from(line.contains(" leaks at 1 site"));
    }
}

/// Waits until the code of a file in a process is what the file has: no breakpoint is left in it.
pub fn await_untouched_code(pid: u32, path: &str) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let is_code = |line: &&str| line.contains(path) && line.contains("r-xp");
    let code = maps.lines().find(is_code).unwrap();
    let fields: Vec<&str> = code.split_whitespace().collect();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let (start, end) = fields[0].split_once('-').unwrap();
    let (start, end, offset) = (number(start), number(end), number(fields[2]));
    let read = |path: &str, at: u64| {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        File::open(path)
            .unwrap()
            .read_exact_at(&mut bytes, at)
            .unwrap();
        bytes
    };
    let file = read(fields[5], offset);
    let deadline = Instant::now() + PATIENCE;
    while read(&format!("/proc/{pid}/mem"), start) != file {
        assert!(Instant::now() < deadline, "probes are left in {pid}");
        // Nothing tells that a breakpoint is gone.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The leak is the only site that grows, and what is told of it is near the truth.
fn assert_leak_named(stream: &Stream, workload: &Workload, bytes_per_second: f64) {
    let process = stream.process(workload.pid());
    let growing = process.sites.iter().filter(|it| it["verdict"] == "growing");
    let growing: Vec<&Value> = growing.collect();
    assert_eq!(growing.len(), 1, "{:#?}", process.sites);
    assert_eq!(growing[0]["stack"][0]["function"], "site_leak");
    let speed = growing[0]["growth_bytes_per_second"].as_f64().unwrap();
    let within = bytes_per_second / 2.0..bytes_per_second * 2.0;
    assert!(within.contains(&speed), "{speed} for {bytes_per_second}");
    assert_eq!(process.line["coverage"], "partial", "{:#}", process.line);
    assert_ne!(process.accuracy(), "exact", "{:#}", process.line);
}

/// Two programs leak beside churn, one that allocates little and one that would cost more than allowed at every
/// call; a third only churns. The leaking site of both is named, at its rate, and then no probe is left; the
/// third is stable, and what is not probed is not called zero. What the second holds for a second survives its windows,
/// and the processor tells that it is freed between them.
#[test]
fn leaks_are_named_and_left_alone() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let quiet = storm("100 524288");
    let busy = storm("100000 1048576 65536");
    let churning = storm("20000 0");
    let mut watch = agent::program();
    watch.args(["watch", "--interval", "1s", "--look-every", "500ms"]);
    watch.args(["--max-overhead", "5%", "--min-age", "1s"]);
    // Whatever else grows on this machine would take their places.
    for workload in [&quiet, &busy, &churning] {
        watch.args(["--pid", &workload.pid().to_string()]);
    }
    let mut agent = Agent::run(&mut watch);
    agent.await_stderr("leaktrace: watching ");
    let suspected = agent.await_process(busy.pid(), |line| line["verdict"] == "growing");
    let speed = suspected["growth_bytes_per_second"].as_f64().unwrap();
    assert!((500_000.0..2_000_000.0).contains(&speed), "{suspected:#}");
    await_found(&mut agent, 2);
    for workload in [&busy, &quiet] {
        await_untouched_code(workload.pid(), "/libc.so");
    }
    let stream = agent.interrupt();
    assert_eq!(stream.lines[0]["mode"], "watch");
    assert_leak_named(&stream, &busy, 1_048_576.0);
    assert_leak_named(&stream, &quiet, 524_288.0);
    let is_freed = |line: &&Value| {
        line["process"]["pid"] == busy.pid()
            && line["stack"][0]["function"] == "site_session"
            && line["evidence"]["survivors_freed"].as_f64() > Some(0.0)
    };
    assert!(
        stream.lines.iter().any(|it| is_freed(&it)),
        "{:#?}",
        stream.process(busy.pid())
    );
    let churn = stream.process(churning.pid());
    assert_eq!(churn.line["verdict"], "stable", "{:#}", churn.line);
    assert_eq!(churn.line["coverage"], "none", "{:#}", churn.line);
    assert_eq!(churn.accuracy(), "lossy");
    assert!(churn.line.get("live_bytes").is_none(), "{:#}", churn.line);
    for mut workload in [quiet, busy, churning] {
        workload.assert_runs();
    }
}

/// What was learnt outlives a restart: the growth of a process is told at once, by a daemon that has not looked at
/// it often enough to know. A SIGHUP brings that report.
#[test]
fn a_restart_loses_nothing() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut growing = storm("100 4194304");
    let state = crate::harness::programs::scratch().join("watch-state.json");
    let _ = std::fs::remove_file(&state);
    let start = |looks: [&str; 2]| {
        let mut watch = agent::program();
        watch.args(["watch", "--interval", looks[0], "--look-every", looks[1]]);
        watch.args(["--comm", "storm", "--state", state.to_str().unwrap()]);
        let mut agent = Agent::run(&mut watch);
        agent.await_stderr("leaktrace: watching ");
        agent
    };
    let mut first = start(["500ms", "200ms"]);
    first.await_process(growing.pid(), |line| line["verdict"] == "growing");
    first.interrupt();
    let mut second = start(["1h", "1h"]);
    second.signal(nix::sys::signal::Signal::SIGHUP);
    second.await_process(growing.pid(), |line| line["verdict"] == "growing");
    let stream = second.interrupt();
    assert_eq!(stream.process(growing.pid()).line["report"], 2);
    growing.assert_runs();
    std::fs::remove_file(&state).unwrap();
}
