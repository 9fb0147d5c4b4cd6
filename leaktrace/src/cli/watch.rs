//! Owns the options of `leaktrace watch` and their help.
//! Must not know how anything is done.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::NameArgs;
use super::values::{parse_cgroup, parse_duration, parse_glob, parse_interval, parse_share};
use crate::{
    config::Targets,
    host::{cgroup::CgroupPath, process::CommGlob},
    summary::View,
    watch::WatchConfig,
};

/// Where `--help` lists them.
const TARGETS: &str = "Whom to watch, where not everyone";

const WATCH_EXAMPLES: &str = "\
Examples:
  Whose memory keeps growing on this host? A report a minute, until Ctrl-C:
      leaktrace watch >> /var/log/leaktrace.ndjson

  The verdicts alone, as they come:
      leaktrace watch | jq -c 'select(.verdict == \"growing\")'

  As metrics for Prometheus:
      leaktrace watch --listen 127.0.0.1:9500 > /dev/null";

/// Options of `leaktrace watch`.
#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct WatchArgs {
    /// Watch this process (repeatable).
    #[arg(long, help_heading = TARGETS, short = 'p', value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Watch processes whose command name matches (repeatable), as in 'nginx*'.
    #[arg(long, help_heading = TARGETS, value_name = "GLOB", value_parser = parse_glob)]
    pub comm: Vec<CommGlob>,

    /// Watch processes in this control group and below it (repeatable).
    #[arg(long, help_heading = TARGETS, value_name = "PATH", value_parser = parse_cgroup)]
    pub cgroup: Vec<CgroupPath>,

    /// Report this often.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_interval)]
    pub interval: Duration,

    /// Stop after this time [default: at Ctrl-C or SIGTERM].
    #[arg(long, short = 'd', value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Look at the memory of every process this often; nine looks tell whether it keeps growing.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_interval)]
    pub look_every: Duration,

    /// Tell at least so many processes in a report: those that grow, then the largest.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub processes: usize,

    /// Keep what probes cost the host, and so each process, below this part of one CPU, as in 1% or 0.01.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = parse_share)]
    pub max_overhead: f64,

    /// List this many sites of each process that has or had probes.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// What counts as long-lived.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub min_age: Duration,

    /// Where names come from.
    #[command(flatten)]
    pub names: NameArgs,

    /// Keep what was learnt in this file, so that a restart loses nothing.
    ///
    /// It is written each minute and at the end. SIGHUP has it written, the token file read again, a report
    /// made, and memory given back that can be filled again.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Serve /metrics (Prometheus), /healthz, /readyz and /debug/pprof/heap?pid=N here.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Ask who wants metrics or profiles for the token in this file; needed beyond loopback.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,
}

impl WatchArgs {
    /// What was typed, as what it means.
    #[must_use]
    pub fn into_config(self) -> WatchConfig {
        let mut told = BTreeMap::from([
            ("interval", format!("{:?}", self.interval)),
            ("look_every", format!("{:?}", self.look_every)),
            ("max_overhead", self.max_overhead.to_string()),
            ("min_age", format!("{:?}", self.min_age)),
            ("processes", self.processes.to_string()),
            ("top", self.top.to_string()),
        ]);
        if let Some(address) = self.listen {
            told.insert("listen", address.to_string());
        }
        if let Some(duration) = self.duration {
            told.insert("duration", format!("{duration:?}"));
        }
        let comms = self.comm.iter().map(|glob| glob.as_str().to_owned());
        let named: [(_, Vec<String>); 3] = [
            ("pid", self.pid.iter().map(u32::to_string).collect()),
            ("comm", comms.collect()),
            (
                "cgroup",
                self.cgroup.iter().map(ToString::to_string).collect(),
            ),
        ];
        for (name, words) in named.into_iter().filter(|(_, words)| !words.is_empty()) {
            told.insert(name, words.join(" "));
        }
        WatchConfig {
            targets: Targets {
                pids: self.pid,
                comms: self.comm,
                cgroups: self.cgroup,
                ..Targets::default()
            },
            interval: self.interval,
            duration: self.duration,
            look_pause: self.look_every,
            largest: self.processes,
            max_overhead: self.max_overhead,
            view: View {
                min_age: self.min_age,
                top: self.top,
            },
            state: self.state,
            listen: self.listen.map(|address| (address, self.token_file)),
            names: self.names.into(),
            told,
        }
    }
}
