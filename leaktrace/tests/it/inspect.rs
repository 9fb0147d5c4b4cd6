//! Owns what `inspect` tells of real processes, which it must not touch.
//! Must not know the agent's inside.

use std::process::Command;

use serde_json::Value;

use crate::harness::{
    agent, kernel,
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
