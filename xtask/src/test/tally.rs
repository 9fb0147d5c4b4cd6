//! Owns the counting: what test binaries print, added up and summed up.
//! Must not know which tests there are.

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};

use super::step::{Outcome, Step};

/// What a test writes, past the harness's capture, where it cannot run here.
const SKIPPED: &str = "skipped: ";

/// Runs a `cargo test`, shows all that it prints, and counts its tests.
pub fn run_tests(mut cargo: Command, args: &[String]) -> Result<Outcome> {
    cargo.arg("--").args(args);
    if io::stderr().is_terminal() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = cargo
        .spawn()
        .with_context(|| format!("failed to run {cargo:?}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Both are read at once: a full pipe would stop the tests.
    let said = thread::spawn(move || stderr.map(|said| count(said, io::stderr())));
    let mut outcome = stdout
        .map(|said| count(said, io::stdout()))
        .unwrap_or_default();
    if let Ok(Some(other)) = said.join() {
        outcome.skipped.extend(other.skipped);
    }
    let status = child.wait().context("failed to wait for cargo test")?;
    if !status.success() && outcome.failed == 0 {
        println!("cargo test ended without a failed test ({status})");
        outcome.failed = 1;
    }
    // The harness takes a test that returns early for one that passed.
    let skipped = u32::try_from(outcome.skipped.len()).unwrap_or(u32::MAX);
    outcome.passed = outcome.passed.saturating_sub(skipped);
    Ok(outcome)
}

/// Passes a child's lines on and counts what they tell.
fn count(said: impl Read, mut shown: impl Write) -> Outcome {
    let mut outcome = Outcome::default();
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    // A child may print any bytes; only its own lines have to be text.
    while said
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        // Who closed our output still wants the exit code.
        let _ = shown.write_all(&line).and_then(|()| shown.flush());
        add_line(&String::from_utf8_lossy(&line), &mut outcome);
        line.clear();
    }
    outcome
}

/// Adds what one line of the harness or of a test tells.
fn add_line(line: &str, outcome: &mut Outcome) {
    if let Some(counts) = line.trim_start().strip_prefix("test result: ") {
        outcome.passed += number_before(counts, " passed");
        outcome.failed += number_before(counts, " failed");
    } else if let Some((before, why)) = line.split_once(SKIPPED)
        && (before.is_empty() || before.trim_end().ends_with("..."))
    {
        outcome.skipped.push(why.trim().to_owned());
    }
}

/// The number that stands before a word: `3` in `ok. 3 passed; 0 failed`.
fn number_before(text: &str, word: &str) -> u32 {
    let before = text.split(word).next().unwrap_or_default();
    before
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Prints the table, what was skipped, and the last line; tells whether all is well.
pub fn print_summary(steps: &[Step], is_ci: bool) -> bool {
    println!(
        "\n{:<16} {:>8} {:>8} {:>8} {:>10}",
        "step", "passed", "failed", "skipped", "time"
    );
    for step in steps {
        let Outcome {
            passed,
            failed,
            skipped,
        } = &step.outcome;
        let (skipped, seconds) = (skipped.len(), step.took.as_secs_f64());
        let mark = if step.is_ok() { "" } else { "  FAILED" };
        println!(
            "{:<16} {passed:>8} {failed:>8} {skipped:>8} {seconds:>8.1} s{mark}",
            step.name
        );
    }
    let reasons: Vec<&String> = steps
        .iter()
        .flat_map(|step| &step.outcome.skipped)
        .collect();
    if !reasons.is_empty() {
        let verdict = if is_ci {
            "FAILED: SKIPPED UNDER CI"
        } else {
            "SKIPPED, NOT TESTED"
        };
        println!("\n!!!!!!!! {verdict} !!!!!!!!");
        for reason in &reasons {
            println!("!! {reason}");
        }
        println!("!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!");
    }
    let (line, all_is_well) = verdict(steps, is_ci);
    println!("\n{line}");
    all_is_well
}

/// The last line, and whether all is well. Under CI what is skipped has failed.
fn verdict(steps: &[Step], is_ci: bool) -> (String, bool) {
    let sum = |part: fn(&Outcome) -> usize| -> usize {
        steps.iter().map(|step| part(&step.outcome)).sum()
    };
    let passed = sum(|outcome| outcome.passed as usize);
    let mut failed = sum(|outcome| outcome.failed as usize);
    let mut skipped = sum(|outcome| outcome.skipped.len());
    if is_ci {
        failed += skipped;
        skipped = 0;
    }
    let mut line = format!("{passed} passed, {failed} failed");
    if skipped > 0 {
        line.push_str(&format!(", {skipped} skipped"));
    }
    (line, failed == 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Runs the counter over a text as a test binary prints it.
    fn check(said: &str, passed: u32, failed: u32, skipped: &[&str]) {
        let outcome = count(said.as_bytes(), io::sink());
        let skipped = skipped.iter().map(|why| (*why).to_owned()).collect();
        assert_eq!(
            outcome,
            Outcome {
                passed,
                failed,
                skipped
            },
            "{said}"
        );
    }

    /// Every binary's result line counts; lines that look alike do not.
    #[test]
    fn results_of_all_binaries_add_up() {
        check(
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out\n\
             test a::tells_a_test_result ... ok\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured\n",
            15,
            2,
            &[],
        );
        check("", 0, 0, &[]);
    }

    /// A test that skips is told with its reason, also behind its name on the same
    /// line, where the harness has not ended that line yet.
    #[test]
    fn skipped_tests_are_told() {
        check("skipped: forks: no root\n", 0, 0, &["forks: no root"]);
        check(
            "test forks ... skipped: forks: no eBPF\nok\n",
            0,
            0,
            &["forks: no eBPF"],
        );
        check("1 report was skipped: too large\n", 0, 0, &[]);
    }

    /// A skip is a failure under CI and a third number elsewhere.
    #[test]
    fn ci_takes_a_skip_for_a_failure() {
        let step = |passed, failed, skipped: &[&str]| Step {
            name: "step",
            outcome: Outcome {
                passed,
                failed,
                skipped: skipped.iter().map(|why| (*why).to_owned()).collect(),
            },
            took: Duration::ZERO,
        };
        let clean = [step(3, 0, &[]), step(1, 0, &[])];
        assert_eq!(
            verdict(&clean, true),
            ("4 passed, 0 failed".to_owned(), true)
        );
        let skips = [step(3, 0, &["no root"])];
        assert_eq!(
            verdict(&skips, false),
            ("3 passed, 0 failed, 1 skipped".to_owned(), true)
        );
        assert_eq!(
            verdict(&skips, true),
            ("3 passed, 1 failed".to_owned(), false)
        );
        assert!(!verdict(&[step(3, 1, &[])], false).1);
    }
}
