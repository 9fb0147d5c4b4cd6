//! Owns how wide text is on a terminal, and how it is cut to a width.
//! Must not know what the text says.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Which end of a text matters least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The beginning, as of paths.
    Front,
    /// The middle, as of templates: the namespace and the arguments tell.
    Middle,
    /// The end, as of sentences.
    End,
}

/// The cells a text takes. Terminals differ over sequences of characters that
/// form one glyph, so the wider of both readings counts.
pub(super) fn cells(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars()
        .map(char_cells)
        .sum::<usize>()
        .max(text.width())
}

/// The cells a character takes by itself.
fn char_cells(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The text, or what of it takes no more than `width` cells, with a mark where
/// it was cut.
pub(super) fn fit(text: &str, width: usize, cut: Cut, unicode: bool) -> Cow<'_, str> {
    if cells(text) <= width {
        return Cow::Borrowed(text);
    }
    let mark = if unicode { "…" } else { "..." };
    let Some(budget) = width.checked_sub(cells(mark)) else {
        return Cow::Owned(".".repeat(width));
    };
    let head = match cut {
        Cut::Front => "",
        Cut::Middle => head(text, budget / 2),
        Cut::End => head(text, budget),
    };
    let tail = match cut {
        Cut::Front => whole_directories(tail(text, budget)),
        Cut::Middle => tail(&text[head.len()..], budget - cells(head)),
        Cut::End => "",
    };
    Cow::Owned(format!("{head}{mark}{tail}"))
}

/// The longest beginning of at most `width` cells.
fn head(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += char_cells(c);
        if used > width || cells(&text[..at + c.len_utf8()]) > width {
            return &text[..at];
        }
    }
    text
}

/// The longest end of at most `width` cells.
fn tail(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices().rev() {
        used += char_cells(c);
        if used > width || cells(&text[at..]) > width {
            return &text[at + c.len_utf8()..];
        }
    }
    text
}

/// The end of a path without the directory that was cut in two, where that
/// leaves more than the file's name.
fn whole_directories(tail: &str) -> &str {
    match tail.find('/') {
        Some(at) if tail[at + 1..].contains('/') => &tail[at..],
        _ => tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind of cut keeps the end that matters, to the cell.
    #[test]
    fn cuts_to_the_width() {
        let check = |text: &str, width, cut, want: &str| {
            let got = fit(text, width, cut, true);
            assert_eq!(got, want);
            assert!(cells(&got) <= width);
        };
        check("abcdef", 6, Cut::Middle, "abcdef");
        check("abcdefgh", 6, Cut::Middle, "ab…fgh");
        check("/usr/src/aset.c", 9, Cut::Front, "…c/aset.c");
        check("/usr/src/mmgr/aset.c", 15, Cut::Front, "…/mmgr/aset.c");
        check("a sentence", 6, Cut::End, "a sen…");
        check("内存泄漏", 5, Cut::Middle, "内…漏");
        check("内存泄漏", 4, Cut::Front, "…漏");
        check("abc", 0, Cut::End, "");
        assert_eq!(fit("abcdefgh", 7, Cut::Middle, false), "ab...gh");
        assert_eq!(fit("abcdefgh", 2, Cut::Middle, false), "..");
    }
}
