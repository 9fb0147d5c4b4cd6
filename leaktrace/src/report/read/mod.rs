//! Owns the reading of a saved stream: lines in, reports out, however damaged the lines are.
//! Must not know files: who calls it brings the lines, and bounds their length.
//!
//! What it does not know it leaves alone: members and types of lines that a later version added.
//! What it does know must be as it was written, or the line is refused with its number.

mod name;
mod wire;

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use serde::Deserialize;

use self::wire::{Loss, ProcessLine, SiteLine};
use super::{
    json::SCHEMA,
    model::{End, Host, Process, Report, Start},
};

/// The longest line that is read: eight times what is ever written, since pipelines may add to it.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Hosts whose reports may be mixed in one stream; each has one that is not whole yet.
const HOSTS_MAX: usize = 4_096;

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A trace began.
    Start(Host, Start),
    /// A report, whole.
    Report(Host, Report),
    /// A trace ended.
    End(Host, End),
}

/// Why a line was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it, and the remedy.
    pub why: Why,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is no JSON: cut off, or damaged on its way.
    Damaged(String),
    /// It is JSON and not as this type of line must be.
    Wrong(String),
    /// It is JSON of something else.
    Foreign,
    /// It was written by a leaktrace whose stream this one does not know.
    OtherSchema(String),
    /// It is longer than `LINE_BYTES_MAX`.
    TooLong,
    /// More hosts than `HOSTS_MAX` are mixed.
    TooManyHosts,
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line;
        write!(out, "line {line} ")?;
        match &self.why {
            Why::Damaged(what) => write!(
                out,
                "is cut short or damaged ({what}); remedy: take it out, as `sed {line}d` does"
            ),
            Why::Wrong(what) => write!(
                out,
                "is not as {SCHEMA} says ({what}); remedy: take it out, as `sed {line}d` does"
            ),
            Why::Foreign => out.write_str(
                "is of no leaktrace stream; remedy: save one by `leaktrace trace --format json --output FILE`",
            ),
            Why::OtherSchema(schema) => write!(
                out,
                "is of schema {schema:?}, and this leaktrace reads {SCHEMA:?}; remedy: use the version that wrote it"
            ),
            Why::TooLong => write!(
                out,
                "is longer than {LINE_BYTES_MAX} bytes, which no leaktrace writes; remedy: take it out, as `sed {line}d` does"
            ),
            Why::TooManyHosts => write!(
                out,
                "is of one host more than the {HOSTS_MAX} that may be mixed; remedy: split the stream by host"
            ),
        }
    }
}

impl std::error::Error for ReadError {}

/// What every line has.
#[derive(Deserialize)]
struct Envelope {
    schema: Option<String>,
    r#type: Option<String>,
    #[serde(default)]
    host: wire::HostPart,
    #[serde(default)]
    time: wire::Time,
    #[serde(default)]
    report: u32,
}

/// Puts reports together from lines. Reports of several hosts may be mixed, as a log pipeline mixes
/// them; those of one host come one after the other, with or without a start and an end.
#[derive(Debug, Default)]
pub struct Reader {
    line: u64,
    /// One of each host, in the order of their first lines.
    unfinished: Vec<(Host, Report)>,
}

impl Reader {
    /// Takes in one line, without its newline. What it completes comes out: at most a report and the
    /// line itself.
    ///
    /// # Errors
    ///
    /// When the line is none of a stream. The next line can be read all the same.
    pub fn line(&mut self, bytes: &[u8]) -> Result<Vec<Item>, ReadError> {
        self.line += 1;
        let line = self.line;
        self.take(bytes).map_err(|why| ReadError { line, why })
    }

    /// Refuses a line that was too long to be brought here.
    pub fn too_long(&mut self) -> ReadError {
        self.line += 1;
        ReadError {
            line: self.line,
            why: Why::TooLong,
        }
    }

    /// The reports that no further line will complete.
    pub fn finish(&mut self) -> Vec<Item> {
        let rest = std::mem::take(&mut self.unfinished).into_iter();
        rest.map(|(host, report)| Item::Report(host, report))
            .collect()
    }

    /// How many lines were read.
    pub fn line_count(&self) -> u64 {
        self.line
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Item>, Why> {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        if bytes.len() > LINE_BYTES_MAX {
            return Err(Why::TooLong);
        }
        // An array would pass for an object with its members in order.
        if bytes[0] != b'{' {
            return Err(Why::Damaged("no JSON object".to_owned()));
        }
        let envelope: Envelope = parse(bytes)?;
        match &envelope.schema {
            None => return Err(Why::Foreign),
            Some(schema) if schema != SCHEMA => return Err(Why::OtherSchema(schema.clone())),
            Some(_) => {}
        }
        let host: Host = envelope.host.clone().into();
        match envelope.r#type.as_deref() {
            None => Err(Why::Foreign),
            Some("start") => {
                let mut items = self.flush(&host);
                let start = parse::<wire::StartLine>(bytes)?.into_model(envelope.time.unix_ns);
                items.push(Item::Start(host, start));
                Ok(items)
            }
            Some("end") => {
                let mut items = self.flush(&host);
                let end = parse::<wire::EndLine>(bytes)?.into_model(envelope.time.unix_ns);
                items.push(Item::End(host, end));
                Ok(items)
            }
            Some("process") => self.process(host, &envelope, parse(bytes)?),
            Some("goroutines") => self.goroutines(host, &envelope, parse(bytes)?),
            Some("site") => self.site(host, &envelope, parse(bytes)?),
            Some("loss") => {
                let loss: Loss = parse(bytes)?;
                let (items, report) = self.report(host, &envelope)?;
                wire::add_counters(&mut report.lost, &loss.counters);
                Ok(items)
            }
            Some(_) => Ok(Vec::new()),
        }
    }

    fn process(
        &mut self,
        host: Host,
        envelope: &Envelope,
        line: ProcessLine,
    ) -> Result<Vec<Item>, Why> {
        let (elapsed, min_age) = line.times();
        let process = line.into_model();
        // The same process twice in one report: the stream stands there twice.
        let is_again = |(of, report): &(Host, Report)| {
            *of == host && report.processes.iter().any(|it| same(it, &process))
        };
        let mut items = Vec::new();
        if self.unfinished.iter().any(is_again) {
            items = self.flush(&host);
        }
        let (before, report) = self.report(host, envelope)?;
        items.extend(before);
        (report.elapsed, report.min_age) = (elapsed, min_age);
        report.processes.push(process);
        Ok(items)
    }

    fn site(&mut self, host: Host, envelope: &Envelope, line: SiteLine) -> Result<Vec<Item>, Why> {
        let (identity, site) = line.into_model();
        let (items, report) = self.report(host, envelope)?;
        // A site follows its process; it is the last one unless a pipeline has reordered lines.
        let mut processes = report.processes.iter_mut().rev();
        match processes.find(|process| process.identity == identity) {
            Some(process) => process.sites.push(site),
            None => {
                let pid = identity.pid;
                let what = format!("a site of pid {pid}, whose own line is not before it");
                return Err(Why::Wrong(what));
            }
        }
        Ok(items)
    }

    fn goroutines(
        &mut self,
        host: Host,
        envelope: &Envelope,
        line: wire::GoroutinesLine,
    ) -> Result<Vec<Item>, Why> {
        let (identity, goroutines) = line.into_model();
        let (items, report) = self.report(host, envelope)?;
        let mut processes = report.processes.iter_mut().rev();
        match processes.find(|process| process.identity == identity) {
            Some(process) => process.goroutines = Some(goroutines),
            None => {
                let pid = identity.pid;
                let what = format!("goroutines of pid {pid}, whose own line is not before it");
                return Err(Why::Wrong(what));
            }
        }
        Ok(items)
    }

    /// The report that a line belongs to, and the one that it shows to be whole.
    fn report(&mut self, host: Host, envelope: &Envelope) -> Result<(Vec<Item>, &mut Report), Why> {
        let (number, time_unix_ns) = (envelope.report, envelope.time.unix_ns);
        let position = self.unfinished.iter().position(|(of, _)| *of == host);
        let mut items = Vec::new();
        let fresh = Report {
            number,
            time_unix_ns,
            ..Report::default()
        };
        let at = match position {
            Some(at) => {
                let report = &mut self.unfinished[at].1;
                if (report.number, report.time_unix_ns) != (number, time_unix_ns) {
                    items.push(Item::Report(host, std::mem::replace(report, fresh)));
                }
                at
            }
            None if self.unfinished.len() >= HOSTS_MAX => return Err(Why::TooManyHosts),
            None => {
                self.unfinished.push((host, fresh));
                self.unfinished.len() - 1
            }
        };
        Ok((items, &mut self.unfinished[at].1))
    }

    /// The report of a host that is whole because something else begins.
    fn flush(&mut self, host: &Host) -> Vec<Item> {
        let position = self.unfinished.iter().position(|(of, _)| of == host);
        let whole = position.map(|at| self.unfinished.remove(at));
        whole
            .into_iter()
            .map(|(host, report)| Item::Report(host, report))
            .collect()
    }
}

fn same(a: &Process, b: &Process) -> bool {
    a.identity == b.identity
}

/// A line as a type of line.
fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Why> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        // It counts lines too, and each of ours is its first.
        let what = text.split(" at line ").next().unwrap_or(&text);
        let what: String = what.chars().take(200).collect();
        let what = super::escape::visible(&what, false);
        match error.classify() {
            serde_json::error::Category::Data => Why::Wrong(what.into_owned()),
            _ => Why::Damaged(format!("{what} at byte {}", error.column())),
        }
    })
}

/// Seconds as they stand in a line. What no duration holds is the longest or none at all.
fn duration(seconds: f64) -> Duration {
    if seconds.is_nan() || seconds <= 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
