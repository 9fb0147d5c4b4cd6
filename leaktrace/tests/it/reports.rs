//! Owns what options make of a report: its number, its filters, its length.
//! Must not know the exactness of single entry points.

use std::{ffi::OsStr, time::Duration};

use crate::harness::{
    agent::{self, Agent},
    kernel, programs,
    stream::{Process, Stream},
    truth::assert_exact,
    workload::{Truth, Workload},
};

/// Reports are numbered 1, 2, 3, without a gap, and each shows the state of its time.
#[test]
fn reports_are_numbered() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("steps", &[]);
    let pid = workload.pid();
    let mut agent = Agent::trace(&["--pid", &workload.pid_text(), "--interval", "100ms"]);
    for (step, live) in [("alloc 10 50", 10), ("alloc 5 60", 15), ("free 8", 7)] {
        workload.talk.say(step);
        workload.talk.hear("did ");
        agent.await_process(pid, |line| line["live_count"] == live);
    }
    let phase = workload.talk.phase();
    let stream = agent.interrupt();
    let mut numbers: Vec<u64> = stream.numbers().collect();
    numbers.dedup();
    let expected: Vec<u64> = (1..=stream.report_count()).collect();
    assert_eq!(numbers, expected);
    assert!(numbers.len() >= 4, "{numbers:?}");
    assert_exact(&stream.process(pid), &phase.truths);
    workload.finish();
}

/// A site has the same id in another run of the same program, and no two sites have one.
#[test]
fn sites_keep_their_ids() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let path = programs::workload("entry_points");
    let run = || -> Process {
        let (agent, mut talk) = Agent::trace_command(&[], &[path.as_os_str()]);
        let pid = talk.ready();
        talk.phase();
        agent.interrupt_command().process(pid)
    };
    let (first, second) = (run(), run());
    assert_eq!(first.site_ids(), second.site_ids());
    assert_eq!(first.site_ids().len(), first.sites.len());
    assert!(first.sites.len() > 10, "{:#?}", first.sites);
}

/// Blocks of other sizes than those asked for are not followed, nor what becomes of them.
#[test]
fn sizes_are_filtered() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("steps", &[]);
    let pid = workload.pid_text();
    let agent = Agent::trace(&["--pid", &pid, "--min-size", "50", "--max-size", "1KiB"]);
    let steps = [
        "alloc 10 49",
        "alloc 20 50",
        "alloc 30 1024",
        "alloc 40 1025",
        // Of those that were not followed five are now, and of those that were none is.
        "resize 5 60",
        "free 5",
        "resize 7 2000",
    ];
    for step in steps {
        workload.talk.say(step);
        workload.talk.hear("did ");
    }
    let process = agent.interrupt().process(workload.pid());
    let truth = |function: &str, live_count, live_bytes| Truth {
        pid: workload.pid(),
        function: function.to_owned(),
        live_count,
        live_bytes,
    };
    let truths = [
        truth("site_alloc", 13 + 30, 13 * 50 + 30 * 1_024),
        truth("site_resize", 5, 5 * 60),
    ];
    assert_exact(&process, &truths);
    workload.finish();
}

/// Runs entry_points under these options and gives what is reported of it.
fn report_of_entry_points(options: &[&str]) -> Process {
    let mut workload = Workload::start("entry_points", &[]);
    let pid = workload.pid_text();
    let mut agent = agent::program();
    agent
        .args(["trace", "--format", "json", "--pid", &pid])
        .args(options);
    let mut agent = Agent::run(&mut agent);
    agent.await_stderr("leaktrace: tracing ");
    workload.talk.phase();
    agent.interrupt().process(workload.pid())
}

/// Only so many sites are listed, the largest; the process's figures cover all.
#[test]
fn the_top_sites_are_listed() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let all = report_of_entry_points(&["--min-age", "0s", "--top", "1000"]);
    let top = report_of_entry_points(&["--min-age", "0s", "--top", "2"]);
    let functions = top.by_function();
    let names: Vec<_> = functions.keys().map(String::as_str).collect();
    assert_eq!(names, ["site_realloc_mmapped", "site_realloc_moves"]);
    assert_eq!(top.live(), all.live());
    assert_eq!(top.figure("site_count"), all.sites.len() as u64);
    assert_eq!(all.figure("site_count"), all.sites.len() as u64);
}

/// What is younger than asked for is no long-lived site, and is in the live figures all the same.
#[test]
fn young_blocks_are_not_long_lived() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let young = report_of_entry_points(&["--min-age", "1h"]);
    assert!(young.sites.is_empty(), "{:#?}", young.sites);
    assert_eq!(young.figure("long_lived_count"), 0);
    assert!(young.figure("live_count") > 0);
}

/// The report goes to the file alone, and stdout stays empty.
#[test]
fn the_report_goes_to_a_file() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("steps", &[]);
    let path = programs::scratch().join("file.ndjson");
    let output = path.to_str().unwrap();
    let agent = Agent::trace(&["--pid", &workload.pid_text(), "--output", output]);
    agent.signal(nix::sys::signal::Signal::SIGINT);
    let ended = agent.wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.is_empty(), "{ended:#?}");
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    Stream::parse(&lines).process(workload.pid());
    workload.finish();
}

/// The text names the process, its sites and its accuracy.
#[test]
fn the_text_names_what_leaks() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("entry_points", &[]);
    let args = ["trace", "--min-age", "0s", "--pid", &workload.pid_text()];
    let mut agent = Agent::spawn(&args);
    agent.await_stderr("leaktrace: tracing 1 process through ");
    workload.talk.phase();
    agent.signal(nix::sys::signal::Signal::SIGINT);
    let ended = agent.wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let text = ended.stdout.join("\n");
    for word in [
        "entry_points",
        &workload.pid_text(),
        "site_realloc_mmapped",
        "exact",
    ] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    workload.finish();
}

/// Supervisors are told when every probe is in place.
#[test]
fn supervisors_are_told() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("steps", &[]);
    let path = programs::scratch().join("notify.socket");
    let _ = std::fs::remove_file(&path);
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut command = agent::program();
    let args = ["trace", "--format", "json", "--pid", &workload.pid_text()];
    command.args(args).env("NOTIFY_SOCKET", OsStr::new(&path));
    let agent = Agent::run(&mut command);
    let mut said = [0; 256];
    let length = socket.recv(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..length]);
    assert!(said.lines().any(|line| line == "READY=1"), "{said}");
    agent.interrupt();
    workload.finish();
}
