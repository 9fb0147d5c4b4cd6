//! Owns the benchmarks' start: which there are and how they are built.
//! Must not judge their figures.

use anyhow::Result;

use crate::agent::{self, Profile};
use crate::setup::Tools;

/// All benchmarks, in the order in which they run.
const BENCHES: &[&str] = &["pair", "agent"];

/// Runs one benchmark, or all of them.
///
/// # Errors
/// Fails where the benchmark does not build or does not succeed.
pub fn run(tools: &Tools, name: Option<&str>) -> Result<()> {
    // Benchmarks that start the agent want the one that users run.
    agent::build(tools, Profile::Release)?;
    for bench in BENCHES
        .iter()
        .filter(|bench| name.is_none_or(|name| name == **bench))
    {
        let mut cargo = tools.cargo()?;
        cargo.args(["bench", "--package", "leaktrace", "--bench", bench]);
        // Built like the agent, so that both share the compiled dependencies.
        agent::set_static(&mut cargo)?;
        agent::run(&mut cargo)?;
    }
    Ok(())
}

/// The benchmarks' names, as the command line accepts them.
pub fn names() -> impl Iterator<Item = &'static str> {
    BENCHES.iter().copied()
}
