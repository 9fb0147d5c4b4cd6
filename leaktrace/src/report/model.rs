//! Owns the report as every sink sees it: plain values, complete, already symbolized.
//! Must not know the kernel, files, clocks or how any of the figures came about.

mod cgroup;
mod cost;
mod course;
mod go;
mod goroutines;
mod inspection;
mod k8s;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::cgroup::Cgroup;
pub use self::cost::{Overhead, Windows};
pub use self::course::{Course, Suppressed};
pub use self::go::{Collected, Go};
pub use self::goroutines::{BlockedGoroutines, CreatedGoroutines, Goroutines};
pub use self::inspection::{
    Inspected, InspectedAllocator, InspectedEntryPoint, InspectedGo, InspectedLink,
    InspectedUnwinding,
};
pub use self::k8s::K8s;

/// What tells one machine from another in a stream that many machines feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Host {
    /// The node name, as `uname -n` tells.
    pub name: String,
    /// The machine id (`/etc/machine-id`), else the name of the node in Kubernetes; empty where there is neither.
    pub id: String,
}

/// Which process: a pid alone is reused, a pid with its start time is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessIdentity {
    /// The thread group id, which users call pid.
    pub pid: u32,
    /// When the process was created, in nanoseconds since the Unix epoch.
    pub start_time_unix_ns: u64,
}

/// The file that a process executes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executable {
    /// The last part of the path, or the command name where the path is unknown.
    pub name: String,
    /// The path as the process itself sees it; empty where unknown.
    pub path: String,
    /// The GNU build id in lower-case hex, where the file has one.
    pub build_id: Option<String>,
}

/// The container that a process runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The full 64-digit id.
    pub id: String,
    /// The container's name, where it is known.
    pub name: Option<String>,
    /// `docker`, `containerd`, `cri-o` or `podman`, where it can be told.
    pub runtime: Option<String>,
}

/// Which heap a process is traced through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// malloc and its relatives.
    #[default]
    Native,
    /// The Go runtime's own heap.
    Go,
}

impl Runtime {
    /// Its word in every output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Go => "go",
        }
    }
}

/// An entry point that is not probed, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotCovered {
    /// The function's name.
    pub name: String,
    /// One clause that says why.
    pub reason: String,
}

/// One allocator of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocator {
    /// `glibc`, `jemalloc`, …
    pub name: String,
    /// The file that holds it, as the process sees it.
    pub path: String,
    /// The functions that are probed.
    pub entry_points: Vec<String>,
    /// Those that are not.
    pub not_covered: Vec<NotCovered>,
}

/// How much of what a process allocates is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// Every entry point of every allocator found.
    Full,
    /// Some entry points are not probed: see `Allocator::not_covered`.
    Partial,
    /// Nothing is seen.
    #[default]
    None,
}

impl Coverage {
    /// Its word in every output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// How far the figures can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccuracyKind {
    /// Every call was seen.
    #[default]
    Exact,
    /// An unbiased estimate.
    Sampled,
    /// Events were lost; `Accuracy::lost` says which.
    Lossy,
}

impl AccuracyKind {
    /// Its word in every output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sampled => "sampled",
            Self::Lossy => "lossy",
        }
    }
}

/// How far the figures can be trusted, with the figures behind that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// The class.
    pub kind: AccuracyKind,
    /// Mean bytes between samples; 0 is exact.
    pub sample_bytes: u64,
    /// How far `live_bytes` may be off, up or down, in 95 of 100 cases; `None` where it is no estimate.
    pub live_bytes_error: Option<u64>,
    /// When it was looked at, where that was not all the time.
    pub windows: Option<Windows>,
    /// What was lost, by counter name; only what is not zero.
    pub lost: BTreeMap<&'static str, u64>,
}

/// Objects and requested bytes of a process or of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes asked for and not freed yet.
    pub live_bytes: u64,
    /// Objects not freed yet.
    pub live_count: u64,
    /// Of those, the bytes outstanding for at least the minimum age.
    pub long_lived_bytes: u64,
    /// Of those, the objects.
    pub long_lived_count: u64,
    /// Bytes allocated since the trace began.
    pub allocated_bytes: u64,
    /// Objects allocated since the trace began.
    pub allocated_count: u64,
    /// Bytes freed of what was allocated since the trace began.
    pub freed_bytes: u64,
    /// Objects freed of those.
    pub freed_count: u64,
}

/// Leak or cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Live bytes rise without end: a leak.
    Growing,
    /// They rose and level off: a cache that fills.
    Saturating,
    /// Replaced at the rate they are made.
    Stable,
    /// Not enough evidence yet.
    #[default]
    Young,
}

impl Verdict {
    /// Its word in every output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Saturating => "saturating",
            Self::Stable => "stable",
            Self::Young => "young",
        }
    }
}

/// One frame of a stack, innermost first; an inlined function is a frame of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The demangled function name.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The last part of the path of the mapped file.
    pub module: Option<String>,
    /// The module's GNU build id in lower-case hex.
    pub build_id: Option<String>,
    /// The offset in the module's file (or the address itself where no module is known).
    pub address: u64,
    /// Whether the compiler inlined this function into the next frame.
    pub inlined: bool,
    /// Why the function has no name, where it has none; `function` then tells where it begins, if
    /// that is known.
    pub unresolved: Option<String>,
}

/// One class of ages of the live objects of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgeBucket {
    /// Upper end of the class in seconds, exclusive; `None` for the last, open class.
    pub below_seconds: Option<u64>,
    /// Objects in it.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One allocation site of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// The same over reports, restarts and hosts for the same build.
    pub id: u64,
    /// The entry point or allocator that served it, such as `glibc`.
    pub allocator: String,
    /// The figures.
    pub counts: Counts,
    /// Age of the oldest live object.
    pub oldest_age: Duration,
    /// What collections have said of its objects, of Go's heap.
    pub collected: Option<Collected>,
    /// The ages of the live objects.
    pub age_histogram: Vec<AgeBucket>,
    /// Leak or cache.
    pub verdict: Verdict,
    /// The trend of live bytes, where it is known.
    pub growth_bytes_per_second: Option<f64>,
    /// The numbers behind the verdict.
    pub evidence: BTreeMap<&'static str, f64>,
    /// Its live bytes over time, where they were followed.
    pub course: Option<Course>,
    /// Innermost first, without the allocator's own frames.
    pub stack: Vec<Frame>,
    /// Why the stack ends early, where it does.
    pub stack_truncated: Option<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    /// When, in nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
}

/// One process in one report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Pid and start time.
    pub identity: ProcessIdentity,
    /// What it runs.
    pub executable: Executable,
    /// Its arguments, joined by spaces.
    pub command_line: String,
    /// The user it runs as: a name, or the uid in digits.
    pub owner: String,
    /// Its container, if any.
    pub container: Option<Container>,
    /// Its pod, if any.
    pub k8s: Option<K8s>,
    /// Native or Go.
    pub runtime: Runtime,
    /// What is told of a Go process alone.
    pub go: Option<Go>,
    /// The goroutines of a Go process that is running.
    pub goroutines: Option<Goroutines>,
    /// What is probed.
    pub allocators: Vec<Allocator>,
    /// How much is seen.
    pub coverage: Coverage,
    /// Why `coverage` is not full, where it is not.
    pub coverage_reason: Option<String>,
    /// How far the figures can be trusted.
    pub accuracy: Accuracy,
    /// Resident memory; `None` once the process is gone.
    pub rss_bytes: Option<u64>,
    /// The figures, over all sites, also those not listed.
    pub counts: Counts,
    /// Frees of blocks that are older than the trace: no error.
    pub freed_untraced_count: u64,
    /// Leak or cache.
    pub verdict: Verdict,
    /// The trend of live bytes, where it is known.
    pub growth_bytes_per_second: Option<f64>,
    /// What tracing costs it.
    pub overhead: Overhead,
    /// When it exited, if it did; all that was live then stays listed.
    pub exited: Option<Exited>,
    /// The top sites, most long-lived bytes first (live bytes for a process that has exited).
    pub sites: Vec<Site>,
    /// How many sites have live objects, listed or not.
    pub site_count: u64,
    /// What suppressions keep out of `sites`, by pattern.
    pub suppressed: Vec<Suppressed>,
}

impl Process {
    /// Whether its counts mean anything. A process of which nothing was ever
    /// seen is `not covered`, never zero.
    pub fn has_figures(&self) -> bool {
        self.coverage != Coverage::None || self.counts != Counts::default()
    }
}

/// One report: all that was traced, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// 1, 2, …
    pub number: u32,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// How long the trace has run.
    pub elapsed: Duration,
    /// What counts as long-lived.
    pub min_age: Duration,
    /// Processes with the most long-lived bytes first.
    pub processes: Vec<Process>,
    /// Control groups, where `watch` tells of them.
    pub cgroups: Vec<Cgroup>,
    /// Processes traced that are not listed, because they hold nothing traced.
    pub quiet_process_count: u64,
    /// Counters of loss that belong to no process and rose since the last report.
    pub lost: BTreeMap<&'static str, u64>,
}

/// The first line of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// When, in nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// leaktrace's version.
    pub version: String,
    /// The kernel release.
    pub kernel: String,
    /// The command: `trace` or `watch`.
    pub mode: String,
    /// The options that were given or taken by default, by name.
    pub options: BTreeMap<&'static str, String>,
}

/// The last line of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// When, in nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// How long the trace ran.
    pub elapsed: Duration,
    /// Reports written.
    pub reports: u32,
    /// Processes seen.
    pub processes: u64,
    /// Events taken from the rings.
    pub events: u64,
    /// Everything that was lost, by counter name.
    pub lost: BTreeMap<&'static str, u64>,
    /// `duration`, `signal`, `targets exited`, …
    pub reason: String,
}
