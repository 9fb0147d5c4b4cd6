//! Owns the forms that other programs read: profiles by Go's tool.
//! Must not know how they are written.

use std::{fs, path::Path};

use crate::harness::{
    agent::{self, Agent},
    golang, kernel, programs,
    workload::Workload,
};

/// A stream that the project's own tests keep, with one of everything.
const SAVED: &str = "src/report/golden/run.ndjson";

/// The oldest and the newest of Go's tools.
const TOOLS: [&str; 2] = [
    golang::VERSIONS[0],
    golang::VERSIONS[golang::VERSIONS.len() - 1],
];

fn saved() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(SAVED)
}

/// Renders a stream into a file, and runs the agent to do it.
fn render(stream: &Path, format: &str, name: &str) -> std::path::PathBuf {
    let path = programs::scratch().join(name);
    let mut command = agent::program();
    command.arg("render").arg(stream).args(["--format", format]);
    let ended = Agent::run(command.arg("--output").arg(&path)).wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.stdout.is_empty() && ended.stderr.is_empty(),
        "{ended:#?}"
    );
    path
}

/// What Go's tool says of a profile.
fn pprof(version: &str, profile: &Path, args: &[&str]) -> String {
    let mut tool = golang::command(version);
    // Nothing that the user has set up or collected.
    tool.env("HOME", programs::scratch())
        .env("PPROF_TMPDIR", programs::scratch());
    tool.args(["tool", "pprof"]).args(args).arg(profile);
    let said = tool.output().unwrap();
    assert!(said.status.success(), "{said:#?}");
    String::from_utf8(said.stdout).unwrap()
}

/// Go's tool, old or new, finds the values, the functions with their lines, the inlined ones, the
/// files with their build ids, and whose each sample is.
#[test]
fn go_reads_profiles() {
    if !golang::is_there(|| ()) {
        return;
    }
    let profile = render(&saved(), "pprof", "saved.pb.gz");
    for version in TOOLS {
        let raw = pprof(version, &profile, &["-raw"]);
        for word in [
            "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes",
            "     140000  300000000     126976  276824064: ",
            "comm:[postgres]",
            "pid:[4312]",
            "verdict:[growing]",
            "AllocSetAllocFromNewBlock /build/postgresql-17/src/backend/utils/mmgr/aset.c:1034",
            "postgres 5f1d3c2b7a9e4d6080112233445566778899aabb [FN]",
        ] {
            assert!(raw.contains(word), "{version}: no {word} in:\n{raw}");
        }
        let top = pprof(version, &profile, &["-top", "-nodefraction=0", "-unit=B"]);
        let first = top
            .lines()
            .find(|line| line.contains("AllocSetAllocFromNewBlock"));
        assert!(
            first.is_some_and(|line| line.trim().starts_with("276824064B")),
            "{top}"
        );
        let one = pprof(
            version,
            &profile,
            &["-top", "-sample_index=inuse_objects", "-tagfocus=pid=9120"],
        );
        assert!(
            one.contains("load") && !one.contains("copyObjectImpl"),
            "{one}"
        );
    }
}

/// A trace writes a profile by itself, whose bytes are what the program holds.
#[test]
fn a_trace_makes_a_profile() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    if !golang::is_there(|| ()) {
        return;
    }
    let mut workload = Workload::start("steps", &[]);
    let path = programs::scratch().join("trace.pb.gz");
    let mut command = agent::program();
    command.args(["trace", "--min-age", "0s", "--format", "pprof", "--pid"]);
    command.arg(workload.pid_text()).arg("--output").arg(&path);
    let mut agent = Agent::run(&mut command);
    agent.await_stderr("leaktrace: tracing ");
    for step in ["alloc 10 50", "alloc 5 60", "free 3"] {
        workload.talk.say(step);
        workload.talk.hear("did ");
    }
    agent.signal(nix::sys::signal::Signal::SIGINT);
    let ended = agent.wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let peek = |index: &str| -> u64 {
        let args = ["-top", "-cum", "-unit=B", "-focus=site_alloc", index];
        let top = pprof(TOOLS[1], &path, &args);
        let line = top.lines().find(|line| line.ends_with(" site_alloc"));
        let line = line.unwrap_or_else(|| panic!("no site_alloc in:\n{top}"));
        let figure = line.split_whitespace().next().unwrap();
        figure.trim_end_matches('B').parse().unwrap()
    };
    let live: u64 = 10 * 50 + 5 * 60;
    let allocated = peek("-sample_index=alloc_space");
    assert_eq!(allocated, live);
    assert_eq!(peek("-sample_index=alloc_objects"), 15);
    assert_eq!(peek("-sample_index=inuse_objects"), 12);
    assert!(peek("-sample_index=inuse_space") < live);
    fs::remove_file(path).unwrap();
    workload.finish();
}
