//! Owns the process: it parses, runs, and turns what comes back into an exit code.
//! Must not know how anything is done. The only place where errors are printed.

use std::process::ExitCode;

use clap::Parser as _;
use leaktrace::{
    calibration,
    cli::{Cli, Command},
    diff,
    host::doctor,
    inspect, render,
    session::{self, Outcome},
    top, watch,
};

/// The agent allocates through an allocator of its own. So it never runs into its own probes,
/// and tracing the whole host does not slow it down.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of usage and of every other error.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // One line, whatever the causes say.
            let line = format!("{error:#}").replace('\n', " ");
            eprintln!("leaktrace: {line}");
            ExitCode::from(ERROR)
        }
    }
}

/// Prints help where it was asked for, and what is wrong in one line where something is.
fn usage(error: &clap::Error) -> ExitCode {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(ERROR);
    }
    if !error.use_stderr() {
        // Nobody to print to is nobody to tell.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let mut parts = text
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = parts.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    eprintln!("leaktrace: {what}; remedy: see `leaktrace --help` or `leaktrace trace --help`");
    ExitCode::from(ERROR)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Trace(args) => Ok(
            match runtime()?.block_on(session::run(args.into_config()))? {
                Outcome::Done => ExitCode::SUCCESS,
                Outcome::LeakFound => ExitCode::from(1),
            },
        ),
        Command::Top(args) => {
            runtime()?.block_on(top::run(args.into_config()?))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Render(args) => {
            render::run(&args.into_config()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect(args) => {
            inspect::run(&args.into_config(), |bytes| {
                std::io::Write::write_all(&mut std::io::stdout(), bytes)
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Diff(args) => {
            diff::run(&args.into_config()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Watch(args) => {
            runtime()?.block_on(watch::run(args.into_config()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::CalibrationTarget => {
            calibration::be_target(std::io::stdin(), std::io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor => {
            let checks = doctor::examine();
            print!("{}", doctor::render_text(&checks, false));
            Ok(ExitCode::from(doctor::exit_code(&checks)))
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
