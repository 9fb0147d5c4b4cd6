//! Owns the lines of a page: colour, indent, wrapping, and that none is wider than the page.
//! Must not know what a report is.

use std::time::Duration;

use super::Style;
use super::fit::{Cut, cells, fit};
use crate::report::{escape, units};

/// Prose is not set wider than this, however wide the terminal: the eye loses
/// the next line's beginning.
const PROSE_WIDTH: usize = 100;

/// A space that prose is not broken at; on the page it is a plain one.
const UNBROKEN: &str = "\u{a0}";

/// What a piece of text is to the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Warning,
    Alarm,
}

impl Tone {
    /// The parameters of its SGR sequence; only the eight colours that every
    /// theme makes legible.
    fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Alarm => "1;31",
        }
    }
}

/// A piece of a line in one tone, free of control characters.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub text: String,
    pub tone: Tone,
}

impl Span {
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }

    fn cells(&self) -> usize {
        cells(&self.text)
    }
}

/// The page that a report is written on.
pub(super) struct Page<'a> {
    pub style: &'a Style,
    written: String,
}

impl<'a> Page<'a> {
    pub fn new(style: &'a Style) -> Self {
        Self {
            style,
            written: String::new(),
        }
    }

    pub fn into_string(self) -> String {
        self.written
    }

    /// Foreign text, fit for this page.
    pub fn foreign(&self, text: &str) -> String {
        escape::visible(text, !self.style.unicode).into_owned()
    }

    /// `1 object`, `12 345 objects`.
    pub fn counted(&self, n: u64, noun: &str) -> String {
        units::counted(n, noun, self.style.unicode)
    }

    /// `text`, cut to a number of cells.
    pub fn fit(&self, text: &str, width: usize, cut: Cut) -> String {
        fit(text, width, cut, self.style.unicode).into_owned()
    }

    /// One of two texts, the second of them pure ASCII.
    pub fn glyph(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.style.unicode { unicode } else { ascii }
    }

    /// An empty line.
    pub fn gap(&mut self) {
        self.written.push('\n');
    }

    /// One line, cut at its end where it is too wide after all.
    pub fn line(&mut self, indent: usize, spans: &[Span]) {
        let mut room = self.style.width.saturating_sub(indent);
        let mut shown: Vec<(Tone, String)> = Vec::with_capacity(spans.len());
        for span in spans {
            let text = self.fit(&span.text, room, Cut::End).replace(UNBROKEN, " ");
            room -= cells(&text);
            shown.push((span.tone, text));
        }
        // Spaces at the end of a line are seen by nobody but `git diff`.
        while let Some((_, last)) = shown.last_mut() {
            last.truncate(last.trim_end_matches(' ').len());
            if !last.is_empty() {
                break;
            }
            shown.pop();
        }
        if !shown.is_empty() {
            self.written.extend(std::iter::repeat_n(' ', indent));
        }
        for (tone, text) in shown {
            self.paint(tone, &text);
        }
        self.written.push('\n');
    }

    /// Items in a row, set apart by `separator` and broken between them where
    /// the line is full; the lines that follow are indented by `hang`.
    pub fn row(&mut self, lead: Vec<Span>, hang: usize, separator: &str, items: Vec<Vec<Span>>) {
        let mut line = lead;
        let mut used: usize = line.iter().map(Span::cells).sum();
        let mut indent = 0;
        let mut first = true;
        for item in items {
            let item_cells: usize = item.iter().map(Span::cells).sum();
            let gap = if first { 0 } else { cells(separator) };
            if !first && indent + used + gap + item_cells > self.style.width {
                self.line(indent, &line);
                line.clear();
                (used, indent) = (0, hang);
            } else if !first {
                line.push(Span::new(Tone::Dim, separator));
                used += gap;
            }
            used += item_cells;
            line.extend(item);
            first = false;
        }
        self.line(indent, &line);
    }

    /// Words, wrapped; the lines that follow the first are indented by `hang`.
    pub fn prose(&mut self, indent: usize, hang: usize, tone: Tone, text: &str) {
        let width = self.style.width.min(PROSE_WIDTH);
        let mut indent = indent;
        let mut line = String::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if !line.is_empty() && indent + cells(&line) + 1 + cells(word) > width {
                self.line(indent, &[Span::new(tone, line.as_str())]);
                line.clear();
                indent = hang;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(indent, &[Span::new(tone, line)]);
    }

    /// Appends text in its tone.
    fn paint(&mut self, tone: Tone, text: &str) {
        let sgr = tone.sgr();
        if text.is_empty() || sgr.is_empty() || !self.style.colour {
            self.written.push_str(text);
        } else {
            self.written.extend(["\x1b[", sgr, "m", text, "\x1b[0m"]);
        }
    }
}

/// `2m 13s`, with a space that no wrapping breaks.
pub(super) fn unbroken(duration: Duration) -> String {
    units::duration(duration).replace(' ', UNBROKEN)
}
