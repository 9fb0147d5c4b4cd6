//! Owns the line of a process as it is read.
//! Must not know sites.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{
    AccuracyWord, CollectedPart, CountsPart, CoverageWord, IdentityPart, RuntimeWord, Time,
    VerdictWord, add_counters,
    place::{ContainerPart, K8sPart},
};
use crate::report::{
    model::{
        Accuracy, Allocator, Executable, Exited, Go, NotCovered, Overhead, Process, Suppressed,
        Windows,
    },
    read::duration,
};

#[derive(Deserialize)]
pub struct ProcessLine {
    process: ProcessPart,
    container: Option<ContainerPart>,
    k8s: Option<K8sPart>,
    runtime: RuntimeWord,
    go: Option<GoPart>,
    allocators: Vec<AllocatorPart>,
    coverage: CoverageWord,
    coverage_reason: Option<String>,
    accuracy: AccuracyPart,
    elapsed_seconds: f64,
    min_age_seconds: f64,
    rss_bytes: Option<u64>,
    #[serde(flatten)]
    counts: CountsPart,
    #[serde(default)]
    freed_untraced_count: u64,
    #[serde(default)]
    site_count: u64,
    verdict: VerdictWord,
    growth_bytes_per_second: Option<f64>,
    #[serde(default)]
    overhead: OverheadPart,
    exited: Option<ExitedPart>,
    #[serde(default)]
    suppressed: Vec<SuppressedPart>,
    #[serde(flatten)]
    collected: CollectedPart,
}

#[derive(Deserialize)]
struct ProcessPart {
    #[serde(flatten)]
    identity: IdentityPart,
    executable: ExecutablePart,
    #[serde(default)]
    command_line: String,
    #[serde(default)]
    owner: String,
}

#[derive(Deserialize)]
struct ExecutablePart {
    name: String,
    #[serde(default)]
    path: String,
    build_id: Option<String>,
}

#[derive(Deserialize)]
struct GoPart {
    version: String,
    #[serde(default)]
    gc_cycles: u64,
    profile_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct AllocatorPart {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    entry_points: Vec<String>,
    #[serde(default)]
    not_covered: Vec<NotCoveredPart>,
}

#[derive(Deserialize)]
struct NotCoveredPart {
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct AccuracyPart {
    kind: AccuracyWord,
    #[serde(default)]
    sample_bytes: u64,
    live_bytes_error: Option<u64>,
    windows: Option<WindowsPart>,
    #[serde(default)]
    lost: BTreeMap<String, u64>,
}

impl From<WindowsPart> for Windows {
    fn from(part: WindowsPart) -> Self {
        Self {
            count: part.count,
            recorded: duration(part.recorded_seconds),
            followed: duration(part.followed_seconds),
        }
    }
}

#[derive(Deserialize)]
struct WindowsPart {
    #[serde(default)]
    count: u64,
    #[serde(default)]
    recorded_seconds: f64,
    #[serde(default)]
    followed_seconds: f64,
}

#[derive(Default, Deserialize)]
struct OverheadPart {
    #[serde(default)]
    hits_per_second: f64,
    ns_per_hit: Option<f64>,
}

#[derive(Deserialize)]
struct ExitedPart {
    time: Time,
}

#[derive(Deserialize)]
struct SuppressedPart {
    pattern: String,
    site_count: u64,
    live_bytes: u64,
    live_count: u64,
}

impl ProcessLine {
    /// How long the trace had run, and what counts as long-lived.
    pub fn times(&self) -> (Duration, Duration) {
        (
            duration(self.elapsed_seconds),
            duration(self.min_age_seconds),
        )
    }

    pub fn into_model(self) -> Process {
        let mut lost = BTreeMap::new();
        add_counters(&mut lost, &self.accuracy.lost);
        let collected = self.collected.into_model().unwrap_or_default();
        Process {
            identity: self.process.identity.into(),
            executable: Executable {
                name: self.process.executable.name,
                path: self.process.executable.path,
                build_id: self.process.executable.build_id,
            },
            command_line: self.process.command_line,
            owner: self.process.owner,
            container: self.container.map(Into::into),
            k8s: self.k8s.map(Into::into),
            runtime: self.runtime.into(),
            go: self.go.map(|from| Go {
                version: from.version,
                gc_cycles: from.gc_cycles,
                profile_bytes: from.profile_bytes,
                collected,
            }),
            // They come in a line of their own.
            goroutines: None,
            allocators: self.allocators.into_iter().map(Into::into).collect(),
            coverage: self.coverage.into(),
            coverage_reason: self.coverage_reason,
            accuracy: Accuracy {
                kind: self.accuracy.kind.into(),
                sample_bytes: self.accuracy.sample_bytes,
                live_bytes_error: self.accuracy.live_bytes_error,
                windows: self.accuracy.windows.map(Windows::from),
                lost,
            },
            rss_bytes: self.rss_bytes,
            counts: self.counts.into(),
            freed_untraced_count: self.freed_untraced_count,
            verdict: self.verdict.into(),
            growth_bytes_per_second: self.growth_bytes_per_second,
            overhead: Overhead {
                hits_per_second: self.overhead.hits_per_second,
                ns_per_hit: self.overhead.ns_per_hit,
            },
            exited: self.exited.map(|from| Exited {
                time_unix_ns: from.time.unix_ns,
            }),
            sites: Vec::new(),
            site_count: self.site_count,
            suppressed: self.suppressed.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<AllocatorPart> for Allocator {
    fn from(from: AllocatorPart) -> Self {
        let not_covered = from.not_covered.into_iter();
        Self {
            name: from.name,
            path: from.path,
            entry_points: from.entry_points,
            not_covered: not_covered
                .map(|it| NotCovered {
                    name: it.name,
                    reason: it.reason,
                })
                .collect(),
        }
    }
}

impl From<SuppressedPart> for Suppressed {
    fn from(from: SuppressedPart) -> Self {
        Self {
            pattern: from.pattern,
            site_count: from.site_count,
            live_bytes: from.live_bytes,
            live_count: from.live_count,
        }
    }
}
