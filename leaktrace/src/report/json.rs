//! Owns the JSON stream: its envelope, the limits of a line and the order of lines.
//! Must not know where the bytes go, nor how the report was made.

mod cgroup;
mod cut;
mod diff;
mod encode;
mod goroutines;
mod inspection;
mod line;
mod place;
mod process;
mod site;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use self::cut::Cuts;
use self::encode::{Integer, append, encoded_len};
use self::line::Line;
use super::model::{End, Host, Report, Start};
use super::units::rfc3339;

/// The name of this form of the stream; `schema/leaktrace-1.schema.json` is
/// its definition. A change that old readers would not survive takes a new one.
pub(super) const SCHEMA: &str = "leaktrace/1";

/// A line with its newline stays below this: rsyslog cuts at 8 KiB.
const LINE_BYTES: usize = 8192;

/// Kept free for `"truncated"`: the most fields that a line can cut (19, of a
/// process), their names and ten digits each.
const TRUNCATED_BYTES: usize = 720;

/// The longest each string and map may be in the stream, escapes included.
/// For each type of line they sum to well below `LINE_BYTES`, so that the
/// lists that take what is left keep at least an entry whatever the input.
mod longest {
    /// Ids of hosts, containers and builds, user names, kinds.
    pub const WORD: usize = 64;
    /// A pod's name: a DNS name, which ends at 253.
    pub const POD: usize = 256;
    /// All labels of one pod.
    pub const LABELS: usize = 512;
    /// Names of files, hosts, containers, allocators, modules.
    pub const NAME: usize = 128;
    /// A clause that says why.
    pub const REASON: usize = 384;
    /// A path of an executable, an allocator or a source file.
    pub const PATH: usize = 512;
    /// The path of a source file in a stack that would not fit otherwise.
    pub const PATH_SHORTER: usize = 64;
    /// A demangled function. Templates of C++ grow to many KiB. The limit is
    /// fixed, so that one function has one name in all lines.
    pub const FUNCTION: usize = 768;
    /// All arguments of a process, or the value of one option.
    pub const COMMAND_LINE: usize = 2048;
    /// All options of a run.
    pub const OPTIONS: usize = 6144;
    /// All counters of one process, or of one report.
    pub const COUNTERS: usize = 1024;
    /// All figures behind one verdict.
    pub const EVIDENCE: usize = 768;
    /// All classes of age of one site.
    pub const AGES: usize = 1024;
    /// A stack of goroutines, so that one line tells of several.
    pub const BLOCKED_STACK: usize = 1536;
    /// How a site went over time.
    pub const COURSE: usize = 1536;
    /// The same beside a stack that would not fit otherwise.
    pub const COURSE_THINNED: usize = 384;
    /// All suppressions that hide something of one process.
    pub const SUPPRESSED: usize = 768;
}

/// A writer of whole lines of one host's stream: newline-delimited JSON, each
/// line below 8 KiB. What is too long is cut in the middle, and the line's
/// `"truncated"` says how much is missing. Integers saturate at 2^53 - 1,
/// floats that are not finite are left out.
#[derive(Clone, Debug)]
pub struct JsonStream {
    host: Host,
}

impl JsonStream {
    /// A stream of the host on which the trace runs.
    pub fn new(host: Host) -> Self {
        Self { host }
    }

    /// Appends the `"start"` line.
    pub fn start(&self, start: &Start, out: &mut Vec<u8>) {
        let mut cuts = Cuts::default();
        let options: Vec<_> = start
            .options
            .iter()
            .map(|(name, value)| {
                (
                    *name,
                    cuts.text("options.value", value, longest::COMMAND_LINE),
                )
            })
            .collect();
        let body = line::Start {
            version: cuts.text("version", &start.version, longest::NAME),
            kernel: cuts.text("kernel", &start.kernel, longest::NAME),
            mode: cuts.text("mode", &start.mode, longest::WORD),
            options: cuts.map("options", options.into_iter(), longest::OPTIONS),
        };
        self.line("start", start.time_unix_ns, None, body, cuts)
            .finish(out);
    }

    /// Appends the lines of one report: each process, followed by its goroutines and its top
    /// sites, then control groups and what was lost, if anything was.
    pub fn report(&self, report: &Report, out: &mut Vec<u8>) {
        for process in &report.processes {
            let mut cuts = Cuts::default();
            let body = process::body(&mut cuts, report, process);
            let mut line = self.report_line("process", report, body, cuts);
            let room = line.room();
            process::fill_allocators(&mut line.body, &mut line.truncated, process, room);
            line.finish(out);
            if let Some(from) = &process.goroutines {
                let mut cuts = Cuts::default();
                let body = goroutines::body(&mut cuts, &process.identity, from);
                let mut line = self.report_line("goroutines", report, body, cuts);
                let room = line.room();
                goroutines::fill_groups(&mut line.body, &mut line.truncated, from, room);
                line.finish(out);
            }
            for site in &process.sites {
                let mut cuts = Cuts::default();
                let body = site::body(&mut cuts, process, site);
                let mut line = self.report_line("site", report, body, cuts);
                let room = line.room();
                site::fill_stack(&mut line.body, &mut line.truncated, site, room);
                line.finish(out);
            }
        }
        for from in &report.cgroups {
            let mut cuts = Cuts::default();
            let body = cgroup::body(&mut cuts, from);
            self.report_line("cgroup", report, body, cuts).finish(out);
        }
        if !report.lost.is_empty() {
            let mut cuts = Cuts::default();
            let body = line::Loss {
                counters: counters(&mut cuts, "counters", &report.lost),
            };
            self.report_line("loss", report, body, cuts).finish(out);
        }
    }

    /// Appends the `"end"` line.
    pub fn end(&self, end: &End, out: &mut Vec<u8>) {
        let mut cuts = Cuts::default();
        let body = line::End {
            elapsed_seconds: line::seconds(end.elapsed),
            report_count: end.reports,
            process_count: Integer(end.processes),
            event_count: Integer(end.events),
            lost: counters(&mut cuts, "lost", &end.lost),
            reason: cuts.text("reason", &end.reason, longest::REASON),
        };
        self.line("end", end.time_unix_ns, None, body, cuts)
            .finish(out);
    }

    /// A line that belongs to a report.
    fn report_line<B>(
        &self,
        r#type: &'static str,
        report: &Report,
        body: B,
        cuts: Cuts,
    ) -> Line<'_, B> {
        self.line(r#type, report.time_unix_ns, Some(report.number), body, cuts)
    }

    /// The envelope around what is particular to a type of line.
    fn line<B>(
        &self,
        r#type: &'static str,
        time_unix_ns: u64,
        report: Option<u32>,
        body: B,
        mut cuts: Cuts,
    ) -> Line<'_, B> {
        Line {
            schema: SCHEMA,
            r#type,
            time: rfc3339(time_unix_ns),
            host: line::Host {
                name: cuts.text("host.name", &self.host.name, longest::NAME),
                id: cuts.text("host.id", &self.host.id, longest::WORD),
            },
            report,
            body,
            truncated: cuts,
        }
    }
}

impl<B: Serialize> Line<'_, B> {
    /// How many bytes the line can still take.
    fn room(&self) -> usize {
        (LINE_BYTES - 1 - TRUNCATED_BYTES).saturating_sub(encoded_len(self) + 1)
    }

    /// Appends the line and its newline.
    fn finish(self, out: &mut Vec<u8>) {
        let from = out.len();
        append(out, &self);
        out.push(b'\n');
        debug_assert!(
            out.len() - from < LINE_BYTES,
            "the limits of {} sum too high",
            self.r#type
        );
    }
}

/// Counters as they stand in a line.
fn counters<'a>(
    cuts: &mut Cuts,
    field: &'static str,
    counters: &BTreeMap<&'a str, u64>,
) -> BTreeMap<&'a str, Integer> {
    let integers = counters.iter().map(|(name, n)| (*name, Integer(*n)));
    cuts.map(field, integers, longest::COUNTERS)
}
