//! Owns what is drawn of courses and ages: lines over time, small lines in tables, bars.
//! Must not know the words around them.

use super::{Place, markup::Markup};
use crate::report::{
    model::{AgeBucket, Course, Host, Process, Site, Verdict},
    snapshot::{Snapshot, frame_name, own_frame},
    units,
};

/// Lines in one chart: more are not told apart.
const LINES_MAX: usize = 6;

/// The chart's own units; it is scaled to the page.
const LARGE: (f64, f64) = (1000.0, 260.0);
/// The same for a chart in the details of a site, so that its words are as large.
const SMALL: (f64, f64) = (460.0, 170.0);
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// Ticks at one axis, about.
const TICKS: f64 = 5.0;
/// And at the most.
const TICKS_MAX: u32 = 12;

/// How a site went: what is told of it, or else what its reports tell.
pub(super) fn course_of<'a>(
    snapshot: &'a Snapshot,
    host: &Host,
    process: &Process,
    site: &'a Site,
) -> Option<&'a Course> {
    let told = site
        .course
        .as_ref()
        .filter(|course| course.points().count() > 1);
    told.or_else(|| {
        snapshot
            .history
            .course(host, process.identity, Some(site.id))
    })
}

/// The section with the first sites over time.
pub(super) fn growth(page: &mut Markup, snapshot: &Snapshot, places: &[Place<'_>]) {
    let lines: Vec<(&Place<'_>, &Course)> = places
        .iter()
        .filter_map(|place| {
            let course = course_of(snapshot, place.host, place.process, place.site)?;
            Some((place, course))
        })
        .take(LINES_MAX)
        .collect();
    page.raw("<section id=\"growth\"><h2>Growth over time</h2>");
    if lines.is_empty() {
        page.raw("<p class=\"none\">Not known: it takes a trace of some seconds, or several reports (--interval).</p></section>");
        return;
    }
    page.raw("<p class=\"hint\">Live bytes of the sites that grow most or hold most, in seconds since the trace began.</p>");
    let courses: Vec<&Course> = lines.iter().map(|(_, course)| *course).collect();
    draw(page, LARGE, &courses);
    page.raw("<ul class=\"legend\">");
    for (i, (place, _)) in lines.iter().enumerate() {
        page.raw("<li><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><circle cx=\"6\" cy=\"6\" r=\"5\" class=\"d")
            .whole(i as u64)
            .raw("\"/></svg><span>")
            .text(&name(place.site))
            .raw(" <span class=\"none\">")
            .text(&format!("{} {}", place.process.executable.name, place.process.identity.pid))
            .raw("</span></span></li>");
    }
    page.raw("</ul></section>");
}

/// A site in short: the function that asked.
pub(super) fn name(site: &Site) -> String {
    own_frame(site).map_or_else(|| "no stack".to_owned(), |it| frame_name(it).into_owned())
}

/// The chart of one site, in its details.
pub(super) fn alone(page: &mut Markup, course: &Course) {
    draw(page, SMALL, &[course]);
}

/// Lines over time with their axes.
fn draw(page: &mut Markup, (width, height): (f64, f64), courses: &[&Course]) {
    let points = || courses.iter().flat_map(|course| course.points());
    let first = points().map(|(s, _)| s).fold(f64::INFINITY, f64::min);
    let last = points().map(|(s, _)| s).fold(f64::NEG_INFINITY, f64::max);
    let most = points().map(|(_, bytes)| bytes).max().unwrap_or(0);
    let span = (last - first).max(1e-3);
    let step_bytes = byte_step(most);
    let top = (most as f64 / step_bytes).ceil().max(1.0) * step_bytes;
    let x = |s: f64| LEFT + (s - first) / span * (width - LEFT - RIGHT);
    let y = |bytes: f64| height - BOTTOM - bytes / top * (height - TOP - BOTTOM);
    page.raw(
        "<svg class=\"chart\" role=\"img\" aria-label=\"Live bytes over time\" viewBox=\"0 0 ",
    )
    .number(width)
    .raw(" ")
    .number(height)
    .raw("\">");
    // Counted, since a step may be too small to move a figure that is too large.
    for i in 0..=TICKS_MAX {
        let level = step_bytes * f64::from(i);
        if level > top * 1.001 {
            break;
        }
        grid(page, (LEFT, y(level)), (width - RIGHT, y(level)));
        tick(
            page,
            (LEFT - 8.0, y(level) + 4.0),
            "end",
            &units::bytes(level as u64),
        );
    }
    let step = time_step(span);
    let begin = (first / step).ceil() * step;
    for i in 0..=TICKS_MAX {
        let at = begin + step * f64::from(i);
        if at > last + span * 1e-6 {
            break;
        }
        tick(page, (x(at), height - 6.0), "middle", &seconds_words(at));
    }
    for (i, course) in courses.iter().enumerate() {
        let line: Vec<(f64, f64)> = course
            .points()
            .map(|(s, bytes)| (x(s), y(bytes as f64)))
            .collect();
        if i == 0 {
            area(page, &line, y(0.0));
        }
        page.raw("<path class=\"c").whole(i as u64).raw("\" d=\"");
        path(page, &line);
        page.raw("\"/>");
        if let Some((px, py)) = line.last() {
            page.raw("<circle r=\"4\" class=\"d")
                .whole(i as u64)
                .raw("\" cx=\"")
                .number(*px)
                .raw("\" cy=\"")
                .number(*py)
                .raw("\"/>");
        }
    }
    page.raw("</svg>");
}

fn grid(page: &mut Markup, from: (f64, f64), to: (f64, f64)) {
    page.raw("<line class=\"grid\" x1=\"").number(from.0);
    page.raw("\" y1=\"").number(from.1);
    page.raw("\" x2=\"").number(to.0);
    page.raw("\" y2=\"").number(to.1).raw("\"/>");
}

fn tick(page: &mut Markup, at: (f64, f64), anchor: &str, text: &str) {
    page.raw("<text class=\"tick\" text-anchor=\"").raw(anchor);
    page.raw("\" x=\"").number(at.0);
    page.raw("\" y=\"").number(at.1);
    page.raw("\">").text(text).raw("</text>");
}

fn area(page: &mut Markup, line: &[(f64, f64)], floor: f64) {
    let (Some(first), Some(last)) = (line.first(), line.last()) else {
        return;
    };
    page.raw("<path class=\"area d0\" d=\"");
    path(page, line);
    page.raw(" L").number(last.0).raw(" ").number(floor);
    page.raw(" L").number(first.0).raw(" ").number(floor);
    page.raw(" Z\"/>");
}

fn path(page: &mut Markup, line: &[(f64, f64)]) {
    for (i, (x, y)) in line.iter().enumerate() {
        page.raw(if i == 0 { "M" } else { " L" });
        page.number(*x).raw(" ").number(*y);
    }
}

/// A small line without axes, for a table.
pub(super) fn spark(page: &mut Markup, course: Option<&Course>, verdict: Verdict) {
    const SIZE: (f64, f64) = (88.0, 24.0);
    let Some(course) = course else { return };
    let points: Vec<(f64, u64)> = course.points().collect();
    let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else {
        return;
    };
    let span = (last - first).max(1e-3);
    let most = points
        .iter()
        .map(|(_, bytes)| *bytes)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let line: Vec<(f64, f64)> = points
        .iter()
        .map(|(s, bytes)| {
            let x = 2.0 + (s - first) / span * (SIZE.0 - 4.0);
            (x, SIZE.1 - 3.0 - *bytes as f64 / most * (SIZE.1 - 6.0))
        })
        .collect();
    page.raw("<svg class=\"spark ").raw(verdict.word());
    page.raw("\" viewBox=\"0 0 88 24\" aria-hidden=\"true\"><path d=\"");
    path(page, &line);
    page.raw("\"/></svg>");
}

/// The section with the ages of all that is shown.
pub(super) fn ages(page: &mut Markup, places: &[Place<'_>]) {
    let mut sum: Vec<AgeBucket> = Vec::new();
    for bucket in places.iter().flat_map(|place| &place.site.age_histogram) {
        match sum
            .iter_mut()
            .find(|it| it.below_seconds == bucket.below_seconds)
        {
            Some(it) => {
                it.bytes = it.bytes.saturating_add(bucket.bytes);
                it.count = it.count.saturating_add(bucket.count);
            }
            None => sum.push(*bucket),
        }
    }
    // The open class comes last.
    sum.sort_by_key(|it| it.below_seconds.unwrap_or(u64::MAX));
    page.raw("<section id=\"ages\"><h2>How old it is</h2>");
    if sum.iter().all(|it| it.count == 0) {
        page.raw("<p class=\"none\">No ages are known.</p></section>");
        return;
    }
    page.raw("<p class=\"hint\">Live bytes of all sites that are shown, by age. Caches and pools are as old as the program; a leak has all ages.</p>");
    bars(page, &sum);
    page.raw("</section>");
}

/// Bars of bytes by age.
pub(super) fn bars(page: &mut Markup, buckets: &[AgeBucket]) {
    let most = buckets.iter().map(|it| it.bytes).max().unwrap_or(0).max(1) as f64;
    // Older classes than there can be say nothing.
    let end = buckets
        .iter()
        .rposition(|it| it.count > 0)
        .map_or(0, |at| at + 1);
    let mut since = 0;
    page.raw("<table class=\"bars\"><tbody>");
    for bucket in &buckets[..end] {
        let label = match bucket.below_seconds {
            Some(below) if since == 0 => format!("below {}", seconds_words(below as f64)),
            Some(below) => format!(
                "{} to {}",
                seconds_words(since as f64),
                seconds_words(below as f64)
            ),
            None => format!("from {}", seconds_words(since as f64)),
        };
        since = bucket.below_seconds.unwrap_or(since);
        page.raw("<tr>").element("td", "", &label);
        page.raw("<td class=\"bar\"><svg viewBox=\"0 0 100 12\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect height=\"12\" rx=\"1\" width=\"");
        let width = bucket.bytes as f64 / most * 100.0;
        // What is there shows.
        page.number(if bucket.bytes > 0 {
            width.max(0.4)
        } else {
            0.0
        });
        page.raw("\"/></svg></td>");
        page.element("td", "n", &units::bytes(bucket.bytes));
        page.element(
            "td",
            "n none",
            &units::counted(bucket.count, "object", true),
        );
        page.raw("</tr>");
    }
    page.raw("</tbody></table>");
}

/// `45s`, `2m 13s`
fn seconds_words(seconds: f64) -> String {
    let duration = std::time::Duration::try_from_secs_f64(seconds.max(0.0));
    duration.map_or_else(|_| "ever".to_owned(), units::duration)
}

/// A step between ticks of bytes: 1, 2 or 5 of a unit, or as many hundreds of it.
fn byte_step(most: u64) -> f64 {
    let wanted = (most as f64 / TICKS).max(1.0);
    let mut unit = 1.0;
    while wanted / unit >= 512.0 {
        unit *= 1024.0;
    }
    unit * round_up(wanted / unit)
}

/// A step between ticks of time.
fn time_step(span: f64) -> f64 {
    const STEPS: [f64; 15] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0,
        21_600.0, 86_400.0,
    ];
    let wanted = span / (TICKS + 2.0);
    if wanted < STEPS[0] {
        return round_up(wanted);
    }
    let step = STEPS.iter().copied().find(|step| *step >= wanted);
    // Of a trace that ran for months, whole days.
    step.unwrap_or_else(|| 86_400.0 * round_up(wanted / 86_400.0))
}

/// The next of 1, 2, 5, 10, 20, …
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-6).log10().floor());
    let factor = value / power;
    let factor = [1.0, 2.0, 5.0].into_iter().find(|it| factor <= *it + 1e-9);
    power * factor.unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps are round, and ticks are few, whatever the figures are.
    #[test]
    fn ticks_are_few_and_round() {
        for most in [
            0,
            1,
            7,
            1_000,
            1_023,
            5_000_000,
            300 << 20,
            1 << 50,
            u64::MAX,
        ] {
            let step = byte_step(most);
            let ticks = most as f64 / step;
            assert!((0.0..=6.0).contains(&ticks), "{most}: {step}");
        }
        for span in [0.001, 0.4, 1.0, 8.0, 130.0, 4_000.0, 1e6, 1e9] {
            let ticks = span / time_step(span);
            assert!((0.0..=8.0).contains(&ticks), "{span}: {ticks}");
        }
        assert_eq!(byte_step(9 << 20), 2_097_152.0);
        assert_eq!(time_step(130.0), 30.0);
    }

    /// A chart of odd points is a chart all the same.
    #[test]
    fn odd_courses_are_drawn() {
        let courses = [
            Course {
                seconds: vec![0.0],
                bytes: vec![0],
            },
            Course {
                seconds: vec![1.0, 1.0],
                bytes: vec![5, u64::MAX],
            },
            Course {
                seconds: vec![0.0, 1e12],
                bytes: vec![5, 6],
            },
        ];
        for course in &courses {
            let mut page = Markup::default();
            alone(&mut page, course);
            spark(&mut page, Some(course), Verdict::Young);
            let text = page.into_string();
            assert!(
                text.len() < 10_000 && !text.contains("NaN") && !text.contains("inf"),
                "{text}"
            );
        }
    }
}
