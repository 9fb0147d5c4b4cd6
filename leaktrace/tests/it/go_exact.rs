//! Owns the proof that Go's heap is traced exactly, in every supported version.
//! Must not know how blocks and their deaths are seen.

use std::{collections::BTreeMap, ffi::OsStr, process::Command};

/// What shows that a heap is not understood.
const CONTRADICTIONS: [&str; 2] = ["frees_implied", "go_spans_unsound"];

use serde_json::Value;

use crate::harness::{
    agent::Agent,
    golang::{self, Link, VERSIONS},
    kernel,
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

/// Live objects and bytes by the functions that the program knows the truth of, and how large each object is.
fn by_function(process: &Process, slots: &BTreeMap<String, u64>) -> BTreeMap<String, Live> {
    let mut functions: BTreeMap<String, Live> = BTreeMap::new();
    for site in &process.sites {
        let frames = site["stack"].as_array().unwrap();
        let mut names = frames.iter().filter_map(|it| it["function"].as_str());
        let Some((name, slot)) = names.find_map(|name| slots.get_key_value(name)) else {
            continue;
        };
        let figure = |figure: &str| site[figure].as_u64().unwrap();
        let (count, bytes) = (figure("live_count"), figure("live_bytes"));
        // A collection that begins or helps within an allocation allocates what it needs itself, of other sizes.
        if bytes != count * slot {
            continue;
        }
        let live = functions.entry(name.clone()).or_default();
        *live = (live.0 + count, live.1 + bytes);
        let is_of_go = site["allocator"] == "go";
        assert_eq!(is_of_go, name.starts_with("main."), "{site:#}");
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

/// The functions hold what the program says that they do.
#[track_caller]
fn assert_functions(process: &Process, phase: &Phase, build: &str) {
    let truths = truths(phase);
    let slot = |(name, live): (&String, &Live)| (name.clone(), live.1 / live.0);
    let slots = truths.iter().map(slot).collect();
    assert_eq!(by_function(process, &slots), truths, "{build}");
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

/// The report has the runtime's own totals.
#[track_caller]
fn assert_as_told(process: &Process, phase: &Phase, build: &str) {
    let line = &process.line;
    assert_eq!(process.accuracy(), "exact", "{build}: {line:#}");
    assert_eq!(line["runtime"], "go", "{build}: {line:#}");
    for contradiction in CONTRADICTIONS {
        assert_eq!(process.lost(contradiction), 0, "{build}: {line:#}");
    }
    let stats = phase.note("stats ");
    let stat = |name: &str| stats[name].as_u64().unwrap();
    // Where C's library is inside, its blocks may not be seen.
    let is_seen = |it: &&Value| !it["entry_points"].as_array().unwrap().is_empty();
    let allocators = line["allocators"].as_array().unwrap();
    let has_c = allocators.iter().filter(is_seen).count() > 1;
    let mut of_c = phase.truths.iter();
    let of_c = of_c.rfind(|it| has_c && it.function == "site_c");
    let (of_c, c_bytes) = of_c.map_or((0, 0), |it| (it.live_count, it.live_bytes));
    let what = format!("{build}: allocated");
    let allocated = process.figure("allocated_count");
    // C's blocks are a few more than those that are told: four are made for one that is kept.
    assert_near(&what, allocated, stat("allocated") + 4 * of_c);
    let (count, bytes) = process.live();
    assert_near(&format!("{build}: bytes"), bytes, stat("bytes") + c_bytes);
    // Those that it allocates to talk are some dozens.
    assert!(
        count.abs_diff(stat("live") + of_c) < 60,
        "{build}: {count} {stats}"
    );
    assert!(
        line["gc_cycles_survived"].as_u64() >= Some(stat("collections") - 2),
        "{build}: {line:#}"
    );
}

/// Traces programs of these versions, linked so, at once: through a phase of every kind of object, then
/// through one of many goroutines and collections.
fn check(subjects: &[(&str, Link)]) {
    golang::build(
        subjects
            .iter()
            .map(|(version, link)| (*version, "live", *link)),
    );
    let start = |(version, link): &(&str, Link)| {
        let mut program = Command::new(golang::program(version, "live", *link));
        // Collections only where the program asks for them.
        Workload::run(program.env("GOGC", "off"))
    };
    let mut workloads: Vec<Workload> = subjects.iter().map(start).collect();
    let pids: Vec<String> = workloads.iter().map(Workload::pid_text).collect();
    let args: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
    let agent = Agent::trace(&args);
    let phases: Vec<Phase> = workloads
        .iter_mut()
        .map(|it| {
            it.talk.phase();
            it.talk.phase()
        })
        .collect();
    let stream = agent.interrupt();
    for ((subject, workload), phase) in subjects.iter().zip(&workloads).zip(&phases) {
        let (version, link) = subject;
        let words = format!("{version} {link:?}");
        let process = stream.process(workload.pid());
        assert_as_told(&process, phase, &words);
        if *link != Link::CgoStatic {
            assert_eq!(process.line["coverage"], "full", "{:#}", process.line);
            assert_functions(&process, phase, &words);
        }
        let told = process.line["go"]["version"].as_str().unwrap();
        assert_eq!(told, format!("go{version}"), "{words}");
    }
    workloads.into_iter().for_each(Workload::finish);
}

/// Every version: a known live set to the object and to the byte, and the totals of `MemStats`.
#[test]
fn every_version_is_exact() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    check(&VERSIONS.map(|version| (version, Link::Plain)));
}

/// So are programs without symbols that are loaded anywhere: by functions too, which their own function table names.
#[test]
fn stripped_and_relocatable_programs_are_exact() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    check(&["1.21.13", "1.24.11", "1.27.3"].map(|version| (version, Link::StrippedPie)));
}

/// So are programs that a profile has guided, in which the allocator's functions are put into each other, and the sites
/// of objects into who calls them.
#[test]
fn programs_guided_by_a_profile_are_exact() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    check(&["1.24.11", "1.27.3"].map(|version| (version, Link::Profiled)));
}

/// Programs that call C have two heaps, and both are exact; so is Go's where C's library is inside.
#[test]
fn both_heaps_of_programs_with_c_are_exact() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    check(&[
        ("1.22.10", Link::Cgo),
        ("1.25.5", Link::Cgo),
        ("1.27.3", Link::Cgo),
        ("1.23.9", Link::CgoStatic),
        ("1.26.6", Link::CgoStatic),
    ]);
}

/// A program of a version that is not known is exact by its debug information, and its report says what that rests on.
#[test]
fn an_unknown_version_is_exact_by_its_debug_information() {
    let Some(_turn) = turn(|| ()) else {
        return;
    };
    let program = golang::program("1.27.3", "live", Link::Plain);
    let program = golang::made_by(&program, "1.27.3", "1.28.3");
    // Collections only where the program asks for them.
    let mut workload = Workload::run(Command::new(program).env("GOGC", "off"));
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    workload.talk.phase();
    let phase = workload.talk.phase();
    let process = agent.interrupt().process(workload.pid());
    assert_as_told(&process, &phase, "as 1.28.3");
    assert_functions(&process, &phase, "as 1.28.3");
    let line = &process.line;
    assert_eq!(line["go"]["version"], "go1.28.3", "{line:#}");
    assert_eq!(line["coverage"], "partial", "{line:#}");
    let missing = line["allocators"][0]["not_covered"].to_string();
    let why = "go1.28.3 is newer than what is known";
    assert!(missing.contains(why), "{line:#}");
    workload.finish();
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
    assert_functions(&process, &phase, "a command");
    talk.close();
}
