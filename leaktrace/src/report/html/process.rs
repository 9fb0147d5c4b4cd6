//! Owns the table of processes.
//! Must not know sites.

use super::{
    PROCESSES_MAX, chart,
    markup::{self, Markup},
    site,
};
use crate::report::{
    model::{AccuracyKind, Coverage, Host, Process},
    snapshot::Snapshot,
    units,
};

/// The section with the table; the one with most live bytes stands first.
pub(super) fn table(page: &mut Markup, snapshot: &Snapshot) {
    let mut processes: Vec<(&Host, &Process)> = snapshot
        .processes()
        .map(|(host, _, process)| (host, process))
        .collect();
    processes.sort_by_key(|(_, process)| std::cmp::Reverse(process.counts.live_bytes));
    let more = processes.len().saturating_sub(PROCESSES_MAX) as u64;
    processes.truncate(PROCESSES_MAX);
    page.raw("<section><h2>Processes</h2>");
    if processes.is_empty() {
        page.raw("<p class=\"none\">No process was traced.</p></section>");
        return;
    }
    page.raw("<div class=\"scroll\">");
    markup::heads(
        page,
        "processes",
        &[
            ("name", "text", "Process"),
            ("", "text", "Verdict"),
            ("n", "number", "Live"),
            ("n wide", "number", "Long-lived"),
            ("n", "number", "Growth"),
            ("n wide", "number", "RSS"),
            ("wide", "text", "Trust"),
        ],
    );
    for (host, process) in processes {
        row(page, snapshot, host, process);
    }
    page.raw("</table></div>");
    if more > 0 {
        let text = format!("{} not shown.", units::counted(more, "more process", true));
        page.element("p", "hint", &text);
    }
    page.raw("</section>");
}

fn row(page: &mut Markup, snapshot: &Snapshot, host: &Host, process: &Process) {
    let figures = |n: u64| match process.has_figures() {
        true => (n as f64, units::bytes(n)),
        false => (-1.0, String::new()),
    };
    let number = |page: &mut Markup, class: &str, (value, text): (f64, String)| {
        page.raw("<td class=\"").raw(class).raw("\" data-v=\"");
        page.number(value).raw("\">").text(&text).raw("</td>");
    };
    page.raw("<tbody><tr><td class=\"name\" data-v=\"")
        .text(&process.executable.name)
        .raw("\">");
    page.text(&process.executable.name)
        .raw("<span class=\"where\">")
        .text(&who(snapshot, host, process));
    page.raw("</span></td><td data-v=\"");
    if process.has_figures() {
        page.raw(process.verdict.word()).raw("\">");
        site::badge(page, process.verdict);
    } else {
        page.raw("\"><span class=\"none\">not covered</span>");
    }
    page.raw("</td>");
    number(page, "n", figures(process.counts.live_bytes));
    number(page, "n wide", figures(process.counts.long_lived_bytes));
    let growth = process.growth_bytes_per_second.filter(|it| it.is_finite());
    let words = growth.map(units::trend).unwrap_or_default();
    number(page, "n", (growth.unwrap_or(f64::MIN), words));
    let rss = process.rss_bytes;
    number(
        page,
        "n wide",
        (
            rss.map_or(-1.0, |it| it as f64),
            rss.map(units::bytes).unwrap_or_default(),
        ),
    );
    page.raw("<td class=\"wide\" data-v=\"")
        .text(&trust(process))
        .raw("\">")
        .text(&trust(process));
    page.raw("</td><td class=\"wide\">");
    let course = snapshot.history.course(host, process.identity, None);
    chart::spark(page, course, process.verdict);
    page.raw("</td></tr></tbody>");
}

/// `pid 812, user www-data, container shop, exited`
fn who(snapshot: &Snapshot, host: &Host, process: &Process) -> String {
    let mut who = format!("pid {}", process.identity.pid);
    let mut add = |what: &str, name: &str| {
        if !name.is_empty() {
            who.push_str(&format!(", {what}{name}"));
        }
    };
    if snapshot.has_many_hosts() {
        add("host ", &host.name);
    }
    add("user ", &process.owner);
    if let Some(container) = &process.container {
        let short: String = container.id.chars().take(12).collect();
        add("container ", container.name.as_deref().unwrap_or(&short));
    }
    if let Some(go) = &process.go {
        add("", &go.version);
    }
    if process.exited.is_some() {
        add("", "exited");
    }
    who
}

/// How far its figures can be trusted, in words.
fn trust(process: &Process) -> String {
    let coverage = match process.coverage {
        Coverage::Full => "",
        Coverage::Partial => ", partly covered",
        Coverage::None => return "not covered".to_owned(),
    };
    let kind = match process.accuracy.kind {
        AccuracyKind::Exact => "exact".to_owned(),
        AccuracyKind::Sampled => match process.accuracy.live_bytes_error {
            Some(error) => format!("sampled, ±{}", units::bytes(error)),
            None => "sampled".to_owned(),
        },
        AccuracyKind::Lossy => "lossy".to_owned(),
    };
    format!("{kind}{coverage}")
}
