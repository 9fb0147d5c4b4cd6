//! Owns what the user asked for, in plain values.
//! Must not know how it was typed.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::host::{cgroup::CgroupPath, containers::NameSources, process::CommGlob};

/// What `leaktrace trace` is to do.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    /// Whom to trace.
    pub targets: Targets,
    /// How long; `None` until a signal comes or the targets are gone.
    pub duration: Option<Duration>,
    /// A report each; `None` for one at the end.
    pub interval: Option<Duration>,
    /// What counts as long-lived.
    pub min_age: Duration,
    /// Smallest allocation that is followed, in bytes.
    pub min_size: u64,
    /// Largest allocation that is followed, in bytes.
    pub max_size: u64,
    /// Sites listed of each process.
    pub top: usize,
    /// Where the names of containers come from.
    pub names: NameSources,
    /// Where metrics and health are served, and the file of the token that opens the metrics.
    pub listen: Option<(SocketAddr, Option<PathBuf>)>,
    /// The form of the report.
    pub format: Format,
    /// Where the report goes; `None` for stdout.
    pub output: Option<PathBuf>,
    /// Whether text is in colours.
    pub colour: Colour,
    /// The file of what is not to be shown.
    pub suppressions: Option<PathBuf>,
    /// Bytes of the ring between the probes and the agent; a power of two of pages.
    pub ring_bytes: u32,
    /// Mean bytes between samples; 0 records every allocation.
    pub sample_bytes: u64,
    /// The part of one CPU that probes may take of each process; `None` for no limit.
    pub max_overhead: Option<f64>,
    /// Bytes of our memory that live blocks may take; `None` for a share of what is left.
    pub max_memory: Option<u64>,
    /// Exit with 1 when a site is judged to be growing.
    pub fail_on_leak: bool,
    /// Whether stacks are walked by unwind tables, or by frame pointers alone.
    pub has_unwind_tables: bool,
    /// Whether no return probe is placed, even where this kernel bears them.
    pub avoids_return_probes: bool,
    /// Where stacks go with what they were walked from, to be checked by another unwinder, and one in
    /// how many.
    pub oracle: Option<(PathBuf, u32)>,
    /// The options as the stream's first line tells them.
    pub told: std::collections::BTreeMap<&'static str, String>,
}

/// Whom to trace: the union of all that is named, or everyone where nothing is.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Processes.
    pub pids: Vec<u32>,
    /// Patterns of command names.
    pub comms: Vec<CommGlob>,
    /// Control groups, each with all below it.
    pub cgroups: Vec<CgroupPath>,
    /// Containers, by the beginning of their id or by their name.
    pub containers: Vec<String>,
    /// Kubernetes pods.
    pub pods: Vec<PodName>,
    /// A program to start, with its arguments.
    pub command: Vec<OsString>,
    /// Nobody yet, and never the children of those that are: processes are added and removed one by one.
    pub is_by_request: bool,
}

impl Targets {
    /// Whether nothing is named, which means everyone.
    #[must_use]
    pub fn is_host(&self) -> bool {
        let names_nobody = self.pids.is_empty() && self.command.is_empty();
        names_nobody && !self.has_patterns() && !self.is_by_request
    }

    /// Whether something is named that processes may match which start later.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        !(self.comms.is_empty()
            && self.cgroups.is_empty()
            && self.containers.is_empty()
            && self.pods.is_empty())
    }
}

/// A pod by its two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
    /// For flame graph tools: one stack a line.
    Folded,
    /// For `go tool pprof`.
    Pprof,
    /// For a browser: one file with all in it.
    Html,
}

impl Format {
    /// Whether it shows the last report alone, with as many sites as there are.
    #[must_use]
    pub fn is_picture(self) -> bool {
        !matches!(self, Self::Text | Self::Json)
    }

    /// Whether it is nothing for a terminal.
    #[must_use]
    pub fn is_binary(self) -> bool {
        self == Self::Pprof
    }

    /// Sites listed of each process where nothing else is said: what a reader takes in, or what a
    /// picture needs to be whole.
    #[must_use]
    pub fn default_top(self) -> usize {
        if self.is_picture() { 1_000 } else { 10 }
    }
}

/// Whether text is in colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}
