//! Owns the flame graph of live bytes: inferno draws it, the page colours it and lets it zoom.
//! Must not know anything but folded stacks.

use inferno::flamegraph::{self, Direction, Options};

use super::markup::Markup;
use crate::report::{folded, snapshot::Snapshot};

/// The most bytes that inferno can add up; beyond it all figures are scaled down.
const SUM_MAX: u128 = 1 << 52;

/// Height of a frame in pixels.
const FRAME_HEIGHT: usize = 19;

/// What inferno leaves free above the frames.
const PAD_ABOVE: usize = 12 * 4 + 4;
/// And below them.
const PAD_BELOW: usize = 12 + 10;

/// Colours that the style sheet knows, light and dark.
const COLOURS: u32 = 8;

/// The section with the graph.
pub(super) fn section(page: &mut Markup, snapshot: &Snapshot) {
    page.raw("<section id=\"flames\"><h2>Live bytes by stack</h2>");
    let graph = graph(&folded::render(snapshot));
    match graph {
        Some(graph) => {
            page.raw("<p class=\"hint\">Width is live bytes. Processes stand on top, and below them who called whom. ")
                .raw("Click to look closer.</p><div class=\"bar-row controls\" hidden>")
                .raw("<input id=\"search\" type=\"search\" placeholder=\"Find a function\" aria-label=\"Find a function\">")
                .raw("<button id=\"reset\" type=\"button\" disabled>Show all</button></div>")
                .raw(&graph)
                .raw("<p id=\"flame-said\" aria-live=\"polite\"></p>");
        }
        None => {
            page.raw("<p class=\"none\">Nothing is live.</p>");
        }
    }
    page.raw("</section>");
}

/// The graph as a part of a page; `None` where there is nothing to draw.
fn graph(folded: &str) -> Option<String> {
    let (folded, factor) = scaled(folded);
    let mut options = Options::default();
    options.direction = Direction::Inverted;
    options.deterministic = true;
    options.no_javascript = true;
    options.frame_height = FRAME_HEIGHT;
    options.count_name = "bytes".to_owned();
    options.min_width = 0.03;
    options.factor = factor;
    let mut drawn = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut drawn).ok()?;
    let drawn = String::from_utf8(drawn).ok()?;
    let height: usize = between(&drawn, "height=\"", "\"")?.parse().ok()?;
    let (_, frames) = drawn.split_once("<svg id=\"frames\"")?;
    let total = between(frames, "total_samples=\"", "\"")?;
    let total: u64 = total.parse().ok()?;
    let frames = frames.split_once('>')?.1;
    let frames = frames.strip_suffix("</svg></svg>")?;
    let mut graph = Markup::default();
    graph
        .raw("<svg id=\"flame\" role=\"img\" aria-label=\"Flame graph of live bytes\" height=\"")
        .whole(height.saturating_sub(PAD_ABOVE + PAD_BELOW) as u64)
        .raw("\" data-total=\"")
        .whole(total)
        .raw("\"><g transform=\"translate(0,-")
        .whole(PAD_ABOVE as u64)
        .raw(")\">")
        .raw(&classed(frames))
        .raw("</g></svg>");
    Some(graph.into_string())
}

/// Folded stacks whose sum can be added up, and what they were divided by.
fn scaled(folded: &str) -> (String, f64) {
    let lines = || folded.lines().filter_map(|line| line.rsplit_once(' '));
    let count = |text: &str| text.parse::<u64>().unwrap_or(0);
    let sum: u128 = lines().map(|(_, n)| u128::from(count(n))).sum();
    if sum <= SUM_MAX {
        return (folded.to_owned(), 1.0);
    }
    let by = u64::try_from(sum / SUM_MAX + 1).unwrap_or(u64::MAX);
    let lines = lines().map(|(stack, n)| format!("{stack} {}\n", count(n) / by));
    (lines.collect(), by as f64)
}

/// Colours by class instead of by value, so that the style sheet chooses them.
fn classed(frames: &str) -> String {
    let mut classed = String::with_capacity(frames.len());
    let mut parts = frames.split(" fill=\"rgb(");
    classed.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let Some((colour, rest)) = part.split_once(")\"") else {
            continue;
        };
        let shades = colour.split(',').filter_map(|it| it.parse::<u32>().ok());
        let number = shades.fold(0, |all, shade| all * 31 + shade) % COLOURS;
        classed.push_str(&format!(" class=\"f{number}\""));
        classed.push_str(rest);
    }
    classed.replace("<g>", "<g class=\"frame\">")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames are drawn with their bytes, in the page's colours, whatever their names are.
    #[test]
    fn frames_are_drawn() {
        let graph =
            graph("web-1;main;<b>&\"x\" 600\nweb-1;main;</svg> fill=\"rgb(1,2,3)\" 424\n").unwrap();
        assert!(graph.contains("data-total=\"1024\""), "{graph}");
        assert!(
            graph.contains("<title>&lt;b&gt;&amp;&quot;x&quot; (600 bytes, 58.59%)</title>"),
            "{graph}"
        );
        assert_eq!(graph.matches("<g class=\"frame\">").count(), 5);
        assert_eq!(graph.matches(" class=\"f").count(), 10);
        assert_eq!(graph.matches("<svg").count(), 1);
        assert_eq!(graph.matches("</svg>").count(), 1);
        assert!(
            !graph.contains("style=") && !graph.contains("onload"),
            "{graph}"
        );
    }

    /// Nothing to draw is no graph, and figures beyond all memory are scaled.
    #[test]
    fn extremes_are_survived() {
        assert_eq!(graph(""), None);
        assert_eq!(graph("a;b 0\n"), None);
        let most = u64::MAX;
        let graph = graph(&format!("a;b {most}\na;c {most}\n")).unwrap();
        assert!(graph.contains("50.00%"), "{graph}");
    }
}
