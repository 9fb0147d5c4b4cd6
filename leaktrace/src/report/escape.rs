//! Owns which characters of foreign text never reach a terminal, and what stands in their place.
//! Must not know reports, colours or widths.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal or a reader could be deceived by this character: it
/// moves the cursor, starts an escape sequence, turns the direction of writing
/// or shows as nothing at all.
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Invisible: soft hyphen, fillers, zero-width and joining marks.
            '\u{ad}' | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
            // Direction of writing: marks, embeddings, overrides, isolates.
            | '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{206f}'
            // Separators that some viewers take for a line's end.
            | '\u{2028}'..='\u{2029}')
}

/// Foreign text made fit for one line of a terminal: each deceptive character
/// stands as `\n`, `\x1b` or `\u{202e}`, and with `ascii` every other character
/// outside of ASCII as well. A backslash stays one: unit names are full of
/// them, and nobody reads a name back from a report for people.
pub(crate) fn visible(text: &str, ascii: bool) -> Cow<'_, str> {
    let spoils = |c: char| is_deceptive(c) || (ascii && !c.is_ascii());
    if !text.chars().any(spoils) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if !spoils(c) => shown.push(c),
            _ => push_code(&mut shown, c),
        }
    }
    Cow::Owned(shown)
}

/// Appends the code of a character, in the shortest form that is unambiguous.
fn push_code(shown: &mut String, c: char) {
    let code = u32::from(c);
    let written = if code < 0x100 {
        write!(shown, "\\x{code:02x}")
    } else {
        write!(shown, "\\u{{{code:x}}}")
    };
    written.expect("a String takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that a terminal acts upon comes through; the rest stays.
    #[test]
    fn shows_what_deceives() {
        let check = |text: &str, ascii: bool, want: &str| assert_eq!(visible(text, ascii), want);
        check("plain name", false, "plain name");
        check("a\x1b[31mred", false, "a\\x1b[31mred");
        check("a\nb\tc\rd\0e\x7f", false, "a\\nb\\tc\\rd\\x00e\\x7f");
        check("c1 \u{9b}31m \u{85}", false, "c1 \\x9b31m \\x85");
        check(
            "evil\u{202e}txt.exe\u{2066}",
            false,
            "evil\\u{202e}txt.exe\\u{2066}",
        );
        check(
            "zero\u{200b}width\u{feff}",
            false,
            "zero\\u{200b}width\\u{feff}",
        );
        check("größe 内存", false, "größe 内存");
        check("größe", true, "gr\\xf6\\xdfe");
        check(r"dev-disk\x2d1", true, r"dev-disk\x2d1");
    }

    /// Every override and isolate is in the set, by number.
    #[test]
    fn covers_all_bidi_controls() {
        for code in (0x202a..=0x202e).chain(0x2066..=0x2069).chain(0x80..=0x9f) {
            assert!(is_deceptive(char::from_u32(code).unwrap()), "{code:x}");
        }
    }
}
