//! Owns the table of sites and what opens below each of them.
//! Must not know the rest of the page.

use std::time::Duration;

use super::{
    Place, SITES_MAX, chart,
    markup::{self, Markup},
};
use crate::report::{
    model::{Frame, Site, Verdict},
    snapshot::{Snapshot, frame_name, own_frame, remainder},
    units, words,
};

/// Frames of one stack that are shown; the outer ones say least.
const FRAMES_MAX: usize = 64;

/// The section with the table.
pub(super) fn table(page: &mut Markup, snapshot: &Snapshot, places: &[Place<'_>]) {
    page.raw("<section><h2>Sites</h2>");
    if places.is_empty() {
        page.raw("<p class=\"none\">No site holds anything that is long-lived.</p></section>");
        return;
    }
    page.raw("<p class=\"hint\">The code that allocated what is live. Open a row for its stack, ages and evidence.</p>")
        .raw("<div class=\"bar-row controls\" hidden><input id=\"filter\" type=\"search\" placeholder=\"Filter by function, file, process or pid\" aria-label=\"Filter\">")
        .raw("<select id=\"verdict\" aria-label=\"Verdict\"><option value=\"\">every verdict</option>");
    for verdict in [
        Verdict::Growing,
        Verdict::Saturating,
        Verdict::Stable,
        Verdict::Young,
    ] {
        page.raw("<option>").raw(verdict.word()).raw("</option>");
    }
    page.raw("</select><output id=\"count\"></output></div><div class=\"scroll\">");
    markup::heads(
        page,
        "sites",
        &[
            ("name", "text", "Site"),
            ("", "text", "Verdict"),
            ("wide", "text", "Process"),
            ("n", "number", "Live"),
            ("n", "number", "Objects"),
            ("n", "number", "Growth"),
            ("n wide", "number", "Oldest"),
        ],
    );
    for place in places {
        row(page, snapshot, place);
    }
    page.raw("</table></div>");
    rest(page, snapshot, places);
    page.raw("</section>");
}

/// What is not in the table.
fn rest(page: &mut Markup, snapshot: &Snapshot, places: &[Place<'_>]) {
    let listed: usize = snapshot.processes().map(|(.., it)| it.sites.len()).sum();
    let more = listed.saturating_sub(places.len()) as u64;
    if more > 0 {
        let text = format!(
            "{} not shown: a page has the first {SITES_MAX}.",
            units::counted(more, "more site", true)
        );
        page.element("p", "hint", &text);
    }
    let unlisted = snapshot.processes().map(|(.., it)| remainder(it).0);
    let unlisted = unlisted.fold(0, u64::saturating_add);
    if unlisted > 0 {
        let text = format!(
            "Sites that the report does not list hold {}: what is young, or below --top.",
            units::bytes(unlisted)
        );
        page.element("p", "hint", &text);
    }
}

/// A cell that sorts by a number.
fn cell(page: &mut Markup, class: &str, value: f64, text: &str) {
    page.raw("<td class=\"").raw(class).raw("\" data-v=\"");
    page.number(value).raw("\">").text(text).raw("</td>");
}

/// A cell that sorts by a text.
fn open_text_cell(page: &mut Markup, class: &str, value: &str) {
    page.raw("<td class=\"").raw(class).raw("\" data-v=\"");
    page.text(value).raw("\">");
}

fn row(page: &mut Markup, snapshot: &Snapshot, place: &Place<'_>) {
    let Place {
        host,
        process,
        site,
        number,
    } = *place;
    let course = chart::course_of(snapshot, host, process, site);
    let name = chart::name(site);
    page.raw("<tbody id=\"s").whole(number as u64);
    page.raw("\" data-verdict=\"")
        .raw(site.verdict.word())
        .raw("\"><tr class=\"main\">");
    open_text_cell(page, "name", &name);
    page.raw("<button type=\"button\" class=\"toggle\" aria-expanded=\"false\" aria-label=\"Details\">&#9656;</button> <code>")
        .text(&name)
        .raw("</code><span class=\"where\">")
        .text(&place_words(site))
        .raw("</span></td>");
    open_text_cell(page, "", site.verdict.word());
    badge(page, site.verdict);
    page.raw("</td>");
    open_text_cell(page, "wide", &process.executable.name);
    page.text(&process.executable.name)
        .raw("<span class=\"where\">pid ")
        .whole(process.identity.pid.into())
        .raw("</span></td>");
    let counts = &site.counts;
    cell(
        page,
        "n",
        counts.live_bytes as f64,
        &units::bytes(counts.live_bytes),
    );
    cell(
        page,
        "n",
        counts.live_count as f64,
        &units::count(counts.live_count, true),
    );
    let growth = site.growth_bytes_per_second.filter(|it| it.is_finite());
    let growth_words = growth.map(units::trend).unwrap_or_default();
    cell(page, "n", growth.unwrap_or(f64::MIN), &growth_words);
    let oldest = units::duration(site.oldest_age);
    cell(page, "n wide", site.oldest_age.as_secs_f64(), &oldest);
    page.raw("<td class=\"wide\">");
    chart::spark(page, course, site.verdict);
    page.raw("</td></tr><tr class=\"detail\"><td colspan=\"8\"><div class=\"cols\"><div>");
    if let Some(said) = words::evidence(site.verdict, &site.evidence) {
        page.element("p", "said", &capitalized(&said));
    }
    page.raw("<h3>Stack, innermost first</h3>");
    stack(page, site);
    page.raw("</div><div>");
    if let Some(course) = course {
        page.raw("<h3>Live bytes over time</h3>");
        chart::alone(page, course);
    }
    if !site.age_histogram.is_empty() {
        page.raw("<h3>Ages</h3>");
        chart::bars(page, &site.age_histogram);
    }
    page.raw("<h3>Figures</h3>");
    figures(page, site);
    page.raw("</div></div></td></tr></tbody>");
}

pub(super) fn badge(page: &mut Markup, verdict: Verdict) {
    page.raw("<span class=\"badge ")
        .raw(verdict.word())
        .raw("\">");
    page.raw(verdict.word()).raw("</span>");
}

/// Where the site is, in one line: source and line, or the module.
pub(super) fn place_words(site: &Site) -> String {
    own_frame(site)
        .map(|frame| short(&location(frame)))
        .unwrap_or_default()
}

/// The end of a long path, from a whole directory on; the stack has it whole.
fn short(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.len() {
        0..=4 => path.to_owned(),
        n => format!("…/{}", parts[n - 3..].join("/")),
    }
}

fn location(frame: &Frame) -> String {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.clone(),
        (None, _) => match (&frame.unresolved, &frame.module) {
            (Some(why), _) => why.clone(),
            (None, Some(module)) => module.clone(),
            (None, None) => String::new(),
        },
    }
}

fn stack(page: &mut Markup, site: &Site) {
    page.raw("<ol class=\"stack\">");
    for frame in site.stack.iter().take(FRAMES_MAX) {
        page.raw("<li><code>")
            .text(&frame_name(frame))
            .raw("</code>");
        if frame.inlined {
            page.raw(" <span class=\"tag\">inlined</span>");
        }
        page.element("span", "loc", &location(frame)).raw("</li>");
    }
    page.raw("</ol>");
    let more = site.stack.len().saturating_sub(FRAMES_MAX) as u64;
    if more > 0 {
        let text = format!("and {}", units::counted(more, "more frame", true));
        page.element("p", "hint", &text);
    }
    if let Some(why) = &site.stack_truncated {
        page.element("p", "hint", &format!("The stack ends here: {why}"));
    }
}

fn figures(page: &mut Markup, site: &Site) {
    let counts = &site.counts;
    page.raw("<dl class=\"figures\">");
    let mut figure = |name: &str, value: &str| {
        page.element("dt", "", name).element("dd", "", value);
    };
    figure("live", &pair(counts.live_bytes, counts.live_count));
    figure(
        "long-lived",
        &pair(counts.long_lived_bytes, counts.long_lived_count),
    );
    figure(
        "allocated",
        &pair(counts.allocated_bytes, counts.allocated_count),
    );
    figure("freed", &pair(counts.freed_bytes, counts.freed_count));
    if let Some(collected) = &site.collected {
        let survived = units::counted(collected.gc_cycles_survived, "collection", true);
        figure("oldest survived", &survived);
        let open = units::bytes(collected.not_yet_collected_bytes);
        figure("not judged by a collection", &open);
    }
    figure("allocator", &site.allocator);
    figure("site", &format!("{:016x}", site.id));
    for (name, value) in site.evidence.iter().filter(|(_, value)| value.is_finite()) {
        figure(&name.replace('_', " "), &evidence_words(name, *value));
    }
    page.raw("</dl>");
}

/// `1.2 MiB in 5 objects`
fn pair(bytes: u64, count: u64) -> String {
    let objects = units::counted(count, "object", true);
    format!("{} in {objects}", units::bytes(bytes))
}

/// A figure by what its name says of its unit.
fn evidence_words(name: &str, value: f64) -> String {
    if name.ends_with("bytes_per_second") {
        return units::trend(value);
    }
    if name.ends_with("_bytes") && value >= 0.0 {
        return units::bytes(value as u64);
    }
    if name.contains("seconds")
        && !name.contains("per_second")
        && let Ok(duration) = Duration::try_from_secs_f64(value)
    {
        return units::duration(duration);
    }
    format!("{:.5}", value)
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
