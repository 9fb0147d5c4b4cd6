//! Owns the tests that the text keeps its promises for any report.
//! Must not know how it is laid out.

use super::fit::cells;
use super::{Style, render};
use crate::report::escape::is_deceptive;
use crate::report::samples::{self, Random};

/// Takes the SGR sequences out of a line.
fn without_colour(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (parameters, rest) = part.split_once('m').expect("an SGR sequence ends in m");
        assert!(
            parameters.bytes().all(|b| b.is_ascii_digit() || b == b';'),
            "{parameters}"
        );
        plain.push_str(rest);
    }
    plain
}

/// Every line fits, has no trailing space and nothing that deceives.
fn check(report: &crate::report::model::Report, style: Style) {
    let text = render(report, &style);
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        let plain = without_colour(line);
        assert!(
            cells(&plain) <= style.width,
            "{} > {}: {plain}",
            cells(&plain),
            style.width
        );
        assert!(!plain.contains(is_deceptive), "{plain:?}");
        assert!(!plain.ends_with(' '), "{plain:?}");
        assert!(style.unicode || plain.is_ascii(), "{plain:?}");
        assert!(style.colour || plain == line);
    }
}

/// No report, however odd, breaks a terminal of any width.
#[test]
fn any_report_fits_any_width() {
    let fixed = [samples::rich(), samples::calm(), samples::empty()];
    for width in (0..=220).step_by(7).chain([80, 120]) {
        for (colour, unicode) in [(false, false), (false, true), (true, true)] {
            let style = Style {
                width,
                colour,
                unicode,
            };
            fixed.iter().for_each(|report| check(report, style));
        }
    }
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let report = random.report();
        let style = Style {
            width: random.below(200) as usize,
            colour: seed % 3 == 0,
            unicode: seed % 2 == 0,
        };
        check(&report, style);
    }
}
