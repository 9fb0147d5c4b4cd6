//! Owns the report for people at a terminal: its order, its first and its last lines.
//! Must not know whether it is a terminal, how wide, or where the text goes.

pub mod diff;
mod fit;
mod goroutines;
pub mod inspection;
mod loss;
mod page;
mod process;
mod site;

#[cfg(test)]
mod tests;

use self::page::{Page, Span, Tone, unbroken};
use self::process::Held;
use super::model::{AccuracyKind, Coverage, Process, Report};
use super::units;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Cells in a line; no line is wider.
    pub width: usize,
    /// Whether it understands SGR colours.
    pub colour: bool,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
}

/// A report in words, ending in a newline. All text that a traced process
/// could have chosen is escaped.
pub fn render(report: &Report, style: &Style) -> String {
    let mut page = Page::new(style);
    header(&mut page, report);
    let listed = listed(report);
    for process in &listed {
        page.gap();
        process::write(&mut page, report, process);
    }
    page.gap();
    unlisted(&mut page, report, &listed);
    totals(&mut page, report);
    trust(&mut page, report);
    page.into_string()
}

/// Processes shown whole: as many as a tired reader takes in. The stream lists all.
const PROCESSES_MAX: usize = 12;

/// The processes that are shown: all, or of many the first that hold something.
fn listed(report: &Report) -> Vec<&Process> {
    if report.processes.len() <= PROCESSES_MAX {
        return report.processes.iter().collect();
    }
    let holders = report
        .processes
        .iter()
        .filter(|process| Held::of(process).count > 0);
    holders.take(PROCESSES_MAX).collect()
}

/// One line about processes that hold something and are not shown.
fn unlisted(page: &mut Page<'_>, report: &Report, listed: &[&Process]) {
    let is_listed = |process: &Process| listed.iter().any(|it| it.identity == process.identity);
    let rest = || {
        report
            .processes
            .iter()
            .filter(|it| Held::of(it).count > 0 && !is_listed(it))
    };
    let count = rest().count() as u64;
    if count > 0 {
        let bytes = rest().fold(0_u64, |sum, it| sum.saturating_add(Held::of(it).bytes));
        let processes = page.counted(count, "more process");
        let verb = if count == 1 { "holds" } else { "hold" };
        let text = format!(
            "{processes} {verb} {}; --format json lists all.",
            units::bytes(bytes)
        );
        page.prose(0, 0, Tone::Plain, &text);
    }
}

/// What this is, when, after how long, over how much.
fn header(page: &mut Page<'_>, report: &Report) {
    let when = units::date_time(report.time_unix_ns);
    let number = report.number;
    let items = vec![
        vec![Span::new(
            Tone::Strong,
            format!("leaktrace report {number}"),
        )],
        vec![Span::new(Tone::Plain, when)],
        vec![Span::new(
            Tone::Plain,
            format!("traced for {}", unbroken(report.elapsed)),
        )],
        vec![Span::new(
            Tone::Plain,
            page.counted(process_count(report), "process"),
        )],
    ];
    let separator = page.glyph(" · ", ", ");
    page.row(Vec::new(), 0, separator, items);
    if !report.min_age.is_zero() {
        let age = unbroken(report.min_age);
        let text = format!("Long-lived is what was not freed for at least {age}.");
        page.prose(0, 0, Tone::Dim, &text);
    }
    if report
        .processes
        .iter()
        .all(|process| Held::of(process).count == 0)
    {
        page.gap();
        nothing_held(page, report);
    }
}

/// The one sentence for a report without findings.
fn nothing_held(page: &mut Page<'_>, report: &Report) {
    let live = report
        .processes
        .iter()
        .fold(0_u64, |n, p| n.saturating_add(p.counts.live_count));
    let seen = report.processes.iter().filter(|p| p.has_figures()).count() as u64;
    if seen == 0 && report.quiet_process_count == 0 {
        let text = "Nothing was traced: no process is covered, so this says nothing about leaks.";
        page.prose(0, 0, Tone::Warning, text);
    } else if live == 0 {
        let text = "Nothing is outstanding: all that was allocated during the trace was freed.";
        page.prose(0, 0, Tone::Good, text);
    } else {
        let text = format!(
            "Nothing is long-lived: no block allocated during the trace has stayed for {}. \
             {} younger; to see them, run with --min-age 0s.",
            unbroken(report.min_age),
            match live {
                1 => "1 object is".to_owned(),
                n => format!("{} are", page.counted(n, "object")),
            },
        );
        page.prose(0, 0, Tone::Good, &text);
    }
}

/// All processes together.
fn totals(page: &mut Page<'_>, report: &Report) {
    let sum = |figure: fn(&Process) -> u64| {
        report
            .processes
            .iter()
            .fold(0_u64, |sum, process| sum.saturating_add(figure(process)))
    };
    let held = sum(|process| Held::of(process).bytes);
    let live = sum(|process| process.counts.live_bytes);
    let holders = report
        .processes
        .iter()
        .filter(|process| Held::of(process).count > 0)
        .count();
    let kind = match (
        report.min_age.is_zero(),
        report.processes.iter().any(|p| p.exited.is_some()),
    ) {
        (true, _) => "outstanding",
        (false, true) => "long-lived or outstanding at exit",
        (false, false) => "long-lived",
    };
    let processes = page.counted(holders as u64, "process");
    let mut text = format!("Total: {} {kind} in {processes}", units::bytes(held));
    if live != held {
        text.push_str(&format!(", {} live in all", units::bytes(live)));
    }
    text.push('.');
    match report.quiet_process_count {
        0 => {}
        1 => text.push_str(" 1 more process is traced and holds nothing."),
        n => {
            let quiet = page.counted(n, "more process");
            text.push_str(&format!(" {quiet} are traced and hold nothing."));
        }
    }
    page.prose(0, 0, Tone::Strong, &text);
}

/// How far all of this can be trusted.
fn trust(page: &mut Page<'_>, report: &Report) {
    let number = |page: &Page<'_>, is: fn(&Process) -> bool| {
        let n = report
            .processes
            .iter()
            .filter(|process| is(process))
            .count() as u64;
        (n > 0).then(|| page.counted(n, "process"))
    };
    if let Some(n) = number(page, |p| p.coverage == Coverage::None) {
        let text = format!("{n} not covered: in no figure here.");
        page.prose(0, 2, Tone::Warning, &text);
    }
    if let Some(n) = number(page, |p| p.coverage == Coverage::Partial) {
        let text = format!("{n} partly covered: more may be live than is shown.");
        page.prose(0, 2, Tone::Warning, &text);
    }
    if let Some(n) = number(page, |p| p.accuracy.kind == AccuracyKind::Sampled) {
        page.prose(
            0,
            2,
            Tone::Plain,
            &format!("{n} sampled: figures are unbiased estimates."),
        );
    }
    if let Some(n) = number(page, |p| p.accuracy.kind == AccuracyKind::Lossy) {
        page.prose(
            0,
            2,
            Tone::Alarm,
            &format!("{n} lossy: see what is marked LOSSY above."),
        );
    }
    let (grave, harmless) = loss::clauses(&report.lost, page.style.unicode);
    for (tone, clause) in [(Tone::Alarm, grave), (Tone::Dim, harmless)] {
        if !clause.is_empty() {
            let text = format!("Of no process in particular: {}.", page.foreign(&clause));
            page.prose(0, 2, tone, &text);
        }
    }
    let by_process = report
        .processes
        .iter()
        .flat_map(|process| process.accuracy.lost.keys());
    for meaning in loss::meanings(report.lost.keys().chain(by_process).copied()) {
        page.prose(0, 2, Tone::Plain, meaning);
    }
}

/// All processes traced, listed or not.
fn process_count(report: &Report) -> u64 {
    report
        .quiet_process_count
        .saturating_add(report.processes.len() as u64)
}
