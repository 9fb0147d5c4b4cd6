//! Owns the options that say whom to trace, and where the names come from that they use, for all commands that trace.
//! Must not know how processes are found.

use std::collections::BTreeMap;

use clap::Args;

use super::names::NameArgs;
use super::values::{parse_cgroup, parse_container, parse_glob, parse_pod};
use crate::{
    config::{PodName, Targets},
    host::{cgroup::CgroupPath, process::CommGlob},
};

/// Where `--help` lists them.
const TARGETS: &str = "Whom to trace";

/// Whom to trace: the union of what is named.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Trace this process (repeatable) and the children that it makes from now on.
    #[arg(long, help_heading = TARGETS, short = 'p', value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Trace processes whose command name matches, now or later (repeatable), as in 'nginx*'.
    #[arg(long, help_heading = TARGETS, value_name = "GLOB", value_parser = parse_glob)]
    pub comm: Vec<CommGlob>,

    /// Trace processes in this control group and below it, now or later (repeatable).
    #[arg(long, help_heading = TARGETS, value_name = "PATH", value_parser = parse_cgroup)]
    pub cgroup: Vec<CgroupPath>,

    /// Trace processes in this container, by id or name, now or later (repeatable).
    #[arg(long, help_heading = TARGETS, value_name = "ID-OR-NAME", value_parser = parse_container)]
    pub container: Vec<String>,

    /// Trace processes in this Kubernetes pod, now or later (repeatable).
    #[arg(long, help_heading = TARGETS, value_name = "NAMESPACE/NAME", value_parser = parse_pod)]
    pub pod: Vec<PodName>,

    /// Where names come from.
    #[command(flatten)]
    pub names: NameArgs,
}

impl TargetArgs {
    /// What was typed, as the stream's first line tells it.
    pub(super) fn told(&self) -> BTreeMap<&'static str, String> {
        let comms = self.comm.iter().map(|glob| glob.as_str().to_owned());
        [
            ("pid", self.pid.iter().map(u32::to_string).collect()),
            ("comm", comms.collect::<Vec<_>>()),
            (
                "cgroup",
                self.cgroup.iter().map(ToString::to_string).collect(),
            ),
            ("container", self.container.clone()),
            ("pod", self.pod.iter().map(ToString::to_string).collect()),
        ]
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(name, words)| (name, words.join(" ")))
        .collect()
    }
}

impl From<TargetArgs> for Targets {
    fn from(from: TargetArgs) -> Self {
        Self {
            pids: from.pid,
            comms: from.comm,
            cgroups: from.cgroup,
            containers: from.container,
            pods: from.pod,
            command: Vec::new(),
            is_by_request: false,
        }
    }
}
