//! Owns how what is too long for a line is cut, and the account of what was left out.
//! Must not know the fields of any line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::encode::{Integer, char_len, encoded_len};

/// What stands where a string was cut.
const ELLIPSIS: char = '…';

/// What was left out of a line, by field: bytes of strings, entries of lists
/// and maps. This is the line's `"truncated"`.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts(BTreeMap<&'static str, u64>);

impl Cuts {
    /// Whether the line is whole.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds to the account of a field.
    fn note(&mut self, field: &'static str, left_out: usize) {
        if left_out > 0 {
            *self.0.entry(field).or_default() += left_out as u64;
        }
    }

    /// The string, or what of both its ends takes no more than `max` bytes in
    /// the stream.
    pub fn text<'a>(&mut self, field: &'static str, text: &'a str, max: usize) -> Cow<'a, str> {
        match halves(text, max) {
            None => Cow::Borrowed(text),
            Some((head, tail)) => {
                self.note(field, text.len() - head.len() - tail.len());
                Cow::Owned(format!("{head}{ELLIPSIS}{tail}"))
            }
        }
    }

    /// `text` for a text that may be missing.
    pub fn optional<'a>(
        &mut self,
        field: &'static str,
        text: &'a Option<String>,
        max: usize,
    ) -> Option<Cow<'a, str>> {
        text.as_deref().map(|text| self.text(field, text, max))
    }

    /// The list in the stream's form, or what of both its ends takes no more
    /// than `max` bytes there, separators included. Entries are made twice, so
    /// that cuts inside of those left out are not accounted for.
    pub fn list<'a, T, L: Serialize>(
        &mut self,
        field: &'static str,
        entries: &'a [T],
        max: usize,
        make: impl Fn(&mut Cuts, &'a T) -> L,
    ) -> Vec<L> {
        self.list_of(field, entries, (max, 1), make)
    }

    /// The same, with so many entries of the beginning for each of the end.
    pub fn list_of<'a, T, L: Serialize>(
        &mut self,
        field: &'static str,
        entries: &'a [T],
        (max, fronts): (usize, usize),
        make: impl Fn(&mut Cuts, &'a T) -> L,
    ) -> Vec<L> {
        let len = |entry| encoded_len(&make(&mut Cuts::default(), entry)) + 1;
        let lens: Vec<usize> = entries.iter().map(len).collect();
        let (head, tail) = ends(&lens, max, fronts);
        self.note(field, entries.len() - head - tail);
        let kept = entries[..head]
            .iter()
            .chain(&entries[entries.len() - tail..]);
        kept.map(|entry| make(self, entry)).collect()
    }

    /// The first entries of a map that take no more than `max` bytes in the
    /// stream, separators included.
    pub fn map<'a, V: Serialize>(
        &mut self,
        field: &'static str,
        entries: impl Iterator<Item = (&'a str, V)>,
        max: usize,
    ) -> BTreeMap<&'a str, V> {
        let mut kept = BTreeMap::new();
        let mut used = 0;
        for (key, value) in entries {
            let len = encoded_len(&key) + encoded_len(&value) + 2;
            if used + len <= max {
                used += len;
                kept.insert(key, value);
            } else {
                self.note(field, 1);
            }
        }
        kept
    }
}

impl Serialize for Cuts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(field, n)| (field, Integer(*n))))
    }
}

/// Head and tail of a text that takes more than `max` bytes in the stream,
/// such that with the ellipsis between them it does not. A `max` below the
/// ellipsis' own length leaves nothing but that.
fn halves(text: &str, max: usize) -> Option<(&str, &str)> {
    // No byte becomes more than six, as a control character does: most texts
    // are not walked.
    if text.len() <= max / 6 || text.chars().map(char_len).sum::<usize>() <= max {
        return None;
    }
    let budget = max.saturating_sub(char_len(ELLIPSIS));
    let mut used = 0;
    let mut head = 0;
    for c in text.chars() {
        if used + char_len(c) > budget / 2 {
            break;
        }
        used += char_len(c);
        head += c.len_utf8();
    }
    let mut tail = text.len();
    for c in text[head..].chars().rev() {
        if used + char_len(c) > budget {
            break;
        }
        used += char_len(c);
        tail -= c.len_utf8();
    }
    Some((&text[..head], &text[tail..]))
}

/// How many entries to keep at either end, taking `fronts` from the beginning
/// and then one from the end, so that their lengths sum to no more than `max`.
fn ends(lens: &[usize], max: usize, fronts: usize) -> (usize, usize) {
    if lens.iter().sum::<usize>() <= max {
        return (lens.len(), 0);
    }
    let (mut head, mut tail, mut used) = (0, 0, 0);
    loop {
        let is_front = head < fronts * (tail + 1);
        let next = if is_front {
            lens[head]
        } else {
            lens[lens.len() - 1 - tail]
        };
        // All of them do not fit, so this ends before the two sides meet.
        if used + next > max {
            return (head, tail);
        }
        used += next;
        if is_front { head += 1 } else { tail += 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cut text keeps both ends, breaks no character and accounts for the
    /// bytes left out.
    #[test]
    fn texts_are_cut_in_the_middle() {
        let check = |text: &str, max: usize, want: &str, left_out: u64| {
            let mut cuts = Cuts::default();
            assert_eq!(cuts.text("field", text, max), want);
            assert_eq!(cuts.0.get("field").copied().unwrap_or(0), left_out);
        };
        check("abcdefghij", 10, "abcdefghij", 0);
        check("abcdefghijk", 10, "abc…hijk", 4);
        check("\"\"\"\"\"\"", 11, "\"\"…\"\"", 2);
        check("🦀🦀🦀🦀", 12, "🦀…🦀", 8);
        check("\u{1}\u{1}\u{1}", 17, "\u{1}…\u{1}", 1);
        check("abcdef", 2, "…", 6);
        check("", 0, "", 0);
    }

    /// A cut list keeps both ends and never exceeds its share.
    #[test]
    fn lists_are_cut_in_the_middle() {
        let check = |lens: &[usize], max, want| assert_eq!(ends(lens, max, 1), want);
        check(&[1, 1, 1], 3, (3, 0));
        check(&[1, 1, 1], 2, (1, 1));
        check(&[1, 1, 9, 1, 1], 5, (2, 2));
        check(&[9, 1], 5, (0, 0));
        check(&[1, 9], 5, (1, 0));
        check(&[], 0, (0, 0));
        // As the schema tells: a quarter of what is kept is of the end.
        for kept in 0..40 {
            assert_eq!(ends(&[1; 50], kept, 3), (kept - kept / 4, kept / 4));
        }
    }
}
