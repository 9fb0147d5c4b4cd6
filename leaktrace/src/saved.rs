//! Owns saved streams as files: opened, read line by line, and never held whole.
//! Must not know what is made of the reports in them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};

use crate::report::{
    read::{Item, LINE_BYTES_MAX, Reader},
    snapshot::Snapshot,
    suppressions::Suppressions,
};

/// Stands for standard input in place of a file's name.
pub const STDIN: &str = "-";

/// Reads a stream and shows each thing in it as soon as it is whole.
///
/// # Errors
///
/// In one line that names the file, the line and the remedy.
pub fn read(path: &Path, mut show: impl FnMut(Item) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = name(path);
    let mut lines: Box<dyn BufRead> = if path.as_os_str() == STDIN {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = File::open(path).with_context(|| {
            format!("cannot read {name}; remedy: `leaktrace trace --format json --output FILE` writes one")
        })?;
        ensure!(
            !file.metadata()?.is_dir(),
            "{name} is a directory; remedy: name a file in it"
        );
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let mut reader = Reader::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than the longest line and its newline tells that a line is too long.
        let mut bounded = lines.by_ref().take(LINE_BYTES_MAX as u64 + 2);
        let taken = bounded
            .read_until(b'\n', &mut line)
            .with_context(|| format!("failed to read {name}"))?;
        if taken == 0 {
            break;
        }
        if line.last() != Some(&b'\n') && taken > LINE_BYTES_MAX {
            bail!("{name}: {}", reader.too_long());
        }
        let items = reader
            .line(&line)
            .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        items.into_iter().try_for_each(&mut show)?;
    }
    reader.finish().into_iter().try_for_each(&mut show)
}

/// The last report of each host, or the one with this number.
///
/// # Errors
///
/// As of `read`, and where there is no such report.
pub fn snapshot(path: &Path, number: Option<u32>) -> anyhow::Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let mut last = None;
    read(path, |item| {
        if let Item::Report(host, report) = item {
            last = Some(report.number);
            if number.is_none_or(|number| report.number <= number) {
                snapshot.take(&host, report);
            }
        }
        Ok(())
    })?;
    if let Some(number) = number {
        snapshot
            .reports
            .retain(|(_, report)| report.number == number);
    }
    if snapshot.reports.is_empty() {
        bail!("{}", no_report(path, number, last));
    }
    Ok(snapshot)
}

/// The largest file of suppressions.
const SUPPRESSIONS_BYTES_MAX: u64 = 4 << 20;

/// Reads a file of suppressions; without one, nothing is suppressed.
///
/// # Errors
///
/// In one line that names the file, the line and the remedy.
pub fn suppressions(path: Option<&Path>) -> anyhow::Result<Suppressions> {
    let Some(path) = path else {
        return Ok(Suppressions::default());
    };
    let name = path.display();
    let file = File::open(path)
        .with_context(|| format!("cannot read the suppressions in {name}; remedy: name a file"))?;
    let mut text = Vec::new();
    file.take(SUPPRESSIONS_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .with_context(|| format!("failed to read the suppressions in {name}"))?;
    ensure!(
        text.len() as u64 <= SUPPRESSIONS_BYTES_MAX,
        "{name} is larger than 4 MiB, which no list of suppressions is; remedy: name another file"
    );
    // Names of functions may be in any encoding; what is no UTF-8 matches nothing.
    Suppressions::parse(&String::from_utf8_lossy(&text))
        .map_err(|error| anyhow::anyhow!("{name}: {error}"))
}

/// Why there is nothing to show.
#[must_use]
pub fn no_report(path: &Path, number: Option<u32>, last: Option<u32>) -> String {
    let name = name(path);
    match (number, last) {
        (Some(number), Some(last)) => {
            format!("{name} has no report {number}; remedy: its last one is {last}")
        }
        _ => format!(
            "{name} has no report; remedy: `leaktrace trace --format json --output FILE` writes one"
        ),
    }
}

fn name(path: &Path) -> String {
    if path.as_os_str() == STDIN {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}
