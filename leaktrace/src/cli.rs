//! Owns the command line: its words, their units and their help.
//! Must not know how anything is done.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use leaktrace_common::limits;

use crate::{
    config::{Format, Targets, TraceConfig},
    host::process::CommGlob,
};

/// Shows which code of which process allocates memory and does not give it back.
///
/// Nothing in the traced program is prepared, restarted or harmed: leaktrace watches calls of
/// malloc and free from the kernel, by eBPF, and matches them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace now, report, stop.
    Trace(TraceArgs),
    /// Tell what this kernel and these privileges allow.
    Doctor,
}

const TRACE_EXAMPLES: &str = "\
Examples:
  What in process 4242 grew old in half a minute?
      leaktrace trace --pid 4242 --duration 30s

  Everything that a program never frees, from its first allocation:
      leaktrace trace --min-age 0s -- ./server --port 8080

  The whole host, a report every 10 seconds until Ctrl-C:
      leaktrace trace --interval 10s

  All workers of nginx, as JSON lines for a pipeline:
      leaktrace trace --comm 'nginx*' --duration 1m --format json --output nginx.ndjson";

/// Options of `leaktrace trace`.
#[derive(Debug, Args)]
#[command(after_help = TRACE_EXAMPLES)]
pub struct TraceArgs {
    /// Trace this process (repeatable) and the children that it makes from now on.
    #[arg(long, short = 'p', value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Trace processes whose command name matches, now or later (repeatable), as in 'nginx*'.
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    pub comm: Vec<CommGlob>,

    /// Stop after this time [default: at Ctrl-C, or when all that was named has exited].
    #[arg(long, short = 'd', value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Report this often [default: once, at the end].
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub interval: Option<Duration>,

    /// What counts as long-lived; 0s shows all that is outstanding.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub min_age: Duration,

    /// Follow only allocations of at least this size.
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    pub min_size: u64,

    /// Follow only allocations of at most this size.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// List this many sites of each process.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// The form of the report.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: FormatArg,

    /// Write the report to this file [default: stdout].
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Size of the ring between probes and agent; a larger one loses nothing in larger bursts.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_ring_size)]
    pub ring_size: u32,

    /// Exit with 1 when a site is judged to be growing.
    #[arg(long)]
    pub fail_on_leak: bool,

    /// Start this program and trace it, and what it starts, from the first allocation until it
    /// exits.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl TraceArgs {
    /// What was typed, as what it means.
    #[must_use]
    pub fn into_config(self) -> TraceConfig {
        let told = self.told();
        TraceConfig {
            targets: Targets {
                pids: self.pid,
                comms: self.comm,
                command: self.command,
            },
            duration: self.duration,
            interval: self.interval,
            min_age: self.min_age,
            min_size: self.min_size,
            max_size: self.max_size.unwrap_or(u64::MAX),
            top: self.top,
            format: match self.format {
                FormatArg::Text => Format::Text,
                FormatArg::Json => Format::Json,
            },
            output: self.output,
            ring_bytes: self.ring_size,
            fail_on_leak: self.fail_on_leak,
            told,
        }
    }

    fn told(&self) -> BTreeMap<&'static str, String> {
        let mut told = BTreeMap::from([
            ("min_age", format!("{:?}", self.min_age)),
            ("min_size", self.min_size.to_string()),
            ("top", self.top.to_string()),
            ("sample_bytes", "0".to_owned()),
            ("ring_size", self.ring_size.to_string()),
        ]);
        let list = |words: Vec<String>| words.join(" ");
        if !self.pid.is_empty() {
            told.insert("pid", list(self.pid.iter().map(u32::to_string).collect()));
        }
        if !self.comm.is_empty() {
            told.insert(
                "comm",
                list(
                    self.comm
                        .iter()
                        .map(|glob| glob.as_str().to_owned())
                        .collect(),
                ),
            );
        }
        if !self.command.is_empty() {
            let words = self
                .command
                .iter()
                .map(|word| word.to_string_lossy().into_owned());
            told.insert("command", list(words.collect()));
        }
        for (name, value) in [("duration", self.duration), ("interval", self.interval)] {
            if let Some(value) = value {
                told.insert(name, format!("{value:?}"));
            }
        }
        if let Some(size) = self.max_size {
            told.insert("max_size", size.to_string());
        }
        told
    }
}

fn parse_glob(text: &str) -> Result<CommGlob, String> {
    CommGlob::new(text).map_err(|error| error.to_string())
}

/// `250ms`, `30s`, `5m`, `2h`, `1d`, or several in a row, as `1m30s`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, such as 500ms, 30s or 5m"))
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err("it must be at least 100ms".to_owned());
    }
    Ok(interval)
}

/// `64`, `4KiB`, `1MB`: binary and decimal units.
fn parse_size(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| "write bytes, or a number and a unit, such as 512, 4KiB or 1MB".to_owned())
}

/// A size that a ring can have: a power of two of pages.
fn parse_ring_size(text: &str) -> Result<u32, String> {
    const MIN: u64 = 4 << 10;
    const MAX: u64 = 1 << 30;
    let size = parse_size(text)?;
    if !size.is_power_of_two() || !(MIN..=MAX).contains(&size) {
        return Err("it must be a power of two from 4KiB to 1GiB".to_owned());
    }
    u32::try_from(size).map_err(|error| error.to_string())
}

const _: () = assert!(
    limits::EVENT_RING_BYTES == 16 << 20,
    "the default of --ring-size"
);

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The definition holds together: no option twice, no default that does not parse.
    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Units are understood, and what is not is refused with an example.
    #[test]
    fn units_are_parsed() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("soon").unwrap_err().contains("30s"));
        assert_eq!(parse_size("4KiB"), Ok(4096));
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("17"), Ok(17));
        assert!(parse_size("much").unwrap_err().contains("4KiB"));
        assert_eq!(parse_ring_size("64KiB"), Ok(65_536));
        assert!(parse_ring_size("5000").is_err());
        assert!(parse_interval("1ms").is_err());
    }

    /// A command keeps its own options.
    #[test]
    fn a_command_keeps_its_options() {
        let line = ["leaktrace", "trace", "--top", "3", "--", "ls", "--top", "4"];
        let Command::Trace(args) = Cli::parse_from(line).command else {
            panic!("no trace")
        };
        let config = args.into_config();
        assert_eq!(config.top, 3);
        assert_eq!(config.targets.command, ["ls", "--top", "4"]);
        assert!(!config.targets.is_host());
    }
}
