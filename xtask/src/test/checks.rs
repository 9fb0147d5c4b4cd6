//! Owns the commands behind the steps: which cargo call checks what.
//! Must not know the order of the steps or how they are counted.

use std::env::consts::ARCH;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::step::Outcome;
use super::{Rules, tally};
use crate::setup::Tools;
use crate::{agent, corpus, golang, manifests, packages, toolchain, vm};

/// The crates that are built for the host.
const HOST: &[&str] = &["--workspace", "--exclude", "leaktrace-ebpf"];

/// Runs a command whose exit code is all that counts.
fn check(command: &mut Command) -> Result<Outcome> {
    agent::run(command.stdin(Stdio::null()))?;
    Ok(Outcome::check())
}

/// The formatting of every crate.
pub fn rustfmt(tools: &Tools) -> Result<Outcome> {
    check(tools.cargo()?.args(["fmt", "--all", "--check"]))
}

/// Clippy for all that runs on the host, tests and benchmarks too.
pub fn clippy_host(tools: &Tools) -> Result<Outcome> {
    let mut cargo = tools.cargo()?;
    cargo
        .arg("clippy")
        .args(HOST)
        .args(["--all-targets", "--", "-D", "warnings"]);
    check(&mut cargo)
}

/// Clippy for the BPF crate, apart: for the host it would have no panic handler,
/// and another target's features would be unified into it.
pub fn clippy_bpf(tools: &Tools) -> Result<Outcome> {
    let mut cargo = tools.cargo()?;
    cargo
        .args([
            "clippy",
            "--package",
            "leaktrace-ebpf",
            "--release",
            "--target",
        ])
        .args(["bpfel-unknown-none", "-Z", "build-std=core", "--target-dir"])
        // A directory of its own, as other flags would rebuild `core` each time.
        .arg(toolchain::target_dir().join("bpf-clippy"))
        .args(["--", "-D", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""));
    check(&mut cargo)
}

/// The documentation, that of private items too.
pub fn rustdoc(tools: &Tools) -> Result<Outcome> {
    let mut cargo = tools.cargo()?;
    cargo
        .arg("doc")
        .args(HOST)
        .args(["--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    check(&mut cargo)
}

/// The agent with the BPF object in it.
pub fn build(tools: &Tools) -> Result<Outcome> {
    check(tools.cargo()?.args(["build", "--package", "leaktrace"]))
}

/// A second build has nothing to do: a build script that always runs again would
/// cost everyone seconds, every time.
pub fn no_op_rebuild(tools: &Tools) -> Result<Outcome> {
    let mut cargo = tools.cargo()?;
    cargo
        .args(["build", "--package", "leaktrace", "--color=never"])
        .stdin(Stdio::null());
    let output = cargo
        .output()
        .with_context(|| format!("failed to run {cargo:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("Compiling ") {
        bail!("the second build was not a no-op:\n{said}");
    }
    Ok(Outcome::check())
}

/// The automation's own tests.
pub fn xtask_tests(tools: &Tools, rules: &Rules) -> Result<Outcome> {
    let mut cargo = tools.cargo()?;
    cargo.args(["test", "--package", "xtask"]);
    tally::run_tests(cargo, &filter_args(rules))
}

/// The tests that need neither kernel nor rights.
pub fn pure_tests(tools: &Tools, rules: &Rules) -> Result<Outcome> {
    let mut cargo = tools.cargo()?;
    // Without a filter a failure in one crate must not hide another's.
    cargo.args([
        "test",
        "--no-fail-fast",
        "--package",
        "leaktrace",
        "--package",
    ]);
    cargo.args(["leaktrace-common", "--lib"]);
    tally::run_tests(cargo, &filter_args(rules))
}

/// The tests that load eBPF and fire uprobes. Each decides for itself whether it
/// can run here, and says so; under CI it fails instead.
pub fn kernel_tests(tools: &Tools, rules: &Rules) -> Result<Outcome> {
    let mut cargo = tools.cargo()?;
    cargo.args(["test", "--package", "leaktrace", "--test", "it"]);
    if rules.is_ci {
        cargo.env("CI", "true").env("LEAKTRACE_REQUIRE_KERNEL", "1");
    }
    let mut args = filter_args(rules);
    args.push("--test-threads=1".to_owned());
    let mut outcome = tally::run_tests(cargo, &args)?;
    // What the machine lacks is told even where a test forgets to.
    if !agent::is_root() {
        outcome
            .skipped
            .push("whatever needs root: run `cargo xtask test` as root".to_owned());
    }
    if !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        outcome
            .skipped
            .push("whatever fires probes: this kernel shows no uprobes".to_owned());
    }
    for program in packages::missing() {
        let remedy = "`cargo xtask setup --test-programs` installs it";
        outcome
            .skipped
            .push(format!("whatever traces {program}: {remedy}"));
    }
    Ok(outcome)
}

/// A few programs whose leaks are known: each is found and nobody else blamed.
pub fn corpus(tools: &Tools, rules: &Rules) -> Result<Outcome> {
    let lacks_probes = !Path::new("/sys/bus/event_source/devices/uprobe").exists();
    let lacks_go = !rules.is_ci && !golang::missing().is_empty();
    if !agent::is_root() || lacks_probes || lacks_go {
        let why = "corpus: it takes root, uprobes and Go";
        return Ok(Outcome {
            skipped: vec![why.to_owned()],
            ..Outcome::default()
        });
    }
    let is_right = corpus::test(tools)?;
    Ok(if is_right {
        Outcome::check()
    } else {
        Outcome::failure()
    })
}

/// What is deployed is valid to the tools of those who read it.
pub fn manifests(rules: &Rules) -> Result<Outcome> {
    let lacking = packages::missing();
    if !rules.is_ci && !lacking.is_empty() {
        let why = format!("manifests: {} missing", lacking.join(", "));
        return Ok(Outcome {
            skipped: vec![why],
            ..Outcome::default()
        });
    }
    manifests::check().map(|()| Outcome::check())
}

/// The agent on kernels with either way to attach probes, emulated: it loads, attaches and counts to the byte.
pub fn kernels(tools: &Tools, rules: &Rules) -> Result<Outcome> {
    let lacking = vm::missing();
    if let (false, Some((program, package))) = (rules.is_ci, lacking.first()) {
        let why = format!("kernels: no {program}, which Debian's {package} has");
        return Ok(Outcome {
            skipped: vec![why],
            ..Outcome::default()
        });
    }
    let is_well = vm::test(tools)?;
    Ok(if is_well {
        Outcome::check()
    } else {
        Outcome::failure()
    })
}

/// What goes to the test binary to choose tests.
fn filter_args(rules: &Rules) -> Vec<String> {
    rules.filter.iter().cloned().collect()
}
