//! Owns what a reader sees first: the answer, the figures of all, and how far to trust them.
//! Must not know tables or charts.

use super::{Place, chart, markup::Markup, site};
use crate::report::{
    model::{AccuracyKind, Coverage, Process, Verdict},
    snapshot::Snapshot,
    units, words,
};

/// Leaks that the answer names; the table has all.
const NAMED_MAX: usize = 5;

/// Doubts that are listed.
const DOUBTS_MAX: usize = 30;

/// Whether it leaks, which code, and why that is believed.
pub(super) fn answer(page: &mut Markup, snapshot: &Snapshot, places: &[Place<'_>]) {
    let growing: Vec<&Place<'_>> = places
        .iter()
        .filter(|place| place.site.verdict == Verdict::Growing)
        .collect();
    let (class, headline) = headline(snapshot, places, growing.len());
    page.raw("<section class=\"answer ").raw(class).raw("\">");
    page.element("h2", "", &headline);
    if !growing.is_empty() {
        page.raw("<ul>");
        for place in growing.iter().take(NAMED_MAX) {
            leak(page, place);
        }
        page.raw("</ul>");
        let more = growing.len().saturating_sub(NAMED_MAX) as u64;
        if more > 0 {
            let text = format!(
                "and {} in the table below",
                units::counted(more, "more", true)
            );
            page.element("p", "hint", &text);
        }
    }
    page.raw("</section>");
}

fn leak(page: &mut Markup, place: &Place<'_>) {
    let Place {
        process,
        site,
        number,
        ..
    } = *place;
    page.raw("<li><a href=\"#s")
        .whole(number as u64)
        .raw("\" data-site=\"s")
        .whole(number as u64);
    page.raw("\"><code>")
        .text(&chart::name(site))
        .raw("</code></a> in ");
    page.text(&format!(
        "{} (pid {})",
        process.executable.name, process.identity.pid
    ));
    if let Some(growth) = site.growth_bytes_per_second.filter(|it| it.is_finite()) {
        page.raw(", <b>").text(&units::trend(growth)).raw("</b>");
    }
    page.element("span", "where", "")
        .raw("<span class=\"why\">");
    page.text(&site::place_words(site));
    if let Some(said) = words::evidence(site.verdict, &site.evidence) {
        page.raw("<br>").text(&said);
    }
    page.raw("</span></li>");
}

/// The answer in one sentence, and the verdict that colours it.
fn headline(snapshot: &Snapshot, places: &[Place<'_>], growing: usize) -> (&'static str, String) {
    let holds = |verdict: Verdict| places.iter().any(|it| it.site.verdict == verdict);
    let processes = || snapshot.processes().map(|(.., process)| process);
    let is_covered = processes().any(Process::has_figures);
    let word = if growing > 0 {
        let sites = units::counted(growing as u64, "site", true);
        let verb = if growing == 1 { "grows" } else { "grow" };
        return (
            "growing",
            format!("{sites} {verb} without end: this is a leak."),
        );
    } else if processes().any(|it| it.verdict == Verdict::Growing) {
        return (
            "growing",
            "A process grows, and no single site of it does.".to_owned(),
        );
    } else if !is_covered {
        (
            "young",
            "Nothing was covered, so this says nothing about leaks.",
        )
    } else if places.is_empty() {
        ("stable", "Nothing is long-lived.")
    } else if holds(Verdict::Saturating) {
        ("saturating", "No leak: what rose levels off, as caches do.")
    } else if holds(Verdict::Stable) {
        (
            "stable",
            "No leak: what is live is replaced at the rate it is made.",
        )
    } else {
        (
            "young",
            "Too early for a verdict: it takes some more seconds of tracing.",
        )
    };
    (word.0, word.1.to_owned())
}

/// Figures over all processes.
pub(super) fn tiles(page: &mut Markup, snapshot: &Snapshot) {
    let sum = |figure: fn(&Process) -> u64| {
        let figures = snapshot.processes().map(|(.., process)| figure(process));
        figures.fold(0, u64::saturating_add)
    };
    let count = |is: fn(&Process) -> bool| {
        snapshot
            .processes()
            .filter(|(.., process)| is(process))
            .count() as u64
    };
    page.raw("<div class=\"tiles\">");
    let mut tile = |figure: &str, name: &str| {
        page.raw("<div class=\"tile\">");
        page.element("b", "", figure)
            .element("span", "", name)
            .raw("</div>");
    };
    tile(&units::bytes(sum(|it| it.counts.live_bytes)), "live");
    tile(
        &units::bytes(sum(|it| it.counts.long_lived_bytes)),
        "long-lived",
    );
    tile(
        &units::count(sum(|it| it.counts.live_count), true),
        "live objects",
    );
    tile(
        &units::bytes(sum(|it| it.counts.allocated_bytes)),
        "allocated meanwhile",
    );
    let growing = count(|it| it.verdict == Verdict::Growing);
    let all = count(|_| true);
    let processes = format!("{growing} of {}", units::count(all, true));
    tile(
        &processes,
        if all == 1 {
            "process grows"
        } else {
            "processes grow"
        },
    );
    page.raw("</div>");
}

/// What makes figures doubtful, or that nothing does.
pub(super) fn trust(page: &mut Markup, snapshot: &Snapshot) {
    let mut doubts: Vec<(bool, String)> = Vec::new();
    for (_, _, process) in snapshot.processes() {
        of_process(process, &mut doubts);
    }
    for (host, report) in &snapshot.reports {
        for (counter, count) in &report.lost {
            let count = units::count(*count, true);
            let counter = counter.replace('_', " ");
            let text = format!(
                "{}: {count} {counter}, of no process in particular",
                host.name
            );
            doubts.push((true, text));
        }
    }
    page.raw("<section><h2>How far to trust this</h2>");
    if doubts.is_empty() {
        page.raw("<p class=\"hint\">Every call was seen and nothing was lost: all figures are exact.</p></section>");
        return;
    }
    doubts.sort_by_key(|(is_grave, _)| !is_grave);
    page.raw("<ul class=\"trust\">");
    for (is_grave, text) in doubts.iter().take(DOUBTS_MAX) {
        page.element("li", if *is_grave { "grave" } else { "" }, text);
    }
    page.raw("</ul>");
    let more = doubts.len().saturating_sub(DOUBTS_MAX) as u64;
    if more > 0 {
        let text = format!("and {}", units::counted(more, "more remark", true));
        page.element("p", "hint", &text);
    }
    page.raw("</section>");
}

fn of_process(process: &Process, doubts: &mut Vec<(bool, String)>) {
    let who = format!("{} (pid {})", process.executable.name, process.identity.pid);
    let accuracy = &process.accuracy;
    let lost: Vec<String> = accuracy
        .lost
        .iter()
        .map(|(name, n)| format!("{} {}", units::count(*n, true), name.replace('_', " ")))
        .collect();
    match accuracy.kind {
        AccuracyKind::Lossy => doubts.push((true, format!("{who} is lossy: {}", lost.join(", ")))),
        AccuracyKind::Sampled => doubts.push((
            false,
            format!(
                "{who} is sampled, one in {}: figures are unbiased estimates",
                units::bytes(accuracy.sample_bytes)
            ),
        )),
        AccuracyKind::Exact if !lost.is_empty() => {
            doubts.push((false, format!("{who}: {}", lost.join(", "))));
        }
        AccuracyKind::Exact => {}
    }
    let reason = process.coverage_reason.as_deref();
    let reason = reason.map(|why| format!(": {why}")).unwrap_or_default();
    match process.coverage {
        Coverage::Full => {}
        Coverage::Partial => doubts.push((false, format!("{who} is partly covered{reason}"))),
        Coverage::None => doubts.push((false, format!("{who} is not covered{reason}"))),
    }
    for hidden in &process.suppressed {
        let bytes = units::bytes(hidden.live_bytes);
        let sites = units::counted(hidden.site_count, "site", true);
        let pattern = &hidden.pattern;
        doubts.push((
            false,
            format!("{who}: leak:{pattern} suppresses {bytes} at {sites}"),
        ));
    }
}
