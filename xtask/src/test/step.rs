//! Owns one step of a test run: its heading, its time, and what came out.
//! Must not know what a step does.

use std::time::{Duration, Instant};

use anyhow::Result;

/// What one step found, in numbers of tests; a check counts as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Tests that ran and held.
    pub passed: u32,
    /// Tests that did not hold, or a check that did not succeed.
    pub failed: u32,
    /// Why tests did not really run, one line each.
    pub skipped: Vec<String>,
}

impl Outcome {
    /// A check without tests of its own that succeeded.
    pub fn check() -> Self {
        Self {
            passed: 1,
            ..Self::default()
        }
    }

    /// A check without tests of its own that failed.
    pub fn failure() -> Self {
        Self {
            failed: 1,
            ..Self::default()
        }
    }
}

/// One step that was run.
pub struct Step {
    /// The heading.
    pub name: &'static str,
    /// What came out.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Step {
    /// Whether nothing failed. Skipped tests are judged by the summary.
    pub fn is_ok(&self) -> bool {
        self.outcome.failed == 0
    }
}

/// Runs one step under its heading. An error is told at once and counted, so that
/// the steps behind it still run.
pub fn run(name: &'static str, action: impl FnOnce() -> Result<Outcome>) -> Step {
    println!("\n== {name}");
    let started = Instant::now();
    let outcome = action().unwrap_or_else(|error| {
        println!("{error:#}");
        Outcome::failure()
    });
    let took = started.elapsed();
    let verdict = if outcome.failed == 0 { "ok" } else { "FAILED" };
    println!("== {name}: {verdict}, {:.1} s", took.as_secs_f64());
    Step {
        name,
        outcome,
        took,
    }
}
