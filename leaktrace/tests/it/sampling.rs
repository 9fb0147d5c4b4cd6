//! Owns the trust in `--sample-bytes`: estimates near the truth, within what the report itself says.
//! Must not know how samples are chosen.

use crate::harness::{
    agent::Agent,
    kernel, programs,
    stream::Process,
    workload::{Truth, Workload},
};

/// What a process told and what was estimated of it, after these steps.
fn sampled(options: &[&str], steps: &[&str]) -> (Process, Vec<Truth>) {
    let mut workload = Workload::start("steps", &[]);
    let pid = workload.pid_text();
    let options: Vec<&str> = ["--pid", &pid].iter().chain(options).copied().collect();
    let agent = Agent::trace(&options);
    for step in steps {
        workload.talk.say(step);
        workload.talk.hear("did ");
    }
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    workload.finish();
    (process, phase.truths)
}

/// Five standard errors of a sum of equal blocks, of which `count` are live: beyond that lies one run
/// in two million.
fn tolerance(count: u64, size: u64, sample_bytes: f64) -> f64 {
    let p = -(-(size as f64) / sample_bytes).exp_m1();
    5.0 * (count as f64 * (1.0 - p) / p).sqrt()
}

#[track_caller]
fn assert_near(what: &str, estimate: u64, truth: u64, tolerance: f64) {
    let off = (estimate as f64 - truth as f64).abs();
    assert!(
        off <= tolerance,
        "{what}: {estimate} for {truth}, {off} > {tolerance}"
    );
}

/// Objects and bytes that live, were made and were given back are estimated without bias, whatever the
/// size, while most of the calls leave no record.
#[test]
fn estimates_are_near_the_truth() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let steps = [
        "pair 40000 200",
        "alloc 50000 100",
        "free 20000",
        "resize 10000 3000",
        // What is far larger than the distance between samples is told to the byte.
        "alloc 7 1000000",
    ];
    let (process, truths) = sampled(&["--sample-bytes", "16KiB"], &steps);
    assert_eq!(process.accuracy(), "sampled", "{:#}", process.line);
    assert_eq!(process.line["accuracy"]["sample_bytes"], 16_384);
    let live: u64 = truths.iter().map(|truth| truth.live_count).sum();
    assert_eq!(live, 50_007 - 20_000);
    let small = tolerance(20_000, 100, 16_384.0);
    let resized = tolerance(10_000, 3_000, 16_384.0);
    assert_near("live", process.figure("live_count"), live, small + resized);
    let pairs = tolerance(40_000, 200, 16_384.0);
    let made = 40_000 + 50_000 + 10_000 + 7;
    let all = tolerance(50_000, 100, 16_384.0) + resized + pairs;
    assert_near("made", process.figure("allocated_count"), made, all);
    assert_near("freed", process.figure("freed_count"), made - live, all);
    let bytes = 20_000 * 100 + 10_000 * 3_000 + 7_000_000;
    let off = 100.0 * small + 3_000.0 * resized;
    assert_near("bytes", process.figure("live_bytes"), bytes, off);
    // The report's own interval is two of the five errors.
    let error = process.line["accuracy"]["live_bytes_error"]
        .as_u64()
        .unwrap();
    assert!(error > 0 && (error as f64) < off, "{error} and {off}");
    let sites = process.by_function();
    assert_near("resized", sites["site_resize"].0, 10_000, resized);
}

/// A block that is given back leaves the estimate, also where most frees are of blocks that were never
/// recorded: nothing is left at the end.
#[test]
fn what_is_given_back_is_gone() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let steps = ["alloc 30000 500", "resize 30000 700", "free 30000"];
    let (process, _) = sampled(&["--sample-bytes", "8KiB"], &steps);
    assert_eq!(process.live(), (0, 0), "{:#}", process.line);
    assert!(process.figure("freed_count") > 50_000, "{:#}", process.line);
    assert_eq!(process.lost("frees_implied"), 0, "{:#}", process.line);
    // Traps are counted though they left no record: two for a call that returns, one for a free.
    let hits = process.line["overhead"]["hits_per_second"]
        .as_f64()
        .unwrap();
    let elapsed = process.line["elapsed_seconds"].as_f64().unwrap();
    let traps = 2.0 * 30_000.0 + 2.0 * 30_000.0 + 30_000.0;
    assert!(
        (hits * elapsed - traps).abs() < traps * 0.05,
        "{hits} for {elapsed} s"
    );
}

/// A child has its parent's samples, and gives them back as its own.
#[test]
fn a_child_inherits_samples() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let program = programs::workload("fork_and_free");
    let options = ["--sample-bytes", "4KiB"];
    let (agent, mut talk) = Agent::trace_command(&options, &[program.as_os_str()]);
    let pid = talk.ready();
    let phase = talk.phase();
    let stream = agent.interrupt_command();
    let parent = stream.process(pid);
    let off = tolerance(20_000, 256, 4_096.0);
    assert_near("parent", parent.figure("live_count"), 20_000, off);
    let child = phase.note("child ")["pid"].as_u64().unwrap();
    let child = stream.process(u32::try_from(child).unwrap());
    assert_eq!(child.figure("live_count"), 0, "{:#}", child.line);
    assert_near("child", child.figure("freed_count"), 20_000, off);
    assert_eq!(child.accuracy(), "sampled", "{:#}", child.line);
}
