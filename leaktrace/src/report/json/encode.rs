//! Owns how a value becomes bytes of the stream, and how many it will take.
//! Must not know what the values mean.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use crate::report::escape::is_deceptive;

/// The greatest integer that every reader of JSON keeps: beyond 2^53 - 1 jq
/// rounds and OpenTelemetry's filelog makes doubles of them.
pub(super) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// An integer of the stream. It saturates at `MAX_INTEGER`: 8 PiB are out of
/// reach for a live figure, and a saturated total is better than a rounded one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integer(pub u64);

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.min(MAX_INTEGER))
    }
}

/// A float of the stream, or nothing: JSON has neither NaN nor infinity.
pub(super) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Digits after the first that a float is written with. Of 15 in all every reader keeps each (`DBL_DIG` of C); some
/// write no more than 16, and two that differ in the 17th would come out as one.
const FRACTION_DIGITS: usize = 14;

/// A float as it is written: its nearest neighbour that has no more digits.
fn rounded(value: f64) -> f64 {
    let nearest = format!("{value:.FRACTION_DIGITS$e}").parse().ok();
    // The very greatest would become infinite.
    nearest.filter(|it: &f64| it.is_finite()).unwrap_or(value)
}

/// JSON without spaces in which also those characters are escaped that JSON
/// would let through and a terminal would act upon (C1, bidi overrides): the
/// value stays the same, and `cat` of a stream is safe. Floats keep 15 digits.
struct Guarded;

impl Formatter for Guarded {
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        CompactFormatter.write_f64(out, rounded(value))
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let mut plain_from = 0;
        for (at, c) in text.char_indices().filter(|&(_, c)| is_deceptive(c)) {
            out.write_all(&text.as_bytes()[plain_from..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            plain_from = at + c.len_utf8();
        }
        out.write_all(&text.as_bytes()[plain_from..])
    }
}

/// How many bytes a character takes inside of a string of the stream.
pub(super) fn char_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        _ if is_deceptive(c) => 6 * c.len_utf16(),
        _ => c.len_utf8(),
    }
}

/// Appends a value, without a newline.
pub(super) fn append(out: &mut Vec<u8>, value: &impl Serialize) {
    write_value(out, value);
}

/// How many bytes `append` would take for a value.
pub(super) fn encoded_len(value: &impl Serialize) -> usize {
    let mut counted = Counted(0);
    write_value(&mut counted, value);
    counted.0
}

fn write_value(out: &mut impl Write, value: &impl Serialize) {
    value
        .serialize(&mut serde_json::Serializer::with_formatter(out, Guarded))
        .expect("lines have string keys, and memory takes all that is written");
}

/// A sink that only counts.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For every character there is, the length told is the length taken, and
    /// the value survives.
    #[test]
    fn char_len_is_the_encoded_length() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            let mut out = Vec::new();
            append(&mut out, &text);
            assert_eq!(out.len(), char_len(c) + 2, "{:x}", u32::from(c));
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert!(!std::str::from_utf8(&out).unwrap().contains(is_deceptive));
        }
    }

    /// A collector that writes floats with 16 digits, as `%.16g` does, passes on each one as it was.
    #[test]
    fn floats_survive_readers_of_fewer_digits() {
        for value in [
            363.748_252_308_065_73,
            0.000_536_030_943_295_822_2,
            1.0 / 3.0,
            -2e300 / 7.0,
            5e-324,
            f64::MIN_POSITIVE,
            0.0,
            17_077_721.790_573_426,
        ] {
            let mut out = Vec::new();
            append(&mut out, &value);
            let written = std::str::from_utf8(&out).unwrap();
            let read: f64 = written.parse().unwrap();
            let passed_on: f64 = format!("{read:.15e}").parse().unwrap();
            assert_eq!(read, passed_on, "{value} became {written}");
            assert!(
                (read - value).abs() <= value.abs() * 1e-14 + 1e-323,
                "{value} became {written}"
            );
        }
        let mut out = Vec::new();
        append(&mut out, &[1e3, f64::MAX]);
        assert_eq!(out, b"[1000.0,1.7976931348623157e+308]");
    }

    /// Integers stop where doubles begin to round.
    #[test]
    fn integers_saturate() {
        let mut out = Vec::new();
        append(&mut out, &[Integer(7), Integer(u64::MAX)]);
        assert_eq!(out, b"[7,9007199254740991]");
        assert_eq!(finite(f64::NAN), None);
        assert_eq!(finite(f64::NEG_INFINITY), None);
    }
}
