//! Owns the lines of a stream as they are read, and what they are in the model.
//! Must not know the order of lines.

mod goroutines;
mod place;
mod process;
mod site;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};

pub(super) use self::{goroutines::GoroutinesLine, process::ProcessLine, site::SiteLine};
use super::{duration, name::lasting};
use crate::report::model::{
    AccuracyKind, Collected, Counts, Coverage, End, Host, ProcessIdentity, Runtime, Start, Verdict,
};

/// An instant, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Time {
    pub unix_ns: u64,
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let time: jiff::Timestamp = text
            .parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is no time")))?;
        let unix_ns = u64::try_from(time.as_nanosecond())
            .map_err(|_| D::Error::custom(format!("{text:?} is before 1970 or after 2554")))?;
        Ok(Self { unix_ns })
    }
}

/// A number in hex, with or without `0x`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hex(pub u64);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u64::from_str_radix(digits, 16)
            .map(Self)
            .map_err(|_| D::Error::custom(format!("{text:?} is no number in hex")))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct HostPart {
    name: String,
    id: String,
}

impl From<HostPart> for Host {
    fn from(from: HostPart) -> Self {
        Self {
            name: from.name,
            id: from.id,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct StartLine {
    version: String,
    kernel: String,
    mode: String,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl StartLine {
    pub fn into_model(self, time_unix_ns: u64) -> Start {
        let options = self.options.into_iter();
        Start {
            time_unix_ns,
            version: self.version,
            kernel: self.kernel,
            mode: self.mode,
            options: options
                .map(|(name, value)| (lasting(&name), value))
                .collect(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct EndLine {
    elapsed_seconds: f64,
    report_count: u32,
    process_count: u64,
    event_count: u64,
    lost: BTreeMap<String, u64>,
    reason: String,
}

impl EndLine {
    pub fn into_model(self, time_unix_ns: u64) -> End {
        let mut lost = BTreeMap::new();
        add_counters(&mut lost, &self.lost);
        End {
            time_unix_ns,
            elapsed: duration(self.elapsed_seconds),
            reports: self.report_count,
            processes: self.process_count,
            events: self.event_count,
            lost,
            reason: self.reason,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Loss {
    pub counters: BTreeMap<String, u64>,
}

/// Adds counters under their lasting names.
pub(super) fn add_counters(to: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<String, u64>) {
    for (name, count) in from {
        let sum = to.entry(lasting(name)).or_default();
        *sum = sum.saturating_add(*count);
    }
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct IdentityPart {
    pid: u32,
    start_time: Time,
}

impl From<IdentityPart> for ProcessIdentity {
    fn from(from: IdentityPart) -> Self {
        Self {
            pid: from.pid,
            start_time_unix_ns: from.start_time.unix_ns,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct CollectedPart {
    gc_cycles_survived: Option<u64>,
    not_yet_collected_bytes: Option<u64>,
}

impl CollectedPart {
    pub fn into_model(self) -> Option<Collected> {
        (self.gc_cycles_survived.is_some() || self.not_yet_collected_bytes.is_some()).then(|| {
            Collected {
                gc_cycles_survived: self.gc_cycles_survived.unwrap_or_default(),
                not_yet_collected_bytes: self.not_yet_collected_bytes.unwrap_or_default(),
            }
        })
    }
}

/// Left out of the line of a process of which nothing was seen.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CountsPart {
    live_bytes: u64,
    live_count: u64,
    long_lived_bytes: u64,
    long_lived_count: u64,
    allocated_bytes: u64,
    allocated_count: u64,
    freed_bytes: u64,
    freed_count: u64,
}

impl From<CountsPart> for Counts {
    fn from(from: CountsPart) -> Self {
        Self {
            live_bytes: from.live_bytes,
            live_count: from.live_count,
            long_lived_bytes: from.long_lived_bytes,
            long_lived_count: from.long_lived_count,
            allocated_bytes: from.allocated_bytes,
            allocated_count: from.allocated_count,
            freed_bytes: from.freed_bytes,
            freed_count: from.freed_count,
        }
    }
}

/// A word of a closed list, in the model and in a line.
macro_rules! word {
    ($word:ident is $model:ident: $($variant:ident),+) => {
        #[derive(Clone, Copy, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub(super) enum $word { $($variant),+ }

        impl From<$word> for $model {
            fn from(from: $word) -> Self {
                match from { $($word::$variant => Self::$variant),+ }
            }
        }
    };
}

word!(RuntimeWord is Runtime: Native, Go);
word!(CoverageWord is Coverage: Full, Partial, None);
word!(AccuracyWord is AccuracyKind: Exact, Sampled, Lossy);
word!(VerdictWord is Verdict: Growing, Saturating, Stable, Young);
