//! Owns the lines of a comparison of two reports.
//! Must not know how it was made.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::{
    JsonStream,
    cut::Cuts,
    encode::{Integer, MAX_INTEGER},
    line, longest, site,
};
use crate::report::{
    diff::{Change, Difference, End, Live, ProgramChange, SiteChange},
    model,
    units::rfc3339,
};

/// A difference; it saturates as integers do.
struct Signed(i64);

impl Serialize for Signed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let most = i64::try_from(MAX_INTEGER).expect("2^53 fits");
        serializer.serialize_i64(self.0.clamp(-most, most))
    }
}

#[derive(Serialize)]
struct DiffLine {
    old: EndPart,
    new: EndPart,
}

#[derive(Serialize)]
struct EndPart {
    report: u32,
    time: String,
}

impl From<&End> for EndPart {
    fn from(from: &End) -> Self {
        Self {
            report: from.number,
            time: rfc3339(from.time_unix_ns),
        }
    }
}

#[derive(Serialize)]
struct Name<'a> {
    name: Cow<'a, str>,
}

#[derive(Serialize)]
struct LivePart {
    #[serde(skip_serializing_if = "Option::is_none")]
    process_count: Option<Integer>,
    live_bytes: Integer,
    live_count: Integer,
}

impl LivePart {
    fn new(from: Live, processes: Option<u64>) -> Self {
        Self {
            process_count: processes.map(Integer),
            live_bytes: Integer(from.bytes),
            live_count: Integer(from.count),
        }
    }
}

#[derive(Serialize)]
struct ChangePart {
    before: LivePart,
    after: LivePart,
    difference_bytes: Signed,
    difference_count: Signed,
}

impl ChangePart {
    fn new(from: &Change, processes: Option<(u64, u64)>) -> Self {
        Self {
            before: LivePart::new(from.before, processes.map(|it| it.0)),
            after: LivePart::new(from.after, processes.map(|it| it.1)),
            difference_bytes: Signed(from.bytes()),
            difference_count: Signed(from.count()),
        }
    }
}

#[derive(Serialize)]
struct ProgramLine<'a> {
    executable: Name<'a>,
    #[serde(flatten)]
    change: ChangePart,
    changed_site_count: Integer,
}

#[derive(Serialize)]
struct SiteLine<'a> {
    executable: Name<'a>,
    site: line::SiteIdentity,
    change: &'static str,
    certain: bool,
    #[serde(flatten)]
    figures: ChangePart,
    verdict: &'static str,
    stack: Vec<line::Frame<'a>>,
}

impl JsonStream {
    /// Appends a comparison: a line of both reports, then each program, followed by its sites.
    pub fn difference(&self, difference: &Difference, out: &mut Vec<u8>) {
        let time = difference.new.time_unix_ns;
        let body = DiffLine {
            old: (&difference.old).into(),
            new: (&difference.new).into(),
        };
        self.line("diff", time, None, body, Cuts::default())
            .finish(out);
        for program in &difference.programs {
            self.program(time, program, out);
            for change in &program.sites {
                self.site_change(time, program, change, out);
            }
        }
    }

    fn program(&self, time: u64, program: &ProgramChange, out: &mut Vec<u8>) {
        let mut cuts = Cuts::default();
        let changed = program.sites.len() as u64;
        let body = ProgramLine {
            executable: name(&mut cuts, program),
            change: ChangePart::new(&program.change, Some(program.processes)),
            changed_site_count: Integer(changed.saturating_add(program.more_sites)),
        };
        self.line("diff_process", time, None, body, cuts)
            .finish(out);
    }

    fn site_change(
        &self,
        time: u64,
        program: &ProgramChange,
        change: &SiteChange,
        out: &mut Vec<u8>,
    ) {
        let mut cuts = Cuts::default();
        let site: &model::Site = &change.site;
        let body = SiteLine {
            executable: name(&mut cuts, program),
            site: line::SiteIdentity {
                id: format!("{:016x}", site.id),
            },
            change: change.fate.word(),
            certain: change.is_certain,
            figures: ChangePart::new(&change.change, None),
            verdict: site.verdict.word(),
            stack: Vec::new(),
        };
        let mut line = self.line("diff_site", time, None, body, cuts);
        let room = line.room();
        line.body.stack = site::stack(&mut line.truncated, site, room);
        line.finish(out);
    }
}

fn name<'a>(cuts: &mut Cuts, program: &'a ProgramChange) -> Name<'a> {
    Name {
        name: cuts.text("executable.name", &program.name, longest::NAME),
    }
}
