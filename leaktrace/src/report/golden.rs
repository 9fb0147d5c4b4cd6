//! Owns the golden tests: what each sink makes of the fixed reports, to the byte.
//! Must not know how; `LEAKTRACE_BLESS=1` rewrites the files, and a reviewer reads the diff.

use std::path::Path;

use super::json::JsonStream;
use super::text::{Style, render};
use super::{model, samples};

/// What is rendered equals the file of that name beside this one.
#[track_caller]
fn check(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/report/golden")
        .join(name);
    if std::env::var_os("LEAKTRACE_BLESS").is_some() {
        std::fs::write(&path, got).unwrap();
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        got == want,
        "{name} differs; LEAKTRACE_BLESS=1 rewrites it. Got:\n{got}"
    );
}

fn text(report: &model::Report, width: usize, colour: bool, unicode: bool) -> String {
    render(
        report,
        &Style {
            width,
            colour,
            unicode,
        },
    )
}

/// The text reads well on a plain terminal, a wide one and a poor one.
#[test]
fn text_of_a_rich_report() {
    check("rich-80.txt", &text(&samples::rich(), 80, false, true));
    check("rich-120.txt", &text(&samples::rich(), 120, false, true));
    check(
        "rich-60-ascii.txt",
        &text(&samples::rich(), 60, false, false),
    );
    check(
        "rich-100-colour.txt",
        &text(&samples::rich(), 100, true, true),
    );
}

/// Without a minimum age, all that is outstanding counts, and nothing is called
/// long-lived.
#[test]
fn text_without_a_minimum_age() {
    check(
        "ageless-80.txt",
        &text(&samples::ageless(), 80, false, true),
    );
}

/// A report without findings says so and what that means.
#[test]
fn text_of_reports_without_findings() {
    check("calm-80.txt", &text(&samples::calm(), 80, false, true));
    check("empty-80.txt", &text(&samples::empty(), 80, false, true));
}

/// The stream of a whole run.
#[test]
fn stream_of_a_run() {
    let stream = JsonStream::new(samples::host());
    let mut out = Vec::new();
    stream.start(&samples::start(), &mut out);
    stream.report(&samples::rich(), &mut out);
    stream.end(&samples::end(), &mut out);
    check("run.ndjson", &String::from_utf8(out).unwrap());
}
