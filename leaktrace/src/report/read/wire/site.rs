//! Owns the line of a site as it is read.
//! Must not know the rest of its process.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{CollectedPart, CountsPart, Hex, IdentityPart, VerdictWord};
use crate::report::{
    model::{AgeBucket, Course, Frame, ProcessIdentity, Site},
    read::{duration, name::lasting},
};

#[derive(Deserialize)]
pub struct SiteLine {
    process: IdentityPart,
    site: SiteId,
    allocator: String,
    #[serde(flatten)]
    counts: CountsPart,
    oldest_age_seconds: f64,
    #[serde(default)]
    age_histogram: Vec<AgePart>,
    verdict: VerdictWord,
    growth_bytes_per_second: Option<f64>,
    #[serde(default)]
    evidence: BTreeMap<String, f64>,
    course: Option<CoursePart>,
    stack: Vec<FramePart>,
    stack_truncated: Option<String>,
    #[serde(flatten)]
    collected: CollectedPart,
    #[serde(default)]
    truncated: Truncated,
}

#[derive(Deserialize)]
struct SiteId {
    id: Hex,
}

#[derive(Deserialize)]
struct AgePart {
    below_seconds: Option<u64>,
    count: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct CoursePart {
    seconds: Vec<f64>,
    bytes: Vec<u64>,
}

impl From<CoursePart> for Course {
    /// However long it is and in whatever order, it becomes one that rises in time and is short.
    fn from(from: CoursePart) -> Self {
        let mut course = Self::default();
        for (seconds, bytes) in from.seconds.into_iter().zip(from.bytes) {
            if course.seconds.last().is_none_or(|last| *last < seconds) {
                course.push(seconds, bytes);
            }
        }
        course
    }
}

#[derive(Deserialize)]
pub(super) struct FramePart {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    module: Option<String>,
    build_id: Option<String>,
    address: Hex,
    inlined: bool,
    unresolved: Option<String>,
}

impl From<FramePart> for Frame {
    fn from(from: FramePart) -> Self {
        Self {
            function: from.function,
            file: from.file,
            line: from.line,
            module: from.module,
            build_id: from.build_id,
            address: from.address.0,
            inlined: from.inlined,
            unresolved: from.unresolved,
        }
    }
}

/// What the writer had to leave out.
#[derive(Default, Deserialize)]
struct Truncated {
    #[serde(default)]
    stack: u64,
}

impl SiteLine {
    /// Whose it is, and the site.
    pub fn into_model(self) -> (ProcessIdentity, Site) {
        let mut stack: Vec<Frame> = self.stack.into_iter().map(Into::into).collect();
        share(&mut stack);
        restore_shared(&mut stack);
        if self.truncated.stack > 0 {
            // A quarter of what is told is of the outer end.
            let at = stack.len() - stack.len() / 4;
            stack.insert(at, left_out(self.truncated.stack));
        }
        let evidence = self.evidence.iter();
        let site = Site {
            id: self.site.id.0,
            allocator: self.allocator,
            counts: self.counts.into(),
            oldest_age: duration(self.oldest_age_seconds),
            collected: self.collected.into_model(),
            age_histogram: self
                .age_histogram
                .into_iter()
                .map(|it| AgeBucket {
                    below_seconds: it.below_seconds,
                    count: it.count,
                    bytes: it.bytes,
                })
                .collect(),
            verdict: self.verdict.into(),
            growth_bytes_per_second: self.growth_bytes_per_second,
            evidence: evidence.map(|(name, n)| (lasting(name), *n)).collect(),
            course: self.course.map(Into::into),
            stack,
            stack_truncated: self.stack_truncated,
        };
        (self.process.into(), site)
    }
}

/// Gives inlined frames the module that the writer told once, with the frame that they are inlined into.
fn share(stack: &mut [Frame]) {
    for i in (1..stack.len()).rev() {
        let (inner, outer) = stack.split_at_mut(i);
        let (Some(inner), Some(outer)) = (inner.last_mut(), outer.first()) else {
            continue;
        };
        if inner.inlined && inner.module.is_none() && inner.address == outer.address {
            inner.module.clone_from(&outer.module);
            inner.build_id.clone_from(&outer.build_id);
        }
    }
}

/// Inlined frames have the module of the frame that they are inlined into, where theirs is left out.
fn restore_shared(stack: &mut [Frame]) {
    let mut owner: Option<(Option<String>, Option<String>)> = None;
    for frame in stack.iter_mut().rev() {
        if !frame.inlined {
            owner = Some((frame.module.clone(), frame.build_id.clone()));
        } else if frame.module.is_none()
            && let Some((module, build_id)) = &owner
        {
            frame.module.clone_from(module);
            frame.build_id.clone_from(build_id);
        }
    }
}

/// Stands for frames that the line had no room for.
fn left_out(count: u64) -> Frame {
    Frame {
        function: Some(format!("[{count} frames left out of the stream]")),
        ..Frame::default()
    }
}
