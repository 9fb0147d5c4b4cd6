//! Owns the command line of `cargo xtask`: what there is, and which module does it.
//! Must not do any of it.
#![forbid(unsafe_code)]

mod aarch64;
mod agent;
mod apt;
mod bench;
mod cache;
mod corpus;
mod demo;
mod fuzz;
mod golang;
mod image;
mod kubelet;
mod libraries;
mod linker;
mod manifests;
mod packages;
mod pipelines;
mod pods;
mod progress;
mod python;
mod seed;
mod setup;
mod soak;
mod test;
mod tidy;
mod toolchain;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};

use crate::agent::Profile;
use crate::setup::Tools;
use crate::test::Rules;

/// The project's automation.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What can be done.
#[derive(Subcommand)]
enum Command {
    /// Install what the build needs and this machine lacks.
    Setup {
        /// Also what the tests trace and build with (Debian packages, which need root; Go).
        #[arg(long)]
        test_programs: bool,
    },
    /// Build the agent: target/debug/leaktrace or target/release/leaktrace.
    Build {
        /// Optimized and static.
        #[arg(long)]
        release: bool,
    },
    /// Build the agent and run it, through sudo where needed.
    Run {
        /// What follows `--` goes to the agent.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Trace a small leaking program and show the report.
    Demo,
    /// Run every check and test; under CI=true none may be skipped.
    Test {
        /// Only tests whose names contain this word, and no other checks.
        #[arg(last = true)]
        filter: Option<String>,
    },
    /// What CI runs: `test` with CI's rules.
    Ci,
    /// Run the benchmarks, or one of them.
    Bench {
        /// Which one.
        #[arg(value_parser = PossibleValuesParser::new(bench::names()))]
        name: Option<String>,
    },
    /// Trace programs whose leaks are known, and tell which were found and who was blamed.
    Corpus {
        /// Which one.
        #[arg(value_parser = PossibleValuesParser::new(corpus::names()))]
        name: Option<String>,
        /// How long each is traced.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(20..=3600))]
        seconds: u32,
        /// One JSON object a line in place of the table.
        #[arg(long)]
        json: bool,
        /// The same programs under other tools: bcc's memleak, heaptrack, `LeakSanitizer`, Go's pprof.
        #[arg(long, conflicts_with_all = ["name", "json"])]
        peers: bool,
    },
    /// Fuzz what reads hostile files: all targets, or one of them.
    Fuzz {
        /// Which one.
        #[arg(value_parser = PossibleValuesParser::new(fuzz::names()))]
        name: Option<String>,
        /// How long each.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Pack the agent as a container image, target/image/leaktrace-oci.tar, reproducibly.
    Image,
    /// Check manifests, the chart, alert rules and the dashboard with the tools of those who read them.
    Manifests,
    /// Send the stream of `pods` through rsyslog into `DuckDB`, and as many nodes' streams into `DuckDB` and `ClickHouse`.
    Pipelines {
        /// How many nodes are simulated.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        nodes: u32,
    },
    /// Run the image as the `DaemonSet`'s pod on containerd, beside pods that leak, and judge what it tells.
    Pods {
        /// How long each of three runs lasts.
        #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(120..=3600))]
        seconds: u32,
    },
    /// The same below a real kubelet, which is built from Debian's source once (some ten minutes).
    Kubelet {
        /// How long each of two runs lasts.
        #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(120..=3600))]
        seconds: u32,
    },
    /// Compile agent and probes for aarch64, where nothing has been run yet.
    Aarch64,
    /// Watch for long beside short-lived processes, pids that come again, leaks that are restarted, and a real
    /// Prometheus, and check that the agent stays as it is.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_080))]
        minutes: u32,
        /// What follows `--` are more options of `leaktrace watch`.
        #[arg(last = true)]
        options: Vec<OsString>,
    },
    /// Run the agent on other kernels, emulated by QEMU: all of them, or those named.
    Vm {
        /// Which ones.
        #[arg(value_parser = PossibleValuesParser::new(vm::names()))]
        kernels: Vec<String>,
    },
    /// Check the house rules that no compiler checks.
    Tidy,
}

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Does what the user asked for.
fn perform(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { test_programs } => {
            Tools::ensure()?;
            if test_programs {
                packages::ensure()?;
            }
        }
        Command::Build { release } => {
            let profile = if release {
                Profile::Release
            } else {
                Profile::Debug
            };
            let agent = agent::build(&Tools::ensure()?, profile)?;
            eprintln!("xtask: built {}", agent.display());
        }
        Command::Run { args } => {
            let agent = agent::build(&Tools::ensure()?, Profile::Release)?;
            agent::become_agent(&agent, &args)?;
        }
        Command::Demo => demo::run(&Tools::ensure()?)?,
        Command::Test { filter } => return test::run(&Rules::from_environment(filter)),
        Command::Ci => {
            return test::run(&Rules {
                is_ci: true,
                filter: None,
            });
        }
        Command::Bench { name } => bench::run(&Tools::ensure()?, name.as_deref())?,
        Command::Corpus {
            seconds,
            peers: true,
            ..
        } => return corpus::compare(&Tools::ensure()?, seconds),
        Command::Corpus {
            name,
            seconds,
            json,
            peers: false,
        } => return corpus::run(&Tools::ensure()?, name.as_deref(), seconds, json),
        Command::Fuzz { name, seconds } => {
            fuzz::run(&Tools::ensure()?, name.as_deref(), seconds)?;
        }
        Command::Image => drop(image::run(&Tools::ensure()?)?),
        Command::Manifests => manifests::check()?,
        Command::Pipelines { nodes } => pipelines::run(nodes)?,
        Command::Pods { seconds } => pods::run(&Tools::ensure()?, seconds)?,
        Command::Kubelet { seconds } => kubelet::run(&Tools::ensure()?, seconds)?,
        Command::Aarch64 => aarch64::check(&Tools::ensure()?)?,
        Command::Soak { minutes, options } => soak::run(&Tools::ensure()?, minutes, &options)?,
        Command::Vm { kernels } => return vm::run(&Tools::ensure()?, &kernels),
        Command::Tidy => tidy::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
