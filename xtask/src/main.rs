//! Owns the command line of `cargo xtask`: what there is, and which module does it.
//! Must not do any of it.
#![forbid(unsafe_code)]

mod agent;
mod cache;
mod linker;
mod progress;
mod setup;
mod toolchain;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::agent::Profile;
use crate::setup::Tools;

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
    Setup,
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
    let tools = Tools::ensure()?;
    match command {
        Command::Setup => {}
        Command::Build { release } => {
            let profile = if release {
                Profile::Release
            } else {
                Profile::Debug
            };
            let agent = agent::build(&tools, profile)?;
            eprintln!("xtask: built {}", agent.display());
        }
        Command::Run { args } => {
            let agent = agent::build(&tools, Profile::Debug)?;
            agent::become_agent(&agent, &args)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
