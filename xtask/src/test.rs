//! Owns the tests' order: every check of the project, from set-up to summary.
//! Must not know how a single check is run or counted.

mod checks;
mod step;
mod tally;

use std::process::ExitCode;

use anyhow::Result;

use self::step::{Outcome, Step};
use crate::setup::Tools;
use crate::{packages, tidy};

/// How strict a run is, and what it is limited to.
pub struct Rules {
    /// Under CI nothing may be skipped, and what the tests need is installed.
    pub is_ci: bool,
    /// Only tests whose names contain this, and no other checks.
    pub filter: Option<String>,
}

impl Rules {
    /// The rules that the environment asks for.
    pub fn from_environment(filter: Option<String>) -> Self {
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
        Self { is_ci, filter }
    }
}

/// Runs everything, prints the summary, and tells whether all is well.
///
/// # Errors
/// None of a check: those are counted. Fails only where a command cannot be put together.
pub fn run(rules: &Rules) -> Result<ExitCode> {
    let mut steps = Vec::new();
    if let Some(tools) = set_up(&mut steps) {
        if rules.is_ci {
            steps.push(step::run("test programs", || {
                packages::ensure().map(|()| Outcome::check())
            }));
        }
        if rules.filter.is_none() {
            run_checks(&tools, &mut steps)?;
        }
        // Without a build each further step would tell the same error once more.
        let build = step::run("build", || checks::build(&tools));
        let is_built = build.is_ok();
        steps.push(build);
        if is_built {
            run_tests(&tools, rules, &mut steps);
        } else {
            eprintln!("xtask: the agent does not build: its tests are not run");
        }
    }
    let all_is_well = tally::print_summary(&steps, rules.is_ci);
    Ok(if all_is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Brings the tools; without them there is nothing that could be run.
fn set_up(steps: &mut Vec<Step>) -> Option<Tools> {
    let mut tools = None;
    steps.push(step::run("set-up", || {
        tools = Some(Tools::ensure()?);
        Ok(Outcome::check())
    }));
    tools
}

/// Everything that judges the text of the program and does not run it.
fn run_checks(tools: &Tools, steps: &mut Vec<Step>) -> Result<()> {
    steps.push(step::run("rustfmt", || checks::rustfmt(tools)));
    steps.push(step::run("tidy", || tidy::run().map(|()| Outcome::check())));
    steps.push(step::run("clippy, host", || checks::clippy_host(tools)));
    steps.push(step::run("clippy, BPF", || checks::clippy_bpf(tools)));
    steps.push(step::run("rustdoc", || checks::rustdoc(tools)));
    Ok(())
}

/// Everything that runs the program, cheap tests first.
fn run_tests(tools: &Tools, rules: &Rules, steps: &mut Vec<Step>) {
    if rules.filter.is_none() {
        steps.push(step::run("no-op rebuild", || checks::no_op_rebuild(tools)));
    }
    steps.push(step::run("tests of xtask", || {
        checks::xtask_tests(tools, rules)
    }));
    steps.push(step::run("pure tests", || checks::pure_tests(tools, rules)));
    steps.push(step::run("kernel tests", || {
        checks::kernel_tests(tools, rules)
    }));
    if rules.filter.as_deref().is_none_or(|it| it == "corpus") {
        steps.push(step::run("corpus", || checks::corpus(tools, rules)));
    }
    if rules.filter.as_deref().is_none_or(|it| it == "manifests") {
        steps.push(step::run("manifests", || checks::manifests(rules)));
    }
    if rules.filter.as_deref().is_none_or(|it| it == "kernels") {
        steps.push(step::run("kernels", || checks::kernels(tools, rules)));
    }
}
