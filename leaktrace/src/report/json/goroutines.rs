//! Owns how the goroutines of a process become their line.
//! Must not know the rest of the process, nor the envelope around the line.

use std::borrow::Cow;

use serde::Serialize;

use super::cut::Cuts;
use super::encode::Integer;
use super::line::{Frame, ProcessIdentity, seconds};
use super::longest;
use super::site::brief_frame;
use crate::report::model;

#[derive(Serialize)]
pub(super) struct Goroutines<'a> {
    pub process: ProcessIdentity,
    #[serde(flatten)]
    pub figures: Option<Figures<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<Cow<'a, str>>,
}

/// What is known only if they could be looked at.
#[derive(Serialize)]
pub(super) struct Figures<'a> {
    pub count: Integer,
    pub blocked_count: Integer,
    pub states: std::collections::BTreeMap<&'a str, Integer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_count: Option<Integer>,
    pub created: Vec<Created<'a>>,
    pub blocked: Vec<Blocked<'a>>,
}

#[derive(Serialize)]
pub(super) struct Created<'a> {
    pub count: Integer,
    pub blocked_count: Integer,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Frame<'a>>,
}

#[derive(Serialize)]
pub(super) struct Blocked<'a> {
    pub count: Integer,
    pub blocked_count: Integer,
    pub state: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_reason: Option<Cow<'a, str>>,
    pub age_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Frame<'a>>,
    pub stack: Vec<Frame<'a>>,
}

/// All of the line but its lists, which take the room that is left.
pub(super) fn body<'a>(
    cuts: &mut Cuts,
    process: &model::ProcessIdentity,
    from: &'a model::Goroutines,
) -> Goroutines<'a> {
    let states = from.states.iter().map(|(name, n)| (*name, Integer(*n)));
    let figures = from.unavailable.is_none().then(|| Figures {
        count: Integer(from.count),
        blocked_count: Integer(from.blocked_count),
        states: cuts.map("states", states, longest::COUNTERS),
        unread_count: (from.unread_count > 0).then_some(Integer(from.unread_count)),
        created: Vec::new(),
        blocked: Vec::new(),
    });
    Goroutines {
        process: ProcessIdentity::from(process),
        figures,
        unavailable: cuts.optional("unavailable", &from.unavailable, longest::REASON),
    }
}

/// Adds the groups: those that are blocked have the larger share, because of their stacks.
pub(super) fn fill_groups<'a>(
    line: &mut Goroutines<'a>,
    cuts: &mut Cuts,
    from: &'a model::Goroutines,
    room: usize,
) {
    let Some(figures) = &mut line.figures else {
        return;
    };
    let by = |cuts: &mut Cuts, from: &'a Option<model::Frame>| {
        from.as_ref().map(|from| brief_frame(cuts, from))
    };
    figures.created = cuts.list("created", &from.created, room / 4, |cuts, from| Created {
        count: Integer(from.count),
        blocked_count: Integer(from.blocked_count),
        function: cuts.optional("function", &from.function, longest::FUNCTION),
        created_by: by(cuts, &from.created_by),
    });
    figures.blocked = cuts.list("blocked", &from.blocked, room / 4 * 3, |cuts, from| {
        Blocked {
            count: Integer(from.count),
            blocked_count: Integer(from.blocked_count),
            state: cuts.text("state", &from.state, longest::WORD),
            wait_reason: cuts.optional("wait_reason", &from.wait_reason, longest::NAME),
            age_seconds: seconds(from.age),
            created_by: by(cuts, &from.created_by),
            stack: cuts.list("stack", &from.stack, longest::BLOCKED_STACK, brief_frame),
        }
    });
}
