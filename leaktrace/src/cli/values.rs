//! Owns how values on the command line are written: their units, and what is said of a wrong one.
//! Must not know which option they belong to.

use std::time::Duration;

use crate::{
    config::PodName,
    host::{cgroup::CgroupPath, process::CommGlob},
};

/// A pattern of command names.
pub(super) fn parse_glob(text: &str) -> Result<CommGlob, String> {
    CommGlob::new(text).map_err(|error| error.to_string())
}

/// A control group that is there.
pub(super) fn parse_cgroup(text: &str) -> Result<CgroupPath, String> {
    CgroupPath::new(text)
}

/// A container's name, or enough digits of its id.
pub(super) fn parse_container(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') {
        return Err("write a container's name, or at least 12 digits of its id".to_owned());
    }
    Ok(text.to_owned())
}

/// `NAMESPACE/NAME`.
pub(super) fn parse_pod(text: &str) -> Result<PodName, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(PodName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Err("write the namespace and the name, as in default/web-0".to_owned()),
    }
}

/// `250ms`, `30s`, `5m`, `2h`, `1d`, or several in a row, as `1m30s`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, such as 500ms, 30s or 5m"))
}

/// The time between reports.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err("it must be at least 100ms".to_owned());
    }
    Ok(interval)
}

/// `64`, `4KiB`, `1MB`: binary and decimal units.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| "write bytes, or a number and a unit, such as 512, 4KiB or 1MB".to_owned())
}

/// `5%` or `0.05`: a part of one CPU.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map(|number| number / unit);
    match share {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("write a part of one CPU, such as 5% or 0.05".to_owned()),
    }
}

/// A mean distance between samples that the probes can count down.
pub(super) fn parse_sample_size(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    if size > leaktrace_common::policy::SAMPLE_BYTES_MAX {
        return Err("it must be at most 1GiB".to_owned());
    }
    Ok(size)
}

/// Memory for what is followed: less would be good for nothing.
pub(super) fn parse_memory(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    if size < 1 << 20 {
        return Err("it must be at least 1MiB".to_owned());
    }
    Ok(size)
}

/// A size that a ring can have: a power of two of pages.
pub(super) fn parse_ring_size(text: &str) -> Result<u32, String> {
    const MIN: u64 = 4 << 10;
    const MAX: u64 = 1 << 30;
    let size = parse_size(text)?;
    if !size.is_power_of_two() || !(MIN..=MAX).contains(&size) {
        return Err("it must be a power of two from 4KiB to 1GiB".to_owned());
    }
    u32::try_from(size).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units are understood, and what is not is refused with an example.
    #[test]
    fn units_are_parsed() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("soon").unwrap_err().contains("30s"));
        assert_eq!(parse_size("4KiB"), Ok(4096));
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("17"), Ok(17));
        assert!(parse_size("much").unwrap_err().contains("4KiB"));
        assert_eq!(parse_ring_size("64KiB"), Ok(65_536));
        assert!(parse_ring_size("5000").is_err());
        assert_eq!(parse_memory("64MiB"), Ok(64 << 20));
        assert!(parse_memory("64").unwrap_err().contains("1MiB"));
        assert_eq!(parse_share("5%"), Ok(0.05));
        assert_eq!(parse_share("0.5"), Ok(0.5));
        for refused in ["0", "200%", "-1%", "NaN", "much", "%"] {
            assert!(
                parse_share(refused).unwrap_err().contains("5%"),
                "{refused}"
            );
        }
        assert_eq!(parse_sample_size("512KiB"), Ok(524_288));
        assert!(parse_sample_size("2GiB").unwrap_err().contains("1GiB"));
        assert!(parse_interval("1ms").is_err());
    }
}
