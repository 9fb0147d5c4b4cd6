//! Owns how the goroutines of a process read: how many, and which stay blocked where.
//! Must not know the sites of the process.

use super::page::{Page, Span, Tone, unbroken};
use crate::report::model::{BlockedGoroutines, Frame, Goroutines, Report};
use crate::report::units;

/// Where the block begins, as the lines under a headline do.
const INDENT: usize = 3;

/// Groups that are shown; the stream has more.
const GROUPS_SHOWN: usize = 5;

/// Writes the block.
pub(super) fn write(page: &mut Page<'_>, report: &Report, goroutines: &Goroutines) {
    if let Some(why) = &goroutines.unavailable {
        let text = format!("goroutines: {}", page.foreign(why));
        page.prose(INDENT, INDENT + 2, Tone::Dim, &text);
        return;
    }
    let states = goroutines.states.iter();
    let states: Vec<String> = states.map(|(word, n)| format!("{n} {word}")).collect();
    let mut text = format!(
        "{} ({})",
        page.counted(goroutines.count, "goroutine"),
        page.foreign(&states.join(", ")),
    );
    if goroutines.blocked_count > 0 {
        let age = units::duration(report.min_age);
        text = format!(
            "{text}, {} blocked for at least {age}",
            goroutines.blocked_count
        );
    }
    if goroutines.unread_count > 0 {
        text = format!("{text}; {} more not read", goroutines.unread_count);
    }
    page.prose(INDENT, INDENT + 2, Tone::Plain, &text);
    let staying = goroutines
        .blocked
        .iter()
        .filter(|group| group.blocked_count > 0);
    for group in staying.clone().take(GROUPS_SHOWN) {
        let text = page.foreign(&words(group));
        page.prose(INDENT + 2, INDENT + 4, Tone::Plain, &text);
    }
    let more = staying.count().saturating_sub(GROUPS_SHOWN);
    if more > 0 {
        let text = page.counted(more as u64, "more place");
        page.line(INDENT + 2, &[Span::new(Tone::Dim, text)]);
    }
}

/// `100 × chan send in main.send (main.go:40) for 12 s, made by main.query (main.go:13)`.
fn words(group: &BlockedGoroutines) -> String {
    let does = group.wait_reason.as_deref().unwrap_or(&group.state);
    let mut text = format!("{} in {does}", group.blocked_count);
    // Where the program's own code is: all begins with what the runtime does to wait.
    if let Some(place) = group.stack.first() {
        text = format!("{text} at {}", place_words(place));
    }
    text = format!("{text} for {}", unbroken(group.age));
    if let Some(by) = &group.created_by {
        text = format!("{text}, made by {}", place_words(by));
    }
    text
}

fn place_words(frame: &Frame) -> String {
    let name = frame.function.as_deref().unwrap_or("unknown code");
    let file = frame
        .file
        .as_deref()
        .and_then(|path| path.rsplit('/').next());
    match (file, frame.line) {
        (Some(file), Some(line)) => format!("{name} ({file}:{line})"),
        (Some(file), None) => format!("{name} ({file})"),
        (None, _) => name.to_owned(),
    }
}
