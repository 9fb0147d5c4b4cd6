//! Owns the proof that Go's heap is traced exactly, in every supported version.
//! Must not know how blocks and their deaths are seen.

use std::{collections::BTreeMap, ffi::OsStr, process::Command};

use crate::harness::{
    agent::Agent,
    golang::{self, Link, VERSIONS},
    kernel, programs,
    stream::{Live, Process},
    workload::{Phase, Workload},
};

/// The turn of a test, where Go programs can be built and traced.
fn turn<F: Fn()>(here: F) -> Option<kernel::Turn> {
    if golang::is_there(&here) {
        return kernel::turn(here);
    }
    None
}

/// Live objects and bytes by the functions that the program knows the truth of.
fn by_function(process: &Process) -> BTreeMap<String, Live> {
    let mut functions: BTreeMap<String, Live> = BTreeMap::new();
    for site in &process.sites {
        let frames = site["stack"].as_array().unwrap();
        let mut names = frames.iter().filter_map(|it| it["function"].as_str());
        let Some(name) = names.find(|name| name.starts_with("main.site_")) else {
            continue;
        };
        let live = functions.entry(name.to_owned()).or_default();
        live.0 += site["live_count"].as_u64().unwrap();
        live.1 += site["live_bytes"].as_u64().unwrap();
        assert_eq!(site["allocator"], "go", "{site:#}");
    }
    functions
}

/// What the program says that each function's objects are.
fn truths(phase: &Phase) -> BTreeMap<String, Live> {
    let truths = phase.truths.iter();
    truths
        .map(|it| (it.function.clone(), (it.live_count, it.live_bytes)))
        .collect()
}

/// Within half a percent: what the program allocates to tell its figures is not in them.
#[track_caller]
fn assert_near(what: &str, reported: u64, expected: u64) {
    let tolerance = expected / 200;
    assert!(
        reported.abs_diff(expected) <= tolerance,
        "{what}: reported {reported}, but it was {expected}"
    );
}

/// The report has the program's live set to the object and to the byte, and the runtime's own totals.
#[track_caller]
fn assert_as_told(process: &Process, phase: &Phase, build: &str) {
    let line = &process.line;
    assert_eq!(process.accuracy(), "exact", "{build}: {line:#}");
    assert_eq!(line["coverage"], "full", "{build}: {line:#}");
    assert_eq!(line["runtime"], "go", "{build}: {line:#}");
    let stats = phase.note("stats ");
    let stat = |name: &str| stats[name].as_u64().unwrap();
    assert_near(
        "allocated",
        process.figure("allocated_count"),
        stat("allocated"),
    );
    let (count, bytes) = process.live();
    assert_near("bytes", bytes, stat("bytes"));
    // Those that it allocates to talk are some dozens.
    assert!(
        count.abs_diff(stat("live")) < 60,
        "{build}: {count} {stats}"
    );
    assert!(line["gc_cycles_survived"].as_u64() >= Some(2), "{line:#}");
}

fn check(version: &str, link: Link) {
    let words = format!("{version} {link:?}");
    let mut program = Command::new(golang::program(version, "live", link));
    // Collections only where the program asks for them.
    let mut workload = Workload::run(program.env("GOGC", "off"));
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_as_told(&process, &phase, &words);
    if link == Link::Plain {
        assert_eq!(by_function(&process), truths(&phase), "{words}");
    }
    let told = process.line["go"]["version"].as_str().unwrap();
    assert_eq!(told, format!("go{version}"), "{words}");
    workload.finish();
}

/// Every version: a known live set to the object and to the byte, and the totals of `MemStats`.
#[test]
fn every_version_is_exact() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    for version in VERSIONS {
        check(version, Link::Plain);
    }
}

/// So are programs without symbols that are loaded anywhere: their totals, as naming is another matter.
#[test]
fn stripped_and_relocatable_programs_are_exact() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    for version in ["1.21.13", "1.24.11", "1.27.3"] {
        check(version, Link::StrippedPie);
    }
}

/// A command is traced from its first allocation on.
#[test]
fn a_command_is_traced_from_its_beginning() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    let program = golang::program("1.25.5", "live", Link::Plain);
    // Collections only where the program asks for them, since one that begins within an allocation
    // allocates at the same site.
    let command = [
        OsStr::new("env"),
        OsStr::new("GOGC=off"),
        program.as_os_str(),
    ];
    let (agent, mut talk) = Agent::trace_command(&[], &command);
    let pid = talk.ready();
    let phase = talk.phase();
    let process = agent.interrupt_command().process(pid);
    let line = &process.line;
    assert_eq!(process.accuracy(), "exact", "{line:#}");
    assert_eq!(by_function(&process), truths(&phase), "{line:#}");
    talk.close();
}

/// A real program that tells nothing of itself, without symbols and build information, does its work
/// under the trace, and nothing of what was seen contradicts itself.
#[test]
fn a_real_program_is_traced_without_contradiction() {
    let here = || ();
    let program = golang::esbuild();
    if !program.is_file() {
        let remedy = "`cargo xtask setup --test-programs` installs it";
        kernel::skip(&here, &format!("esbuild is not installed; {remedy}"));
        return;
    }
    let Some(_turn) = turn(here) else {
        return;
    };
    let input = programs::scratch().join("esbuild.js");
    let text: String = (0..2_000)
        .map(|it| format!("export function name{it}(a) {{ return a + {it}; }}\n"))
        .collect();
    std::fs::write(&input, text).unwrap();
    let output = programs::scratch().join("esbuild.out.js");
    let arguments = [
        program.clone().into_os_string(),
        input.into_os_string(),
        "--minify".into(),
        format!("--outfile={}", output.display()).into(),
    ];
    let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let (agent, _talk) = Agent::trace_command(&[], &arguments);
    let stream = agent.wait_command();
    let made = std::fs::read_to_string(&output).unwrap();
    assert_eq!(made.matches("export function name").count(), 2_000);
    let of_go = |process: &Process| process.line["runtime"] == "go";
    let process = stream.last().into_iter().find(of_go).unwrap();
    let line = &process.line;
    assert_eq!(process.accuracy(), "exact", "{line:#}");
    for contradiction in ["frees_implied", "go_blocks_told_twice", "go_spans_unsound"] {
        assert_eq!(process.lost(contradiction), 0, "{line:#}");
    }
    assert!(process.figure("allocated_count") > 10_000, "{line:#}");
}

/// Attaching and detaching does no harm: the program's results stay right.
#[test]
fn attaching_again_and_again_does_no_harm() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    for version in ["1.21.13", "1.27.3"] {
        let program = golang::program(version, "stress", Link::Plain);
        let mut workload = Workload::run(&mut Command::new(program));
        for _ in 0..4 {
            let agent = Agent::trace(&["--pid", &workload.pid_text()]);
            workload.talk.say("");
            workload.talk.hear("settled");
            let process = agent.interrupt().process(workload.pid());
            assert!(process.figure("allocated_count") > 10_000, "{version}");
            workload.assert_runs();
        }
        workload.finish();
    }
}
