//! Owns the fields of each line of the stream, their names and their order.
//! Must not know where the values come from, nor how long a line may be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::cut::Cuts;
use super::encode::{Integer, MAX_INTEGER};
use super::place::Place;
use crate::report::model;
use crate::report::units::rfc3339;

/// What every line has, around what only its type has. What does not apply is
/// left out of every line, never null.
#[derive(Serialize)]
pub(super) struct Line<'a, B> {
    pub schema: &'static str,
    pub r#type: &'static str,
    pub time: String,
    pub host: Host<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<u32>,
    #[serde(flatten)]
    pub body: B,
    #[serde(skip_serializing_if = "Cuts::is_empty")]
    pub truncated: Cuts,
}

#[derive(Clone, Serialize)]
pub(super) struct Host<'a> {
    pub name: Cow<'a, str>,
    pub id: Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) struct Start<'a> {
    pub version: Cow<'a, str>,
    pub kernel: Cow<'a, str>,
    pub mode: Cow<'a, str>,
    pub options: BTreeMap<&'a str, Cow<'a, str>>,
}

#[derive(Serialize)]
pub(super) struct Process<'a> {
    pub process: ProcessAttributes<'a>,
    #[serde(flatten)]
    pub place: Place<'a>,
    pub runtime: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go: Option<Go<'a>>,
    #[serde(flatten)]
    pub collected: Option<Collected>,
    pub allocators: Vec<Allocator<'a>>,
    pub coverage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage_reason: Option<Cow<'a, str>>,
    pub accuracy: Accuracy<'a>,
    pub elapsed_seconds: f64,
    pub min_age_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<Integer>,
    #[serde(flatten)]
    pub figures: Option<Figures>,
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_second: Option<f64>,
    pub overhead: Overhead,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exited: Option<Exited>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppressed: Vec<Suppressed<'a>>,
}

#[derive(Serialize)]
pub(super) struct Suppressed<'a> {
    pub pattern: Cow<'a, str>,
    pub site_count: Integer,
    pub live_bytes: Integer,
    pub live_count: Integer,
}

#[derive(Serialize)]
pub(super) struct ProcessAttributes<'a> {
    #[serde(flatten)]
    pub identity: ProcessIdentity,
    pub executable: Executable<'a>,
    pub command_line: Cow<'a, str>,
    pub owner: Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) struct ProcessIdentity {
    pub pid: u32,
    pub start_time: String,
}

#[derive(Serialize)]
pub(super) struct Executable<'a> {
    pub name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
pub(super) struct Go<'a> {
    pub version: Cow<'a, str>,
    pub gc_cycles: Integer,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_bytes: Option<Integer>,
}

#[derive(Serialize)]
pub(super) struct Collected {
    pub gc_cycles_survived: Integer,
    pub not_yet_collected_bytes: Integer,
}

impl From<&model::Collected> for Collected {
    fn from(from: &model::Collected) -> Self {
        Self {
            gc_cycles_survived: Integer(from.gc_cycles_survived),
            not_yet_collected_bytes: Integer(from.not_yet_collected_bytes),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Allocator<'a> {
    pub name: Cow<'a, str>,
    pub path: Cow<'a, str>,
    pub entry_points: Vec<Cow<'a, str>>,
    pub not_covered: Vec<NotCovered<'a>>,
    /// Where the two lists are filled from, once the room for them is known.
    #[serde(skip)]
    pub source: &'a model::Allocator,
}

#[derive(Serialize)]
pub(super) struct NotCovered<'a> {
    pub name: Cow<'a, str>,
    pub reason: Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) struct Accuracy<'a> {
    pub kind: &'static str,
    pub sample_bytes: Integer,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes_error: Option<Integer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    pub lost: BTreeMap<&'a str, Integer>,
}

#[derive(Serialize)]
pub(super) struct Windows {
    pub count: Integer,
    pub recorded_seconds: f64,
    pub followed_seconds: f64,
}

#[derive(Serialize)]
pub(super) struct Counts {
    pub live_bytes: Integer,
    pub live_count: Integer,
    pub long_lived_bytes: Integer,
    pub long_lived_count: Integer,
    pub allocated_bytes: Integer,
    pub allocated_count: Integer,
    pub freed_bytes: Integer,
    pub freed_count: Integer,
}

/// What is known of a process only if some of its allocations are seen.
#[derive(Serialize)]
pub(super) struct Figures {
    #[serde(flatten)]
    pub counts: Counts,
    pub freed_untraced_count: Integer,
    pub site_count: Integer,
}

#[derive(Serialize)]
pub(super) struct Overhead {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_per_hit: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Exited {
    pub time: String,
}

#[derive(Serialize)]
pub(super) struct Site<'a> {
    pub process: ProcessIdentity,
    #[serde(flatten)]
    pub place: Place<'a>,
    pub site: SiteIdentity,
    pub allocator: Cow<'a, str>,
    #[serde(flatten)]
    pub counts: Counts,
    pub oldest_age_seconds: f64,
    #[serde(flatten)]
    pub collected: Option<Collected>,
    pub age_histogram: Vec<AgeBucket>,
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_second: Option<f64>,
    pub evidence: BTreeMap<&'a str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub course: Option<Course>,
    pub stack: Vec<Frame<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_truncated: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
pub(super) struct Course {
    pub seconds: Vec<f64>,
    pub bytes: Vec<Integer>,
}

#[derive(Serialize)]
pub(super) struct SiteIdentity {
    pub id: String,
}

#[derive(Serialize)]
pub(super) struct AgeBucket {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below_seconds: Option<Integer>,
    pub count: Integer,
    pub bytes: Integer,
}

#[derive(Serialize)]
pub(super) struct Frame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<Cow<'a, str>>,
    pub address: String,
    pub inlined: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
pub(super) struct Loss<'a> {
    pub counters: BTreeMap<&'a str, Integer>,
}

#[derive(Serialize)]
pub(super) struct End<'a> {
    pub elapsed_seconds: f64,
    pub report_count: u32,
    pub process_count: Integer,
    pub event_count: Integer,
    pub lost: BTreeMap<&'a str, Integer>,
    pub reason: Cow<'a, str>,
}

impl From<&model::Counts> for Counts {
    fn from(counts: &model::Counts) -> Self {
        Self {
            live_bytes: Integer(counts.live_bytes),
            live_count: Integer(counts.live_count),
            long_lived_bytes: Integer(counts.long_lived_bytes),
            long_lived_count: Integer(counts.long_lived_count),
            allocated_bytes: Integer(counts.allocated_bytes),
            allocated_count: Integer(counts.allocated_count),
            freed_bytes: Integer(counts.freed_bytes),
            freed_count: Integer(counts.freed_count),
        }
    }
}

impl From<&model::ProcessIdentity> for ProcessIdentity {
    fn from(identity: &model::ProcessIdentity) -> Self {
        Self {
            pid: identity.pid,
            start_time: rfc3339(identity.start_time_unix_ns),
        }
    }
}

/// Seconds, to the millisecond: finer digits of an age would only be noise in
/// a diff of two lines.
pub(super) fn seconds(duration: Duration) -> f64 {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    ms.min(MAX_INTEGER) as f64 / 1000.0
}
