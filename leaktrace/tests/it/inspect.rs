//! Owns what `inspect` tells of real processes, which it must not touch.
//! Must not know the agent's inside.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    agent,
    golang::{self, Link},
    kernel,
    programs::{self, Build},
    stream::validated,
    workload::Workload,
};

/// Every line that it tells of a process, each valid.
fn inspect(pid: &str) -> Vec<Value> {
    let mut command = agent::program();
    let output = command.args(["inspect", "--format", "json", "--pid", pid]);
    let output = output.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(validated).collect();
    assert_eq!(lines[0]["type"], "process");
    lines
}

/// Each entry point stands with its instruction and cost, and the process has no breakpoint.
#[test]
fn tells_where_probes_would_stand() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("portable", &[]);
    let lines = inspect(&workload.pid_text());
    let process = &lines[0];
    assert_eq!(process["coverage"], "full", "{process:#}");
    assert_eq!(process["process"]["pid"], workload.pid());
    let allocator = &process["allocators"][0];
    assert_eq!(allocator["name"], "glibc");
    assert!(allocator["version"].as_str().unwrap().starts_with("2."));
    let build_id = allocator["build_id"].as_str().unwrap();
    assert!(build_id.len() >= 16, "{build_id}");
    let names = allocator["entry_points"].as_array().unwrap();
    for name in ["malloc", "free", "realloc", "posix_memalign"] {
        assert!(names.iter().any(|it| it == name), "{name} in {names:?}");
        let has_name = |line: &&Value| {
            let names = line["names"].as_array();
            names.is_some_and(|names| names.iter().any(|it| it == name))
        };
        let point = lines.iter().find(has_name).expect(name);
        assert!(!point["instruction"].as_str().unwrap().is_empty());
        assert!(point["ns"]["bare_metal"].as_u64().unwrap() > 0);
    }
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", workload.pid())).unwrap();
    assert!(!maps.contains("[uprobes]"), "{maps}");
    workload.talk.phase();
    workload.finish();
}

/// Who cannot be seen is not covered, with the reason, and is no error.
#[test]
fn tells_why_nothing_would_be_seen() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::run(&mut Command::new(programs::stripped_workload("portable")));
    let lines = inspect(&workload.pid_text());
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["coverage"], "none");
    let reason = lines[0]["coverage_reason"].as_str().unwrap();
    assert!(
        reason.contains("has glibc built in, stripped of its symbols"),
        "{reason}"
    );
}

/// Of Go programs it tells what made them and how they were linked, the rate of their own memory profile, from where
/// their layout is known, and each place of each kind of probe with its cost.
#[test]
fn tells_of_go_programs() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    for (version, name, link, rate, words) in [
        ("1.21.13", "many", Link::Plain, 0, json!(["debug info"])),
        (
            "1.27.3",
            "waiting",
            Link::StrippedPie,
            512 << 10,
            json!(["stripped", "position independent", "Green Tea"]),
        ),
    ] {
        let program = golang::program(version, name, link);
        let workload = Workload::run(&mut Command::new(program));
        let lines = inspect(&workload.pid_text());
        let go = &lines[0]["go"];
        assert_eq!(go["version"], format!("go{version}"), "{go:#}");
        assert_eq!(go["version_source"], "build info");
        assert_eq!(go["memory_profile_rate_bytes"], rate, "{go:#}");
        let layout = format!("the table of Go {}", &version[..4]);
        assert_eq!(go["layout"], layout.as_str());
        assert_eq!(go["link"], words, "{go:#}");
        let flags = go["linker_flags"].as_str().unwrap_or_default();
        assert_eq!(flags.contains("-s -w"), link == Link::StrippedPie, "{go:#}");
        for (function, result) in [
            ("runtime.mallocgc", "at a return"),
            ("runtime.(*mcache).nextFree", "at a refill"),
            ("runtime.(*mcache).allocLarge", "at a refill"),
            ("runtime.(*sweepLocked).sweep", "at a collection"),
            ("runtime.(*gcControllerState).startCycle", "at a collection"),
        ] {
            let mut points = lines.iter();
            let point = points.find(|it| it["names"][0] == function);
            let point = point.expect(function);
            assert_eq!(point["result"], result, "{point:#}");
            assert_ne!(point["instruction"], "", "{point:#}");
            assert_ne!(point["cost"], "", "{point:#}");
        }
        workload.finish();
    }
}

/// People read the same, with names of the process made harmless.
#[test]
fn reads_well() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let program = Build::of("cc", "portable.c", "portable\u{1b}[31m-red").program();
    let workload = Workload::run(&mut Command::new(program));
    let mut command = agent::program();
    let output = command.args(["inspect", "--pid", &workload.pid_text()]);
    let text = String::from_utf8(output.output().unwrap().stdout).unwrap();
    assert!(
        text.contains("coverage full") && text.contains("malloc"),
        "{text}"
    );
    assert!(text.contains("-red") && !text.contains('\u{1b}'), "{text}");
}
