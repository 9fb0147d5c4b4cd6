//! Owns how the comparison of two reports reads.
//! Must not know how it was made.

use super::{
    Style,
    fit::{Cut, cells},
    page::{Page, Span, Tone, unbroken},
    site,
};
use crate::report::{
    diff::{Difference, Fate, ProgramChange, SiteChange},
    model::Verdict,
    units,
};

/// Programs that are shown whole; the rest is counted.
const PROGRAMS_MAX: usize = 20;
/// The rule of a headline is not drawn wider than this.
const RULE_WIDTH: usize = 120;
/// Where the lines under a headline begin.
const INDENT: usize = 3;

/// The comparison in words, ending in a newline.
#[must_use]
pub fn render(difference: &Difference, style: &Style) -> String {
    let mut page = Page::new(style);
    header(&mut page, difference);
    let changed = difference
        .programs
        .iter()
        .filter(|it| it.change.bytes() != 0 || !it.sites.is_empty());
    let mut left_out = 0;
    for (i, program) in changed.enumerate() {
        if i < PROGRAMS_MAX {
            page.gap();
            self::program(&mut page, program);
        } else {
            left_out += 1;
        }
    }
    page.gap();
    if left_out > 0 {
        let text = format!(
            "{} changed less; --format json lists all.",
            page.counted(left_out, "more program")
        );
        page.prose(0, 0, Tone::Plain, &text);
    }
    total(&mut page, difference);
    page.into_string()
}

fn header(page: &mut Page<'_>, difference: &Difference) {
    let (old, new) = (difference.old, difference.new);
    let apart = new.time_unix_ns.abs_diff(old.time_unix_ns);
    let apart = unbroken(std::time::Duration::from_nanos(apart));
    let order = if new.time_unix_ns < old.time_unix_ns {
        "earlier: the files are in the wrong order?"
    } else {
        "later"
    };
    let items = vec![
        vec![Span::new(Tone::Strong, "leaktrace diff")],
        vec![Span::new(Tone::Plain, units::date_time(old.time_unix_ns))],
        vec![Span::new(Tone::Plain, format!("{apart} {order}"))],
    ];
    let separator = page.glyph(" · ", ", ");
    page.row(Vec::new(), 0, separator, items);
}

fn total(page: &mut Page<'_>, difference: &Difference) {
    let sum = difference
        .programs
        .iter()
        .fold(0_i64, |sum, it| sum.saturating_add(it.change.bytes()));
    let text = if difference.programs.is_empty() {
        "Neither report covers any process.".to_owned()
    } else {
        let programs = page.counted(difference.programs.len() as u64, "program");
        format!("Total: {} live in {programs}.", signed_bytes(sum))
    };
    page.prose(0, 0, Tone::Strong, &text);
}

fn program(page: &mut Page<'_>, program: &ProgramChange) {
    let rule = page.glyph("─", "-");
    let width = page.style.width.min(RULE_WIDTH);
    let state = format!(" {}", signed_bytes(program.change.bytes()));
    let fixed = 3 + 1 + cells(&state) + 3;
    let name = page.foreign(&program.name);
    let name = page.fit(&name, width.saturating_sub(fixed + 2).max(8), Cut::Middle);
    let filling = width.saturating_sub(fixed + cells(&name));
    page.line(
        0,
        &[
            Span::new(Tone::Dim, format!("{} ", rule.repeat(2))),
            Span::new(Tone::Strong, name),
            Span::new(Tone::Dim, format!(" {}", rule.repeat(filling))),
            Span::new(tone(program.change.bytes()), state),
            Span::new(Tone::Dim, format!(" {}", rule.repeat(2))),
        ],
    );
    let arrow = page.glyph("→", "->");
    let change = &program.change;
    let text = format!(
        "{} {arrow} {} live in {} {arrow} {} objects; {} {arrow} {} processes",
        units::bytes(change.before.bytes),
        units::bytes(change.after.bytes),
        units::count(change.before.count, page.style.unicode),
        units::count(change.after.count, page.style.unicode),
        program.processes.0,
        program.processes.1,
    );
    page.prose(INDENT, INDENT, Tone::Plain, &text);
    for change in &program.sites {
        page.gap();
        site(page, change);
    }
    if program.more_sites > 0 {
        page.gap();
        let dots = page.glyph("…", "...");
        let sites = page.counted(program.more_sites, "more site");
        page.line(
            INDENT,
            &[Span::new(Tone::Dim, format!("{dots} {sites} changed less"))],
        );
    }
}

fn site(page: &mut Page<'_>, change: &SiteChange) {
    let bytes = change.change.bytes();
    let arrow = page.glyph("→", "->");
    let lead = vec![
        Span::new(Tone::Plain, " ".repeat(INDENT)),
        Span::new(tone(bytes), format!("{:<7}", change.fate.word())),
        Span::new(Tone::Strong, format!("{:>11}", signed_bytes(bytes))),
        Span::new(Tone::Plain, "  "),
    ];
    let (before, after) = (change.change.before, change.change.after);
    let mut items = vec![
        vec![Span::new(
            Tone::Plain,
            format!(
                "{} {arrow} {}",
                units::bytes(before.bytes),
                units::bytes(after.bytes)
            ),
        )],
        vec![Span::new(
            Tone::Plain,
            format!(
                "{} {arrow} {} objects",
                units::count(before.count, page.style.unicode),
                units::count(after.count, page.style.unicode)
            ),
        )],
    ];
    if change.site.verdict != Verdict::Young {
        let verdict = change.site.verdict;
        items.push(vec![Span::new(
            super::process::tone(verdict),
            verdict.word(),
        )]);
    }
    if !change.is_certain {
        let text = match change.fate {
            Fate::New => "or not listed before",
            _ => "or not listed any more",
        };
        items.push(vec![Span::new(Tone::Dim, text)]);
    }
    let separator = page.glyph(" · ", ", ");
    page.row(lead, INDENT + 20, separator, items);
    site::stack(page, &change.site);
}

/// `+1.2 MiB`; the sign always.
fn signed_bytes(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    format!("{sign}{}", units::bytes(bytes.unsigned_abs()))
}

fn tone(bytes: i64) -> Tone {
    match bytes {
        1.. => Tone::Alarm,
        0 => Tone::Dim,
        _ => Tone::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        diff::compare,
        samples::{self, Random},
        snapshot::Snapshot,
    };

    /// Whatever is compared, no line is wider than the terminal.
    #[test]
    fn any_comparison_fits() {
        for seed in 0..30 {
            let mut random = Random::new(seed);
            let mut snapshot = || Snapshot::of(&samples::host(), random.report());
            let difference = compare(&snapshot(), &snapshot(), 5);
            for width in [40, 80, 130] {
                let style = Style {
                    width,
                    colour: false,
                    unicode: seed % 2 == 0,
                };
                for line in render(&difference, &style).lines() {
                    assert!(cells(line) <= width, "{line}");
                    assert!(style.unicode || line.is_ascii(), "{line}");
                }
            }
        }
    }
}
