//! Owns how quantities are put in words for people: bytes, counts, durations, rates, shares, times.
//! Must not know reports, nor the terminal beyond whether it shows more than ASCII.

use std::time::Duration;

/// Binary units, each 1024 of the one before.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `512 B`, `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64)
}

/// `+1.2 MiB/s`, `-3 B/s`; the sign always, because it says which way.
pub(crate) fn trend(bytes_per_second: f64) -> String {
    let sign = if bytes_per_second < 0.0 { '-' } else { '+' };
    format!("{sign}{}/s", scaled(bytes_per_second.abs()))
}

/// `1.2 MiB/s` of that many bytes in that time; `None` for no time at all.
pub(super) fn rate(n: u64, over: Duration) -> Option<String> {
    let seconds = over.as_secs_f64();
    (seconds > 0.0).then(|| format!("{}/s", scaled(n as f64 / seconds)))
}

/// One decimal beyond bytes. The unit is chosen after rounding, so that
/// 1023.96 KiB reads `1.0 MiB` and never `1024.0 KiB`.
fn scaled(value: f64) -> String {
    if value.round() < 1024.0 {
        return format!("{} B", value.round());
    }
    let mut value = value;
    let mut unit = 0;
    while (value * 10.0).round() / 10.0 >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // Whole bytes that round to 1024 without reaching it: one step more.
    if unit == 0 {
        (value, unit) = (value / 1024.0, 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Digits in groups of three: by a narrow space that no wrapping breaks, or by
/// commas in ASCII.
pub(super) fn count(n: u64, unicode: bool) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(if unicode { '\u{202f}' } else { ',' });
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 object`, `12 345 objects`: the noun takes an `s` (`process` an `es`).
pub(crate) fn counted(n: u64, noun: &str, unicode: bool) -> String {
    let ending = match n {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(n, unicode))
}

/// `250ms`, `1.5s`, `42s`, `2m 13s`, `3h 5m`, `4d 2h`: two units at most.
pub(crate) fn duration(d: Duration) -> String {
    let seconds = d.as_secs();
    let pair = |n: u64, unit: &str, rest: u64, rest_unit: &str| match rest {
        0 => format!("{n}{unit}"),
        _ => format!("{n}{unit} {rest}{rest_unit}"),
    };
    match seconds {
        0 => match d.as_millis() {
            0 => "0s".to_owned(),
            ms => format!("{ms}ms"),
        },
        1..=9 => match d.subsec_millis() / 100 {
            0 => format!("{seconds}s"),
            tenths => format!("{seconds}.{tenths}s"),
        },
        10..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => pair(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// A share in whole percent; what is there but rounds to nothing reads `<1%`,
/// and what is not quite all never reads `100%`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0%".to_owned();
    }
    let share = part as f64 / whole as f64 * 100.0;
    match share.round() {
        0.0 => "<1%".to_owned(),
        rounded if rounded >= 100.0 && part < whole => ">99%".to_owned(),
        rounded => format!("{}%", rounded.min(100.0)),
    }
}

/// `2.5%` of a CPU from a fraction.
pub(super) fn cpu(fraction: f64) -> String {
    match fraction * 100.0 {
        p if p > 0.0 && p < 0.1 => "<0.1%".to_owned(),
        p => format!("{p:.1}%"),
    }
}

/// An instant, in UTC to the second, as people write it.
pub(super) fn date_time(unix_ns: u64) -> String {
    timestamp(unix_ns)
        .strftime("%Y-%m-%d %H:%M:%S UTC")
        .to_string()
}

/// An instant for machines: RFC 3339, UTC, always nine digits.
pub(super) fn rfc3339(unix_ns: u64) -> String {
    format!("{:.9}", timestamp(unix_ns))
}

/// An instant of a clock that counts nanoseconds since the Unix epoch.
fn timestamp(unix_ns: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns))
        .expect("64 bits of nanoseconds end in the year 2554, jiff's range in 9999")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units step at 1024, and rounding never shows 1024 of one.
    #[test]
    fn bytes_in_words() {
        let check = |n: u64, want: &str| assert_eq!(bytes(n), want);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1536 * 1024, "1.5 MiB");
        check((1 << 20) - 1, "1.0 MiB");
        check((1 << 30) - (1 << 15), "1.0 GiB");
        check(u64::MAX, "16.0 EiB");
        assert_eq!(trend(-1536.0), "-1.5 KiB/s");
        assert_eq!(trend(1023.7), "+1.0 KiB/s");
        assert_eq!(
            rate(3 << 20, Duration::from_secs(2)).as_deref(),
            Some("1.5 MiB/s")
        );
        assert_eq!(rate(3, Duration::ZERO), None);
    }

    /// Groups of three, and a noun that agrees.
    #[test]
    fn counts_in_words() {
        let check = |n: u64, want: &str| assert_eq!(count(n, false), want);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(12_345_678, "12,345,678");
        assert_eq!(count(12_345, true), "12\u{202f}345");
        assert_eq!(counted(1, "process", false), "1 process");
        assert_eq!(counted(0, "process", false), "0 processes");
        assert_eq!(counted(2000, "object", false), "2,000 objects");
    }

    /// At most two units, none of them zero.
    #[test]
    fn durations_in_words() {
        let check = |ms: u64, want: &str| assert_eq!(duration(Duration::from_millis(ms)), want);
        check(0, "0s");
        check(250, "250ms");
        check(1500, "1.5s");
        check(9999, "9.9s");
        check(42_900, "42s");
        check(133_000, "2m 13s");
        check(120_000, "2m");
        check(11_100_000, "3h 5m");
        check(352_800_000, "4d 2h");
    }

    /// Neither end of the scale is claimed unless it is reached.
    #[test]
    fn shares_in_words() {
        let check = |part, whole, want: &str| assert_eq!(percent(part, whole), want);
        check(0, 10, "0%");
        check(1, 10_000, "<1%");
        check(62, 100, "62%");
        check(9_999, 10_000, ">99%");
        check(7, 7, "100%");
        check(1, 0, "0%");
        assert_eq!(cpu(0.0123), "1.2%");
        assert_eq!(cpu(0.00001), "<0.1%");
    }

    /// Nine digits always, and no instant panics.
    #[test]
    fn instants() {
        assert_eq!(
            rfc3339(1_772_619_300_000_000_005),
            "2026-03-04T10:15:00.000000005Z"
        );
        assert_eq!(
            date_time(1_772_619_300_000_000_005),
            "2026-03-04 10:15:00 UTC"
        );
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert!(rfc3339(u64::MAX).starts_with("2554-"));
    }
}
