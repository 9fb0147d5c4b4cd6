//! Owns how an allocation site becomes its line.
//! Must not know the rest of its process, nor the envelope around the line.

use super::cut::Cuts;
use super::encode::{Integer, encoded_len, finite};
use super::line::{
    AgeBucket, Collected, Counts, Course, Frame, ProcessIdentity, Site, SiteIdentity, seconds,
};
use super::longest;
use super::place::place;
use crate::report::model;

/// The room for a stack comes in steps of this, so that figures that gain a
/// digit rarely move the cut of a long stack from one report to the next.
const STACK_STEP_BYTES: usize = 512;

/// Of a stack that is cut, so many inner frames are told for each outer one: what leaks is made near the
/// inner end, and the outer is the same in most stacks of a program.
const FRONTS: usize = 3;

/// All of the line but its stack, which takes the room that is left.
pub(super) fn body<'a>(
    cuts: &mut Cuts,
    process: &'a model::Process,
    from: &'a model::Site,
) -> Site<'a> {
    let evidence = from
        .evidence
        .iter()
        .filter_map(|(name, n)| Some((*name, finite(*n)?)));
    Site {
        process: ProcessIdentity::from(&process.identity),
        place: place(cuts, process),
        site: SiteIdentity {
            id: format!("{:016x}", from.id),
        },
        allocator: cuts.text("allocator", &from.allocator, longest::NAME),
        counts: Counts::from(&from.counts),
        oldest_age_seconds: seconds(from.oldest_age),
        collected: from.collected.as_ref().map(Collected::from),
        age_histogram: cuts.list(
            "age_histogram",
            &from.age_histogram,
            longest::AGES,
            |_, from| AgeBucket {
                below_seconds: from.below_seconds.map(Integer),
                count: Integer(from.count),
                bytes: Integer(from.bytes),
            },
        ),
        verdict: from.verdict.word(),
        growth_bytes_per_second: from.growth_bytes_per_second.and_then(finite),
        evidence: cuts.map("evidence", evidence, longest::EVIDENCE),
        course: course(from, longest::COURSE),
        stack: Vec::new(),
        stack_truncated: cuts.optional("stack_truncated", &from.stack_truncated, longest::REASON),
    }
}

/// The course, thinned until it leaves room for the stack: every point tells, and none is needed.
fn course(from: &model::Site, max: usize) -> Option<Course> {
    let from = from.course.as_ref()?;
    let made = |one_in| {
        let thinned = from.thinned(one_in);
        Course {
            // To the millisecond, as all times.
            seconds: thinned
                .points()
                .filter_map(|(seconds, _)| finite((seconds.max(0.0) * 1e3).round() / 1e3))
                .collect(),
            bytes: thinned.points().map(|(_, bytes)| Integer(bytes)).collect(),
        }
    };
    let fits =
        |course: &Course| course.seconds.len() == course.bytes.len() && encoded_len(course) <= max;
    [1, 2, 3, 4, 6, 8, 16, 32, 64]
        .map(made)
        .into_iter()
        .find(fits)
}

/// How much of each frame is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Whole,
    /// Paths of source files shortened. Names of functions are not: one function has one name in all lines.
    Shorter,
    /// And what an inlined frame has in common with the one that it is inlined into left out.
    Shared,
}

/// Adds the stack: with less of each frame, then with less of the course, and then with frames of both ends only,
/// where there is no room for all.
pub(super) fn fill_stack<'a>(
    site: &mut Site<'a>,
    cuts: &mut Cuts,
    from: &'a model::Site,
    mut room: usize,
) {
    if stack_len(from, Detail::Shared) > stepped(room) {
        let whole = encoded_len(&site.course);
        site.course = course(from, longest::COURSE_THINNED);
        room += whole.saturating_sub(encoded_len(&site.course));
    }
    site.stack = stack(cuts, from, room);
}

/// So much of the room is used.
const fn stepped(room: usize) -> usize {
    room / STACK_STEP_BYTES * STACK_STEP_BYTES
}

/// How much room a whole stack takes.
fn stack_len(of: &model::Site, detail: Detail) -> usize {
    let frames = of.stack.iter();
    let lens = frames.map(|it| encoded_len(&frame(&mut Cuts::default(), it, detail)) + 1);
    lens.sum()
}

/// As much of both ends of a stack as there is room for.
pub(super) fn stack<'a>(cuts: &mut Cuts, from: &'a model::Site, room: usize) -> Vec<Frame<'a>> {
    let room = stepped(room);
    let detail = [Detail::Whole, Detail::Shorter]
        .into_iter()
        .find(|detail| stack_len(from, *detail) <= room)
        .unwrap_or(Detail::Shared);
    cuts.list_of("stack", &from.stack, (room, FRONTS), |cuts, from| {
        frame(cuts, from, detail)
    })
}

/// One frame where there are several stacks in a line.
pub(super) fn brief_frame<'a>(cuts: &mut Cuts, from: &'a model::Frame) -> Frame<'a> {
    frame(cuts, from, Detail::Shorter)
}

fn frame<'a>(cuts: &mut Cuts, from: &'a model::Frame, detail: Detail) -> Frame<'a> {
    let path = match detail {
        Detail::Whole => longest::PATH,
        Detail::Shorter | Detail::Shared => longest::PATH_SHORTER,
    };
    let is_shared = detail == Detail::Shared && from.inlined;
    Frame {
        function: cuts.optional("function", &from.function, longest::FUNCTION),
        file: cuts.optional("file", &from.file, path),
        line: from.line,
        module: (!is_shared)
            .then(|| cuts.optional("module", &from.module, longest::NAME))
            .flatten(),
        build_id: (!is_shared)
            .then(|| cuts.optional("build_id", &from.build_id, longest::WORD))
            .flatten(),
        address: format!("{:#x}", from.address),
        inlined: from.inlined,
        unresolved: cuts.optional("unresolved", &from.unresolved, longest::REASON),
    }
}
