//! Owns the report as a page: one file that holds all it needs and asks no network.
//! Must not know browsers beyond what their standards say.
//!
//! The page is whole without its script, which sorts, filters, opens and zooms. Its policy allows this
//! script and this style sheet alone, by hash, so that nothing that a traced process has named can
//! run or load anything, even if it were not escaped.

mod chart;
mod flame;
mod markup;
mod process;
mod site;
mod summary;

#[cfg(test)]
mod tests;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use self::markup::Markup;
use super::{
    model::{Host, Process, Report, Site, Verdict},
    snapshot::Snapshot,
    units,
};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Sites that are shown, over all processes: as many as a browser sorts without a pause.
const SITES_MAX: usize = 400;

/// Processes in the table.
const PROCESSES_MAX: usize = 500;

/// One site with all that is around it.
#[derive(Clone, Copy)]
struct Place<'a> {
    host: &'a Host,
    process: &'a Process,
    site: &'a Site,
    /// Its place in the page, which links to it.
    number: usize,
}

/// The page of a snapshot.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let places = places(snapshot);
    let mut page = Markup::default();
    head(&mut page, snapshot);
    page.raw("<main>");
    title(&mut page, snapshot);
    summary::answer(&mut page, snapshot, &places);
    summary::tiles(&mut page, snapshot);
    chart::growth(&mut page, snapshot, &places);
    flame::section(&mut page, snapshot);
    site::table(&mut page, snapshot, &places);
    process::table(&mut page, snapshot);
    chart::ages(&mut page, &places);
    summary::trust(&mut page, snapshot);
    foot(&mut page);
    page.raw("</main><script>")
        .raw(SCRIPT)
        .raw("</script></body></html>\n");
    page.into_string()
}

/// What is most worth a look stands first: what grows, then what holds most.
fn places(snapshot: &Snapshot) -> Vec<Place<'_>> {
    let sites = snapshot.processes().flat_map(|(host, _, process)| {
        let sites = process.sites.iter();
        sites.map(move |site| Place {
            host,
            process,
            site,
            number: 0,
        })
    });
    let mut places: Vec<Place<'_>> = sites.collect();
    places.sort_by(|a, b| {
        let rank = |place: &Place<'_>| {
            let is_growing = place.site.verdict == Verdict::Growing;
            let rate = place.site.growth_bytes_per_second;
            let rate = rate.filter(|rate| is_growing && rate.is_finite());
            (is_growing, rate.unwrap_or(0.0))
        };
        let (a_rank, b_rank) = (rank(a), rank(b));
        (b_rank.0.cmp(&a_rank.0))
            .then(b_rank.1.total_cmp(&a_rank.1))
            .then(b.site.counts.live_bytes.cmp(&a.site.counts.live_bytes))
    });
    places.truncate(SITES_MAX);
    for (number, place) in places.iter_mut().enumerate() {
        place.number = number + 1;
    }
    places
}

fn head(page: &mut Markup, snapshot: &Snapshot) {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    page.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta http-equiv=\"Content-Security-Policy\" content=\"")
        .raw(&policy)
        .raw("\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .raw("<meta name=\"referrer\" content=\"no-referrer\"><title>");
    match snapshot.reports.first() {
        Some((host, report)) => {
            let when = units::date_time(report.time_unix_ns);
            page.text(&format!("leaktrace: {} at {when}", host.name));
        }
        None => {
            page.raw("leaktrace");
        }
    }
    page.raw("</title><style>")
        .raw(STYLE)
        .raw("</style></head><body>");
}

fn title(page: &mut Markup, snapshot: &Snapshot) {
    page.raw("<header class=\"top\"><h1>leaktrace</h1>");
    for (host, report) in snapshot.reports.iter().take(8) {
        page.raw("<p>").text(&headline(host, report)).raw("</p>");
    }
    page.raw("<button id=\"theme\" type=\"button\" hidden>Light / dark</button></header>");
}

/// `node-7, report 3 of 2026-03-04 10:15:00 UTC, traced for 2m 13s`
fn headline(host: &Host, report: &Report) -> String {
    format!(
        "{}, report {} of {}, traced for {}",
        host.name,
        report.number,
        units::date_time(report.time_unix_ns),
        units::duration(report.elapsed)
    )
}

fn foot(page: &mut Markup) {
    page.raw("<footer>Made by leaktrace ")
        .raw(env!("CARGO_PKG_VERSION"))
        .raw(". Live is what was asked for and not freed yet. Long-lived is live for at least the minimum age. ")
        .raw("This page holds all that it shows and loads nothing.</footer>");
}
