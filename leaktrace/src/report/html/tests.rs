//! Owns the tests that a page holds together whatever is in it; browsers see it in the agent's tests.
//! Must not know how it looks.

use super::*;
use crate::report::samples::{self, Random};

fn page(report: Report) -> String {
    render(&Snapshot::of(&samples::host(), report))
}

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "input", "br", "!doctype"];

/// Every element that is opened is closed, in order; gives the tags.
fn assert_balanced(page: &str) {
    // The style sheet and the script are the page's own, and have other rules.
    let page = page.replace(STYLE, "").replace(SCRIPT, "");
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.as_str();
    while let Some((_, tag)) = rest.split_once('<') {
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        rest = after;
        let name = tag.split([' ', '\n']).next().unwrap_or_default();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{}", &rest[..rest.len().min(200)]);
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// The page answers, names what leaks and says what to trust.
#[test]
fn the_page_answers() {
    let page = page(samples::rich());
    for word in [
        "1 site grows without end: this is a leak.",
        "AllocSetAlloc",
        "…/utils/mmgr/aset.c:1034",
        "the 1.5 GiB of memory left last 12m 55s",
        "renderer (pid 70777) is lossy: 37 allocations lost",
        "leak:libcrypto.so suppresses 47.0 KiB at 2 sites",
        "java (pid 2001) is not covered",
    ] {
        assert!(page.contains(word), "no {word}");
    }
    assert_balanced(&page);
}

/// Calm and empty reports have their words too.
#[test]
fn every_report_has_an_answer() {
    let check = |report: Report, word: &str| {
        let page = page(report);
        assert!(page.contains(word), "no {word}");
        assert_balanced(&page);
    };
    check(samples::calm(), "Nothing is long-lived.");
    check(samples::ageless(), "Too early for a verdict");
    check(samples::empty(), "says nothing about leaks");
    assert_balanced(&render(&Snapshot::default()));
}

/// The page asks nobody for anything: no address of another place, nothing that loads.
#[test]
fn the_page_is_alone() {
    let page = page(samples::rich());
    for word in [
        "http://", "https://", "src=", "url(", "@import", "<link", "<img", "<iframe",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("unsafe-inline") && !page.contains(" style=\""));
}

/// Whatever names are made of, they are text.
#[test]
fn names_are_text() {
    let attack =
        "</script><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' \u{202e}";
    let mut report = samples::rich();
    for process in &mut report.processes {
        process.executable.name = attack.to_owned();
        process.owner = attack.to_owned();
        process.coverage_reason = Some(attack.to_owned());
        for site in &mut process.sites {
            site.allocator = attack.to_owned();
            for frame in &mut site.stack {
                frame.function = Some(attack.to_owned());
                frame.file = Some(attack.to_owned());
            }
        }
    }
    let host = Host {
        name: attack.to_owned(),
        id: attack.to_owned(),
    };
    let page = render(&Snapshot::of(&host, report));
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains("<img") && !page.contains('\u{202e}'));
    assert_balanced(&page);
}

/// Any report makes a page of bounded size that holds together.
#[test]
fn any_report_makes_a_page() {
    for seed in 0..30 {
        let page = page(Random::new(seed).report());
        assert_balanced(&page);
        assert!(!page.contains("NaN"));
    }
}
