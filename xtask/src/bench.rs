//! Owns the benchmarks' start: which there are and how they are built.
//! Must not judge their figures.

use anyhow::Result;

use crate::agent::{self, Profile};
use crate::setup::Tools;
use crate::{cache, golang};

/// All benchmarks, in the order in which they run.
const BENCHES: &[&str] = &["pair", "files", "agent", "attach", "go", "go-read", "watch"];

/// The comparison of stacks with another unwinder, which is a kernel test with a number of stacks.
const ORACLE: &str = "oracle";

/// Enough to see one stack in a thousand that differs.
const ORACLE_STACKS: &str = "5000";

/// Runs one benchmark, or all of them.
///
/// # Errors
/// Fails where the benchmark does not build or does not succeed.
pub fn run(tools: &Tools, name: Option<&str>) -> Result<()> {
    // Benchmarks that start the agent want the one that users run.
    agent::build(tools, Profile::Release)?;
    let is_wanted = |bench: &str| name.is_none_or(|name| name == bench);
    for bench in BENCHES.iter().filter(|bench| is_wanted(bench)) {
        let mut cargo = tools.cargo()?;
        cargo.args(["bench", "--package", "leaktrace", "--bench", bench]);
        // Built like the agent, so that both share the compiled dependencies.
        agent::set_static(&mut cargo, "")?;
        if bench.starts_with("go") {
            golang::ensure()?;
            cargo.env("LEAKTRACE_CACHE", cache::dir()?);
        }
        agent::run(&mut cargo)?;
    }
    if is_wanted(ORACLE) {
        run_oracle(tools)?;
    }
    Ok(())
}

/// Compares far more stacks of each program with framehop's than a test run does, and shows how many are equal.
fn run_oracle(tools: &Tools) -> Result<()> {
    let mut cargo = tools.cargo()?;
    cargo.args(["test", "--package", "leaktrace", "--test", "it", "oracle::"]);
    cargo.args(["--", "--test-threads=1", "--nocapture"]);
    cargo.env("LEAKTRACE_ORACLE_STACKS", ORACLE_STACKS);
    agent::run(&mut cargo)
}

/// The benchmarks' names, as the command line accepts them.
pub fn names() -> impl Iterator<Item = &'static str> {
    BENCHES.iter().copied().chain([ORACLE])
}
