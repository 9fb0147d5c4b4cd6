//! Owns the choice of a form: reports go in as they are made, bytes come out when they are due.
//! Must not know where the bytes go.

use super::{
    folded, html,
    json::JsonStream,
    model::{End, Host, Report, Start},
    pprof,
    snapshot::Snapshot,
    text::{self, Style},
};
use crate::config::Format;

/// Turns a run into one of the forms. Text and JSON come report by report; the pictures are of the
/// last report, and come at the end.
#[derive(Debug)]
pub struct Sink {
    format: Format,
    style: Style,
    snapshot: Snapshot,
}

impl Sink {
    /// A sink of this form; the style is that of text.
    #[must_use]
    pub fn new(format: Format, style: Style) -> Self {
        Self {
            format,
            style,
            snapshot: Snapshot::default(),
        }
    }

    /// The beginning of a run.
    #[must_use]
    pub fn start(&self, host: &Host, start: &Start) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.format == Format::Json {
            JsonStream::new(host.clone()).start(start, &mut bytes);
        }
        bytes
    }

    /// A report.
    #[must_use]
    pub fn report(&mut self, host: &Host, report: Report) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.format {
            Format::Text => return text::render(&report, &self.style).into_bytes(),
            Format::Json => JsonStream::new(host.clone()).report(&report, &mut bytes),
            Format::Folded | Format::Pprof | Format::Html => self.snapshot.take(host, report),
        }
        bytes
    }

    /// The last reports of a run that is over, in place of what came before.
    #[must_use]
    pub fn snapshot(&mut self, snapshot: Snapshot) -> Vec<u8> {
        if self.format.is_picture() {
            self.snapshot = snapshot;
            return Vec::new();
        }
        let reports = snapshot.reports.into_iter();
        reports
            .flat_map(|(host, report)| self.report(&host, report))
            .collect()
    }

    /// The end of a run.
    #[must_use]
    pub fn end(&self, host: &Host, end: &End) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.format == Format::Json {
            JsonStream::new(host.clone()).end(end, &mut bytes);
        }
        bytes
    }

    /// What is due when no more reports come.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.format {
            Format::Text | Format::Json => Vec::new(),
            Format::Folded => folded::render(&self.snapshot).into_bytes(),
            Format::Pprof => pprof::render(&self.snapshot, None),
            Format::Html => html::render(&self.snapshot).into_bytes(),
        }
    }
}
