//! Owns how one allocation site reads: its share, its figures and its stack.
//! Must not know the other sites, nor how the process above it reads.

use super::fit::{Cut, cells};
use super::page::{Page, Span, Tone, unbroken};
use super::process::{Held, growth, tone};
use crate::report::model::{Frame, Process, Site, Verdict};
use crate::report::{units, words};

/// Cells of the bar that shows a site's share of its process.
const BAR_CELLS: usize = 10;
/// Where the figures begin: rank, bar and share stand before them.
const FIGURES_AT: usize = 23;
/// Where the stack begins.
const STACK_AT: usize = 6;
/// A stack of more frames than this loses some of its middle.
const FRAMES_WHOLE: usize = 13;
/// Of a longer stack, the frames kept at its inner end, where the allocation is.
const FRAMES_INNER: usize = 10;
/// And those kept at its outer end, which say which thread it is.
const FRAMES_OUTER: usize = 2;
/// The column of locations is not set farther right than this: a pair that is
/// too far apart is not read as one.
const LOCATION_AT_MOST: usize = 64;

/// Writes a site with its stack.
pub(super) fn write(page: &mut Page<'_>, process: &Process, rank: usize, site: &Site) {
    let whole = Held::of(process);
    let held = Held::of_site(process, site);
    let bar_tone = if has_verdict(process, site) {
        tone(site.verdict)
    } else {
        Tone::Plain
    };
    let lead = vec![
        Span::new(Tone::Dim, format!("{rank:>4}  ")),
        Span::new(bar_tone, bar(held.bytes, whole.bytes, page.style.unicode)),
        Span::new(
            Tone::Plain,
            format!(" {:>4}  ", units::percent(held.bytes, whole.bytes)),
        ),
    ];
    let separator = page.glyph(" · ", ", ");
    page.row(
        lead,
        FIGURES_AT,
        separator,
        figures(page, process, site, held),
    );
    reasons(page, process, site);
    holders(page, site);
    stack(page, site);
}

/// Whether goroutines that stay blocked hold what it made.
fn holders(page: &mut Page<'_>, site: &Site) {
    let figure = |name| site.evidence.get(name).map_or(0, |it| *it as u64);
    let count = figure("blocked_goroutines");
    if count == 0 {
        return;
    }
    let goroutines = page.counted(count, "goroutine");
    let verb = if count == 1 { "stays" } else { "stay" };
    let objects = page.counted(figure("blocked_goroutines_hold_count"), "object");
    let bytes = units::bytes(figure("blocked_goroutines_hold_bytes"));
    let text = format!("{objects} ({bytes}) held by {goroutines} that {verb} blocked");
    page.prose(STACK_AT, STACK_AT + 2, Tone::Warning, &text);
}

/// The figures behind the verdict, where it says more than that it is early.
fn reasons(page: &mut Page<'_>, process: &Process, site: &Site) {
    let is_early =
        site.verdict == Verdict::Young && !site.evidence.contains_key("untraced_frees_per_second");
    if is_early || !has_verdict(process, site) {
        return;
    }
    if let Some(said) = words::evidence(site.verdict, &site.evidence) {
        page.prose(STACK_AT, STACK_AT + 2, Tone::Plain, &page.foreign(&said));
    }
}

/// Bytes, count, mean size, age and verdict.
fn figures(page: &Page<'_>, process: &Process, site: &Site, held: Held) -> Vec<Vec<Span>> {
    let objects = page.counted(held.count, "object");
    let mut items = vec![vec![
        Span::new(Tone::Strong, format!("{:>9}", units::bytes(held.bytes))),
        Span::new(Tone::Plain, format!(" in {objects}")),
    ]];
    if held.count > 1 {
        let mean = units::bytes(held.bytes / held.count);
        items.push(vec![Span::new(Tone::Plain, format!("{mean} each"))]);
    }
    if has_verdict(process, site) {
        let growth = growth(site.verdict, site.growth_bytes_per_second);
        let growth = growth
            .map(|growth| format!(" {growth}"))
            .unwrap_or_default();
        let verdict = format!("{}{growth}", site.verdict.word());
        items.push(vec![Span::new(tone(site.verdict), verdict)]);
    }
    items.push(vec![Span::new(
        Tone::Plain,
        format!("oldest {}", unbroken(site.oldest_age)),
    )]);
    let younger = site.counts.live_bytes.saturating_sub(held.bytes);
    if process.exited.is_none() && younger > 0 {
        items.push(vec![Span::new(
            Tone::Dim,
            format!("{} younger", units::bytes(younger)),
        )]);
    }
    items
}

/// Whether the verdict tells anything: for a process that is gone there will
/// never be more evidence.
fn has_verdict(process: &Process, site: &Site) -> bool {
    process.exited.is_none() || site.verdict != Verdict::Young
}

/// A share as a bar of eighths of cells, or of `#` in ASCII.
fn bar(part: u64, whole: u64, unicode: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if whole == 0 {
        0.0
    } else {
        (part as f64 / whole as f64).min(1.0)
    };
    let bar = if unicode {
        // Something that is there shows, however small.
        let eighths = (share * 8.0 * BAR_CELLS as f64).round() as usize;
        let eighths = eighths.max(usize::from(part > 0));
        format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
    } else {
        "#".repeat((share * BAR_CELLS as f64).round() as usize)
    };
    format!("{bar}{}", " ".repeat(BAR_CELLS - cells(&bar)))
}

/// The frames, innermost first, with their locations in a column.
pub(super) fn stack(page: &mut Page<'_>, site: &Site) {
    let frames = &site.stack;
    let (inner, outer) = if frames.len() <= FRAMES_WHOLE {
        (frames.len(), 0)
    } else {
        (FRAMES_INNER, FRAMES_OUTER)
    };
    let hidden = frames.len() - inner - outer;
    let shown = frames[..inner]
        .iter()
        .chain(&frames[frames.len() - outer..]);
    let rows: Vec<Row> = shown.map(|frame| Row::of(page, frame)).collect();
    let room = page.style.width.saturating_sub(STACK_AT);
    let widest = (room * 3 / 5).min(LOCATION_AT_MOST);
    let column = rows
        .iter()
        .map(Row::name_cells)
        .filter(|n| *n <= widest)
        .max()
        .unwrap_or(0);
    for (i, row) in rows.iter().enumerate() {
        if i == inner {
            let text = format!("{} {hidden} more frames", page.glyph("…", "..."));
            page.line(STACK_AT, &[Span::new(Tone::Dim, text)]);
        }
        row.write(page, room, column);
    }
    match &site.stack_truncated {
        Some(reason) => {
            let reason = page.foreign(reason);
            let what = if frames.is_empty() {
                "no stack"
            } else {
                "the stack ends here"
            };
            page.prose(
                STACK_AT,
                STACK_AT + 2,
                Tone::Warning,
                &format!("{what}: {reason}"),
            );
        }
        None if frames.is_empty() => page.line(STACK_AT, &[Span::new(Tone::Warning, "no stack")]),
        None => {}
    }
}

/// A frame in words.
struct Row {
    name: String,
    name_tone: Tone,
    mark: &'static str,
    location: String,
}

impl Row {
    /// A frame that has a name shows where its source is, or at least its
    /// module; one that has none shows where its code is, and why.
    fn of(page: &Page<'_>, frame: &Frame) -> Self {
        let module = frame.module.as_deref();
        let mark = if frame.inlined { " (inlined)" } else { "" };
        let (name, name_tone, location) = match (&frame.function, &frame.file) {
            (Some(function), Some(file)) => {
                let line = frame
                    .line
                    .map(|line| format!(":{line}"))
                    .unwrap_or_default();
                (function.clone(), Tone::Plain, format!("{file}{line}"))
            }
            (Some(function), None) => (
                function.clone(),
                Tone::Plain,
                module.unwrap_or_default().to_owned(),
            ),
            (None, _) => {
                let name = match module {
                    Some(module) => format!("{module}+{:#x}", frame.address),
                    None => format!("{:#x}", frame.address),
                };
                (
                    name,
                    Tone::Dim,
                    frame.unresolved.clone().unwrap_or_default(),
                )
            }
        };
        let (name, location) = (page.foreign(&name), page.foreign(&location));
        Self {
            name,
            name_tone,
            mark,
            location,
        }
    }

    fn name_cells(&self) -> usize {
        cells(&self.name) + self.mark.len()
    }

    /// The location keeps its end and at least two fifths of the line, the
    /// name loses its middle where the rest is too little for it.
    fn write(&self, page: &mut Page<'_>, room: usize, column: usize) {
        let name_cells = self.name_cells().min(room * 3 / 5).max(column);
        let location = page.fit(
            &self.location,
            room.saturating_sub(name_cells + 2),
            Cut::Front,
        );
        let gap = if location.is_empty() { 0 } else { 2 };
        let name_room = room.saturating_sub(cells(&location) + gap + self.mark.len());
        let name = page.fit(&self.name, name_room, Cut::Middle);
        let gap = gap + column.saturating_sub(cells(&name) + self.mark.len());
        page.line(
            STACK_AT,
            &[
                Span::new(self.name_tone, name),
                Span::new(Tone::Dim, self.mark),
                Span::new(Tone::Dim, format!("{}{location}", " ".repeat(gap))),
            ],
        );
    }
}
