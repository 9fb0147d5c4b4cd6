//! Owns the corpus: programs whose leaks are known are built, traced and compared with their truth.
//! Must not know how the agent judges.

mod peers;
mod programs;
mod table;
mod truth;

use std::fs;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::agent::{self, Profile};
use crate::setup::Tools;

use programs::{PROGRAMS, Program};
use table::{Examined, Row, Sums};

/// How many run at the same time: their load is small, the agents' start is not.
const PARALLEL: usize = 7;

/// Seconds from one report of the agent to the next.
const INTERVAL_SECONDS: u32 = 5;

/// Enough for every site of the programs.
const TOP_SITES: &str = "200";

/// Files that a program may open: what is never closed must not end it.
const OPEN_FILES: &str = "--nofile=16384:16384";

/// What the tests examine: leaks and twins of several kinds, and no crates to build.
const TESTED: [&str; 3] = ["c/cache", "cpp/service", "go/streams"];

/// How long: verdicts take 15 seconds, and as much again shows that they stay.
const TESTED_SECONDS: u32 = 30;

/// The names that the command takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.name)
}

/// Builds the programs, traces them and prints what came of it; 1 where a leak was missed or an
/// innocent blamed.
///
/// # Errors
/// Fails where something does not build or a trace does not succeed.
pub fn run(tools: &Tools, only: Option<&str>, seconds: u32, is_json: bool) -> Result<ExitCode> {
    let is_chosen = |name: &str| only.is_none_or(|only| only == name);
    let is_right = examine_all(tools, is_chosen, seconds, is_json)?;
    Ok(ExitCode::from(u8::from(!is_right)))
}

/// Examines a few programs: whether every leak of them is found and nobody blamed.
///
/// # Errors
/// As `run`.
pub fn test(tools: &Tools) -> Result<bool> {
    let is_chosen = |name: &str| TESTED.contains(&name);
    examine_all(tools, is_chosen, TESTED_SECONDS, false)
}

/// Runs the programs under other tools and prints what those list.
///
/// # Errors
/// Fails where something does not build.
pub fn compare(tools: &Tools, seconds: u32) -> Result<ExitCode> {
    peers::run(tools, seconds)?;
    Ok(ExitCode::SUCCESS)
}

fn examine_all(
    tools: &Tools,
    is_chosen: impl Fn(&str) -> bool,
    seconds: u32,
    is_json: bool,
) -> Result<bool> {
    // The load is light: the quick build keeps up with it.
    let agent = agent::build(tools, Profile::Debug)?;
    let mut built = Vec::new();
    for program in PROGRAMS.into_iter().filter(|it| is_chosen(it.name)) {
        built.push((program, program.build(tools)?));
    }
    let mut examined = Vec::new();
    for group in built.chunks(PARALLEL) {
        let names: Vec<&str> = group.iter().map(|(program, _)| program.name).collect();
        eprintln!("xtask: tracing {} for {seconds} s", names.join(", "));
        let traced = thread::scope(|scope| {
            let started: Vec<_> = group
                .iter()
                .map(|(program, path)| scope.spawn(|| examine(&agent, *program, path, seconds)))
                .collect();
            started
                .into_iter()
                .map(|thread| thread.join().expect("an examination does not panic"))
                .collect::<Result<Vec<_>>>()
        })?;
        examined.extend(traced);
    }
    table::print(&examined, is_json);
    let mut sums = Sums::default();
    examined.iter().for_each(|it| sums.add(it));
    Ok(sums.is_right())
}

/// Traces one program and compares what the agent says with its marks.
fn examine(agent: &Path, program: Program, path: &Path, seconds: u32) -> Result<Examined> {
    let source = program.source();
    let text = fs::read_to_string(&source)
        .with_context(|| format!("failed to read {}", source.display()))?;
    let truth = truth::truth(&text)?;
    let mut trace = agent::command(Path::new("prlimit"));
    trace
        .arg(OPEN_FILES)
        .arg("--")
        .arg(agent)
        .args(["trace", "--format", "json", "--min-age", "0s"])
        .args(["--top", TOP_SITES])
        .args(["--interval", &format!("{INTERVAL_SECONDS}s")])
        .args(["--duration", &format!("{seconds}s"), "--"])
        .arg(path)
        // The program outlives the trace a little and then ends by itself.
        .arg((seconds + 2 * INTERVAL_SECONDS).to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let output = trace
        .output()
        .with_context(|| format!("failed to run {trace:?}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the trace of {} failed ({}): {words}",
            program.name,
            output.status
        );
    }
    let stream = String::from_utf8(output.stdout).context("the stream is no UTF-8")?;
    let file = source.file_name().unwrap_or_default().to_string_lossy();
    let reports = seconds / INTERVAL_SECONDS;
    let sites = truth::sites(&stream)?;
    let strays = truth::strays(&sites, &file, &truth, reports);
    let marks = truth.marks.into_iter();
    let rows = marks.map(|mark| Row {
        program,
        seen: truth::seen(&sites, &file, &mark, reports, INTERVAL_SECONDS),
        mark,
    });
    Ok(Examined {
        rows: rows.collect(),
        strays,
        program,
    })
}
