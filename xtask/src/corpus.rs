//! Owns the corpus: programs whose leaks are known are built, traced and compared with their truth.
//! Must not know how the agent judges.

mod programs;
mod truth;

use std::fs;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::agent::{self, Profile};
use crate::setup::Tools;

use programs::{PROGRAMS, Program};
use truth::{Mark, Seen};

/// How many run at the same time: their load is small, the agents' start is not.
const PARALLEL: usize = 5;

/// Seconds from one report of the agent to the next.
const INTERVAL_SECONDS: u32 = 5;

/// Enough for every site of the programs.
const TOP_SITES: &str = "200";

/// The names that the command takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.name)
}

/// One mark of one program, and what the agent said of it.
struct Row {
    program: Program,
    mark: Mark,
    seen: Seen,
}

/// One program, examined.
struct Examined {
    rows: Vec<Row>,
    /// Its sites that are called growing without a reason, by their innermost frames.
    strays: Vec<String>,
}

/// Builds the programs, traces them and prints what came of it; 1 where a leak was missed or an
/// innocent blamed.
///
/// # Errors
/// Fails where something does not build or a trace does not succeed.
pub fn run(tools: &Tools, only: Option<&str>, seconds: u32, is_json: bool) -> Result<ExitCode> {
    // The load is light: the quick build keeps up with it.
    let agent = agent::build(tools, Profile::Debug)?;
    let chosen: Vec<Program> = PROGRAMS
        .into_iter()
        .filter(|program| only.is_none_or(|only| only == program.name))
        .collect();
    let mut built = Vec::new();
    for program in chosen {
        built.push((program, program.build(tools)?));
    }
    let (mut rows, mut strays) = (Vec::new(), Vec::new());
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
        for (examined, name) in traced.into_iter().zip(names) {
            rows.extend(examined.rows);
            strays.extend(
                examined
                    .strays
                    .into_iter()
                    .map(|stray| format!("{name}: {stray}")),
            );
        }
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
    for stray in &strays {
        eprintln!("xtask: blamed though nothing of it leaks: {stray}");
    }
    Ok(ExitCode::from(u8::from(wrong > 0 || !strays.is_empty())))
}

/// Traces one program and compares what the agent says with its marks.
fn examine(agent: &Path, program: Program, path: &Path, seconds: u32) -> Result<Examined> {
    let source = program.source();
    let text = fs::read_to_string(&source)
        .with_context(|| format!("failed to read {}", source.display()))?;
    let truth = truth::truth(&text)?;
    let mut trace = agent::command(agent);
    trace
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
    let strays = truth::strays(&stream, &file, &truth, reports)?;
    let marks = truth.marks.into_iter();
    let rows: Result<Vec<Row>> = marks
        .map(|mark| {
            let seen = truth::seen(&stream, &file, &mark, reports, INTERVAL_SECONDS)?;
            Ok(Row {
                program,
                mark,
                seen,
            })
        })
        .collect();
    Ok(Examined {
        rows: rows?,
        strays,
    })
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
            "{:<17} {:<31} {:<9} {:<6} {:<11} {:>10} {:>10}  right?",
            "program", "site", "truth", "named", "verdict", "true B/s", "seen B/s"
        );
    }
    for row in rows {
        let leaks = row.mark.leaks_bytes_per_second;
        let truth = leaks.map_or("innocent", |_| "leak");
        if is_json {
            let line = json!({
                "program": row.program.name, "site": row.mark.name,
                "line": row.mark.line, "truth": truth, "named": row.seen.verdict.is_some(),
                "verdict": row.seen.verdict, "true_bytes_per_second": leaks.unwrap_or(0),
                "seen_bytes_per_second": row.seen.growth_bytes_per_second, "right": row.is_right(),
            });
            println!("{line}");
            continue;
        }
        println!(
            "{:<17} {:<31} {truth:<9} {:<6} {:<11} {:>10} {:>10}  {}",
            row.program.name,
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
