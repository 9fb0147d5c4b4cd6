//! Owns the corpus: programs whose leaks are known are built, traced and compared with their truth.
//! Must not know how the agent judges.

mod truth;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::agent::{self, Profile};
use crate::setup::Tools;
use crate::toolchain;

use truth::{Mark, Seen};

/// Where the programs are.
const DIR: &str = "leaktrace/corpus/c";

/// The programs, each named for its file.
const PROGRAMS: [&str; 5] = ["cache", "connections", "contexts", "files", "threads"];

/// How many run at the same time: their load is small, the agents' start is not.
const PARALLEL: usize = 3;

/// Seconds from one report of the agent to the next.
const INTERVAL_SECONDS: u32 = 5;

/// Enough for every site of the programs.
const TOP_SITES: &str = "50";

/// The names that the command takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter()
}

/// One mark of one program, and what the agent said of it.
struct Row {
    program: &'static str,
    mark: Mark,
    seen: Seen,
}

/// Builds the programs, traces them and prints what came of it; 1 where a leak was missed or an
/// innocent blamed.
///
/// # Errors
/// Fails where something does not build or a trace does not succeed.
pub fn run(tools: &Tools, only: Option<&str>, seconds: u32, is_json: bool) -> Result<ExitCode> {
    // The load is light: the quick build keeps up with it.
    let agent = agent::build(tools, Profile::Debug)?;
    let chosen: Vec<&'static str> = names()
        .filter(|name| only.is_none_or(|only| only == *name))
        .collect();
    let mut rows = Vec::new();
    for group in chosen.chunks(PARALLEL) {
        eprintln!("xtask: tracing {} for {seconds} s", group.join(", "));
        let traced = thread::scope(|scope| {
            let started: Vec<_> = group
                .iter()
                .map(|name| scope.spawn(|| examine(&agent, name, seconds)))
                .collect();
            started
                .into_iter()
                .map(|thread| thread.join().expect("an examination does not panic"))
                .collect::<Result<Vec<_>>>()
        })?;
        rows.extend(traced.into_iter().flatten());
    }
    print(&rows, is_json);
    let wrong = rows.iter().filter(|row| !row.is_right()).count();
    let (leaks, innocents): (Vec<&Row>, Vec<&Row>) = rows
        .iter()
        .partition(|row| row.mark.leaks_bytes_per_second.is_some());
    // Apart from each other: where nothing is judged, nobody is blamed either.
    eprintln!(
        "xtask: {} of {} leaks judged growing, {} named; {} of {} innocents blamed",
        leaks.iter().filter(|row| row.is_right()).count(),
        leaks.len(),
        leaks
            .iter()
            .filter(|row| row.seen.verdict.is_some())
            .count(),
        innocents.iter().filter(|row| !row.is_right()).count(),
        innocents.len(),
    );
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

/// Traces one program and compares what the agent says with its marks.
fn examine(agent: &Path, name: &'static str, seconds: u32) -> Result<Vec<Row>> {
    let source = toolchain::workspace_dir()
        .join(DIR)
        .join(name)
        .with_extension("c");
    let text = fs::read_to_string(&source)
        .with_context(|| format!("failed to read {}", source.display()))?;
    let marks = truth::marks(&text)?;
    let program = compile(name, &source)?;
    let mut trace = agent::command(agent);
    trace
        .args(["trace", "--format", "json", "--min-age", "0s"])
        .args(["--top", TOP_SITES])
        .args(["--interval", &format!("{INTERVAL_SECONDS}s")])
        .args(["--duration", &format!("{seconds}s"), "--"])
        .arg(&program)
        // The program outlives the trace a little and then ends by itself.
        .arg((seconds + 2 * INTERVAL_SECONDS).to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let output = trace
        .output()
        .with_context(|| format!("failed to run {trace:?}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("the trace of {name} failed ({}): {words}", output.status);
    }
    let stream = String::from_utf8(output.stdout).context("the stream is no UTF-8")?;
    let file = format!("{name}.c");
    marks
        .into_iter()
        .map(|mark| {
            let reports = seconds / INTERVAL_SECONDS;
            let seen = truth::seen(&stream, &file, &mark, reports, INTERVAL_SECONDS)?;
            Ok(Row {
                program: name,
                mark,
                seen,
            })
        })
        .collect()
}

/// Compiles as distributions do: optimized, without frame pointers.
fn compile(name: &str, source: &Path) -> Result<PathBuf> {
    let dir = toolchain::target_dir().join("corpus");
    fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let program = dir.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-g", "-Wall", "-Wextra", "-pthread", "-o"])
        .args([program.as_path(), source]);
    toolchain::scrub(&mut cc);
    agent::run(&mut cc)?;
    Ok(program)
}

impl Row {
    /// A leak is found and called growing; an innocent is anything but growing.
    fn is_right(&self) -> bool {
        let is_growing = self.seen.verdict.as_deref() == Some("growing");
        is_growing == self.mark.leaks_bytes_per_second.is_some()
    }
}

/// Prints the rows as a table or as one JSON object a line.
fn print(rows: &[Row], is_json: bool) {
    if !is_json {
        println!(
            "{:<12} {:<20} {:<9} {:<6} {:<11} {:>10} {:>10}  right?",
            "program", "site", "truth", "named", "verdict", "true B/s", "seen B/s"
        );
    }
    for row in rows {
        let leaks = row.mark.leaks_bytes_per_second;
        let truth = leaks.map_or("innocent", |_| "leak");
        if is_json {
            let line = json!({
                "program": row.program, "language": "c", "site": row.mark.name,
                "line": row.mark.line, "truth": truth, "named": row.seen.verdict.is_some(),
                "verdict": row.seen.verdict, "true_bytes_per_second": leaks.unwrap_or(0),
                "seen_bytes_per_second": row.seen.growth_bytes_per_second, "right": row.is_right(),
            });
            println!("{line}");
            continue;
        }
        println!(
            "{:<12} {:<20} {truth:<9} {:<6} {:<11} {:>10} {:>10}  {}",
            row.program,
            row.mark.name,
            if row.seen.verdict.is_some() {
                "yes"
            } else {
                "no"
            },
            row.seen.verdict.as_deref().unwrap_or("-"),
            leaks.unwrap_or(0),
            row.seen.growth_bytes_per_second,
            if row.is_right() { "yes" } else { "NO" },
        );
    }
}
