//! Owns the line of a process's goroutines as it is read.
//! Must not know the rest of its process.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{IdentityPart, site::FramePart};
use crate::report::{
    model::{BlockedGoroutines, CreatedGoroutines, Goroutines, ProcessIdentity},
    read::{duration, name::lasting},
};

#[derive(Deserialize)]
pub struct GoroutinesLine {
    process: IdentityPart,
    #[serde(default)]
    count: u64,
    #[serde(default)]
    blocked_count: u64,
    #[serde(default)]
    states: BTreeMap<String, u64>,
    #[serde(default)]
    unread_count: u64,
    #[serde(default)]
    created: Vec<CreatedPart>,
    #[serde(default)]
    blocked: Vec<BlockedPart>,
    unavailable: Option<String>,
}

#[derive(Deserialize)]
struct CreatedPart {
    count: u64,
    blocked_count: u64,
    function: Option<String>,
    created_by: Option<FramePart>,
}

#[derive(Deserialize)]
struct BlockedPart {
    count: u64,
    blocked_count: u64,
    state: String,
    wait_reason: Option<String>,
    age_seconds: f64,
    created_by: Option<FramePart>,
    stack: Vec<FramePart>,
}

impl GoroutinesLine {
    /// Whose they are, and they.
    pub fn into_model(self) -> (ProcessIdentity, Goroutines) {
        let states = self.states.iter().map(|(name, n)| (lasting(name), *n));
        let goroutines = Goroutines {
            count: self.count,
            blocked_count: self.blocked_count,
            states: states.collect(),
            unread_count: self.unread_count,
            created: self.created.into_iter().map(Into::into).collect(),
            blocked: self.blocked.into_iter().map(Into::into).collect(),
            unavailable: self.unavailable,
        };
        (self.process.into(), goroutines)
    }
}

impl From<CreatedPart> for CreatedGoroutines {
    fn from(from: CreatedPart) -> Self {
        Self {
            count: from.count,
            blocked_count: from.blocked_count,
            created_by: from.created_by.map(Into::into),
            function: from.function,
        }
    }
}

impl From<BlockedPart> for BlockedGoroutines {
    fn from(from: BlockedPart) -> Self {
        Self {
            count: from.count,
            blocked_count: from.blocked_count,
            state: from.state,
            wait_reason: from.wait_reason,
            age: duration(from.age_seconds),
            created_by: from.created_by.map(Into::into),
            stack: from.stack.into_iter().map(Into::into).collect(),
        }
    }
}
