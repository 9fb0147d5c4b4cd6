//! Owns the options of `leaktrace trace` and their help.
//! Must not know how anything is done.

use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use leaktrace_common::limits;

use super::targets::TargetArgs;
use super::values::{
    parse_duration, parse_interval, parse_memory, parse_ring_size, parse_sample_size, parse_share,
    parse_size,
};
use super::{forms::FormatArg, shown::ShownArgs};
use crate::config::{Format, Targets, TraceConfig};

const TRACE_EXAMPLES: &str = "\
Examples:
  What in process 4242 grew old in half a minute?
      leaktrace trace --pid 4242 --duration 30s

  Everything that a program never frees, from its first allocation:
      leaktrace trace --min-age 0s -- ./server --port 8080

  The whole host, a report every 10 seconds until Ctrl-C:
      leaktrace trace --interval 10s

  A test that fails when a site grows without end, with a page to look at:
      leaktrace trace --fail-on-leak --format html -o leaks.html -- ./soak-test

  One pod, with whatever containers it has:
      leaktrace trace --pod shop/cart-0 --duration 5m

  All workers of nginx, as JSON lines for a pipeline:
      leaktrace trace --comm 'nginx*' --duration 1m --format json --output nginx.ndjson";

/// Options of `leaktrace trace`.
#[derive(Debug, Args)]
#[command(after_help = TRACE_EXAMPLES)]
pub struct TraceArgs {
    /// Whom to trace.
    #[command(flatten)]
    pub targets: TargetArgs,

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

    /// Record one allocation in about so many bytes and scale the figures; 0 records all.
    ///
    /// Every block of at least 32 times this size is recorded. Estimates are unbiased, whatever the sizes.
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_sample_size)]
    pub sample_bytes: u64,

    /// Keep what probes cost each process, and the host, below this part of one CPU, as in 5% or 0.05.
    ///
    /// Over it, fewer allocations are recorded, or probes are taken out for a while; the report says so.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub max_overhead: Option<f64>,

    /// Keep what is known of live blocks within so much memory [default: a quarter of what is free].
    ///
    /// Some 60 bytes an outstanding object. What finds no room is not followed; the report counts it.
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub max_memory: Option<u64>,

    /// List this many sites of each process [default: 10; 1000 in other forms than text and json].
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,

    /// The form of the report; text and json come with every report, the others with the last.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: FormatArg,

    /// Size of the ring between probes and agent; a larger one loses nothing in larger bursts.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_ring_size)]
    pub ring_size: u32,

    /// Serve /metrics (Prometheus), /healthz, /readyz and /debug/pprof/heap?pid=N here.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Ask who wants metrics or profiles for the token in this file; needed beyond loopback.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,

    /// Where it goes, and what of it.
    #[command(flatten)]
    pub shown: ShownArgs,

    /// Exit with 1 when a site is judged to be growing that is not suppressed.
    #[arg(long)]
    pub fail_on_leak: bool,

    /// Write some stacks with what they were walked from to this file, for the project's tests.
    #[arg(long, value_name = "FILE", hide = true)]
    pub unwind_oracle: Option<PathBuf>,

    /// Walk stacks by frame pointers alone, for the project's benchmarks.
    #[arg(long, hide = true)]
    pub without_unwind_tables: bool,

    /// Have results at the instructions by which functions return, as on kernels where return probes do harm.
    #[arg(long, hide = true)]
    pub without_return_probes: bool,

    /// One in so many stacks.
    #[arg(long, value_name = "N", hide = true, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub unwind_oracle_one_in: u32,

    /// Start this program and trace it, and what it starts, from the first allocation until it
    /// exits.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl TraceArgs {
    /// What was typed, as what it means.
    #[must_use]
    pub fn into_config(self) -> TraceConfig {
        let told = self.told();
        let top = self.sites();
        TraceConfig {
            names: self.targets.names.clone().into(),
            targets: Targets {
                command: self.command,
                ..self.targets.into()
            },
            listen: self.listen.map(|address| (address, self.token_file)),
            duration: self.duration,
            interval: self.interval,
            min_age: self.min_age,
            min_size: self.min_size,
            max_size: self.max_size.unwrap_or(u64::MAX),
            top,
            format: self.format.into(),
            output: self.shown.output,
            colour: self.shown.color.into(),
            suppressions: self.shown.suppressions,
            ring_bytes: self.ring_size,
            sample_bytes: self.sample_bytes,
            max_overhead: self.max_overhead,
            max_memory: self.max_memory,
            fail_on_leak: self.fail_on_leak,
            has_unwind_tables: !self.without_unwind_tables,
            avoids_return_probes: self.without_return_probes,
            oracle: self
                .unwind_oracle
                .map(|path| (path, self.unwind_oracle_one_in)),
            told,
        }
    }

    fn sites(&self) -> usize {
        self.top.unwrap_or(Format::from(self.format).default_top())
    }

    fn told(&self) -> BTreeMap<&'static str, String> {
        let mut told = BTreeMap::from([
            ("min_age", format!("{:?}", self.min_age)),
            ("min_size", self.min_size.to_string()),
            ("top", self.sites().to_string()),
            ("sample_bytes", self.sample_bytes.to_string()),
            ("ring_size", self.ring_size.to_string()),
        ]);
        told.extend(self.targets.told());
        if !self.command.is_empty() {
            let words = self
                .command
                .iter()
                .map(|word| word.to_string_lossy().into_owned());
            told.insert("command", words.collect::<Vec<_>>().join(" "));
        }
        for (name, value) in [("duration", self.duration), ("interval", self.interval)] {
            if let Some(value) = value {
                told.insert(name, format!("{value:?}"));
            }
        }
        if let Some(share) = self.max_overhead {
            told.insert("max_overhead", share.to_string());
        }
        if let Some(bytes) = self.max_memory {
            told.insert("max_memory", bytes.to_string());
        }
        if let Some(path) = &self.shown.suppressions {
            told.insert("suppressions", path.display().to_string());
        }
        if let Some(size) = self.max_size {
            told.insert("max_size", size.to_string());
        }
        told
    }
}

const _: () = assert!(
    limits::EVENT_RING_BYTES == 16 << 20,
    "the default of --ring-size"
);
