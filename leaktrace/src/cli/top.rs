//! Owns the options of `leaktrace top` and their help.
//! Must not know how anything is done.

use std::{io::IsTerminal as _, time::Duration};

use clap::Args;

use super::values::{
    parse_cgroup, parse_container, parse_duration, parse_glob, parse_interval, parse_pod,
};
use crate::{
    config::{PodName, Targets},
    host::{cgroup::CgroupPath, process::CommGlob},
    top::TopConfig,
};

/// Options of `leaktrace top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Trace this process (repeatable) and the children that it makes from now on.
    #[arg(long, short = 'p', value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Trace processes whose command name matches, now or later (repeatable), as in 'nginx*'.
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    pub comm: Vec<CommGlob>,

    /// Trace processes in this control group and below it, now or later (repeatable).
    #[arg(long, value_name = "PATH", value_parser = parse_cgroup)]
    pub cgroup: Vec<CgroupPath>,

    /// Trace processes in this container, by id or name, now or later (repeatable).
    #[arg(long, value_name = "ID-OR-NAME", value_parser = parse_container)]
    pub container: Vec<String>,

    /// Trace processes in this Kubernetes pod, now or later (repeatable).
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_pod)]
    pub pod: Vec<PodName>,

    /// Make the screen anew this often.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_interval)]
    pub interval: Duration,

    /// What counts as long-lived; 0s shows all that is outstanding.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub min_age: Duration,

    /// List this many sites of each process.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub top: usize,
}

impl TopArgs {
    /// What was typed, as what it means.
    ///
    /// # Errors
    ///
    /// Where there is no terminal to show anything on.
    pub fn into_config(self) -> anyhow::Result<TopConfig> {
        anyhow::ensure!(
            std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
            "`leaktrace top` needs a terminal; remedy: use `leaktrace trace --interval 10s`"
        );
        Ok(TopConfig {
            targets: Targets {
                pids: self.pid,
                comms: self.comm,
                cgroups: self.cgroup,
                containers: self.container,
                pods: self.pod,
                command: Vec::new(),
                is_by_request: false,
            },
            interval: self.interval,
            min_age: self.min_age,
            sites: self.top,
        })
    }
}
