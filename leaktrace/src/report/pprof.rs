//! Owns profiles in pprof's form: what is in use and what was allocated, by stack.
//! Must not know who asks for them.
//!
//! Addresses are made up: each file has a region of its own, in which an instruction stands at its
//! offset in the file. So `go tool pprof` tells instructions of several processes apart, and finds
//! them in a file with the build id that is told.

pub mod proto;

use std::{
    collections::HashMap,
    io::{self, Write as _},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;

use self::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::{
    escape::visible,
    model::{AccuracyKind, Counts, Coverage, Frame, Host, Process, Report, Site},
    snapshot::{CUT, NO_STACK, OTHER_SITES, Snapshot, frame_name, remainder},
    units,
};

/// The values of a sample, with their units, in the order in which the Go runtime writes them.
const SAMPLE_TYPES: [(&str, &str); 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// Addresses between the regions of two files: more than a file with code is long.
const REGION_BYTES: u64 = 1 << 40;

/// Comments on how far figures can be trusted; more processes than that are counted.
const COMMENTS_MAX: usize = 20;

/// The profile of a snapshot, compressed as pprof wants it. With a pid, of that process alone.
///
/// # Panics
///
/// Never: memory takes all that is written.
#[must_use]
pub fn render(snapshot: &Snapshot, pid: Option<u32>) -> Vec<u8> {
    let bytes = profile(snapshot, pid).encode_to_vec();
    compress(&bytes).expect("memory takes all that is written")
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The profile, not yet compressed.
#[must_use]
pub fn profile(snapshot: &Snapshot, pid: Option<u32>) -> Profile {
    let processes: Vec<_> = snapshot
        .processes()
        .filter(|(.., process)| pid.is_none_or(|pid| pid == process.identity.pid))
        .collect();
    let mut builder = Builder::new();
    for (host, report, process) in &processes {
        builder.process(host, process, snapshot.has_many_hosts());
        builder.times(report);
    }
    builder.comments(processes.iter().map(|(.., process)| *process));
    let sample_bytes = processes.iter().map(|(.., it)| it.accuracy.sample_bytes);
    builder.finish(sample_bytes.max().unwrap_or(0))
}

/// A profile in the making: everything is told once and referred to by number.
struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    /// By name and build id.
    mappings: HashMap<(i64, i64), usize>,
    /// By name and file.
    functions: HashMap<(i64, i64), u64>,
    /// By mapping, address and lines.
    locations: HashMap<(u64, u64, Vec<Line>), u64>,
}

impl Builder {
    fn new() -> Self {
        let mut this = Self {
            profile: Profile::default(),
            strings: HashMap::new(),
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        this.string("");
        for (name, unit) in SAMPLE_TYPES {
            let value = this.value_type(name, unit);
            this.profile.sample_type.push(value);
        }
        this
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    /// A text that the traced process could have chosen.
    fn foreign(&mut self, text: &str) -> i64 {
        self.string(&visible(text, false))
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType {
            r#type: self.string(name),
            unit: self.string(unit),
        }
    }

    fn times(&mut self, report: &Report) {
        let profile = &mut self.profile;
        profile.time_nanos = profile.time_nanos.max(signed(report.time_unix_ns));
        let elapsed = i64::try_from(report.elapsed.as_nanos()).unwrap_or(i64::MAX);
        profile.duration_nanos = profile.duration_nanos.max(elapsed);
    }

    fn process(&mut self, host: &Host, process: &Process, tells_host: bool) {
        let mut labels = vec![
            // A number, since `-tagfocus=pid=812` takes digits for one.
            Label {
                key: self.string("pid"),
                num: i64::from(process.identity.pid),
                ..Label::default()
            },
            self.label("comm", &process.executable.name),
        ];
        if let Some(container) = &process.container {
            let name = container.name.as_ref().unwrap_or(&container.id);
            labels.push(self.label("container", name));
        }
        if let Some(k8s) = &process.k8s {
            let named = [("namespace", &k8s.namespace), ("pod", &k8s.pod)];
            for (key, text) in named {
                labels.extend(text.as_deref().map(|text| self.label(key, text)));
            }
        }
        if tells_host {
            labels.push(self.label("host", &host.name));
        }
        for site in &process.sites {
            let mut labels = labels.clone();
            labels.push(self.label("verdict", site.verdict.word()));
            labels.push(self.label("site", &format!("{:016x}", site.id)));
            let stack = self.stack(site);
            self.sample(stack, values(&site.counts), labels);
        }
        let (live_bytes, live_count) = remainder(process);
        let rest = |all: u64, figure: fn(&Counts) -> u64| {
            let sites = process.sites.iter().map(|site| figure(&site.counts));
            all.saturating_sub(sites.fold(0, u64::saturating_add))
        };
        let counts = Counts {
            live_bytes,
            live_count,
            allocated_bytes: rest(process.counts.allocated_bytes, |it| it.allocated_bytes),
            allocated_count: rest(process.counts.allocated_count, |it| it.allocated_count),
            ..Counts::default()
        };
        if counts.live_bytes > 0 || counts.allocated_bytes > 0 {
            let stack = vec![self.mark(OTHER_SITES)];
            self.sample(stack, values(&counts), labels);
        }
    }

    fn sample(&mut self, location_id: Vec<u64>, value: Vec<i64>, label: Vec<Label>) {
        self.profile.sample.push(Sample {
            location_id,
            value,
            label,
        });
    }

    fn label(&mut self, key: &str, text: &str) -> Label {
        Label {
            key: self.string(key),
            str: self.foreign(text),
            num: 0,
        }
    }

    /// The locations of a site, innermost first; inlined frames are lines of the location whose code
    /// they are.
    fn stack(&mut self, site: &Site) -> Vec<u64> {
        let mut locations = Vec::with_capacity(site.stack.len());
        let mut lines = Vec::new();
        for (i, frame) in site.stack.iter().enumerate() {
            lines.push(self.line(frame));
            // The outermost frame is inlined into nothing, whatever is told of it.
            if !frame.inlined || i + 1 == site.stack.len() {
                let lines = std::mem::take(&mut lines);
                locations.push(self.location(frame, lines));
            }
        }
        if locations.is_empty() {
            locations.push(self.mark(NO_STACK));
        } else if site.stack_truncated.is_some() {
            locations.push(self.mark(CUT));
        }
        locations
    }

    fn line(&mut self, frame: &Frame) -> Line {
        let function_id = self.function(&frame_name(frame), frame.file.as_deref().unwrap_or(""));
        Line {
            function_id,
            line: frame.line.map_or(0, i64::from),
        }
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let (name, filename) = (self.string(name), self.foreign(file));
        let next = self.profile.function.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function {
                id,
                name,
                system_name: name,
                filename,
            });
        }
        id
    }

    fn location(&mut self, frame: &Frame, lines: Vec<Line>) -> u64 {
        let (mapping_id, address) = match &frame.module {
            Some(module) => self.mapped(module, frame),
            None => (0, frame.address),
        };
        self.located(mapping_id, address, lines)
    }

    fn located(&mut self, mapping_id: u64, address: u64, line: Vec<Line>) -> u64 {
        let next = self.profile.location.len() as u64 + 1;
        let key = (mapping_id, address, line);
        if let Some(id) = self.locations.get(&key) {
            return *id;
        }
        self.profile.location.push(Location {
            id: next,
            mapping_id,
            address,
            line: key.2.clone(),
        });
        self.locations.insert(key, next);
        next
    }

    /// A location that stands for no code.
    fn mark(&mut self, name: &str) -> u64 {
        let function_id = self.function(name, "");
        let line = Line {
            function_id,
            line: 0,
        };
        self.located(0, 0, vec![line])
    }

    /// The mapping of a file, made large enough for an instruction, and the instruction's address.
    fn mapped(&mut self, module: &str, frame: &Frame) -> (u64, u64) {
        let filename = self.foreign(module);
        let build_id = self.foreign(frame.build_id.as_deref().unwrap_or(""));
        let next = self.profile.mapping.len();
        let index = *self.mappings.entry((filename, build_id)).or_insert(next);
        // No file is as long as a region, unless the stream is forged.
        let offset = frame.address % REGION_BYTES;
        if index == next {
            let number = next as u64 + 1;
            let memory_start = number.wrapping_mul(REGION_BYTES);
            self.profile.mapping.push(Mapping {
                id: number,
                memory_start,
                memory_limit: memory_start,
                filename,
                build_id,
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
                ..Mapping::default()
            });
        }
        let mapping = &mut self.profile.mapping[index];
        let address = mapping.memory_start.wrapping_add(offset);
        // Whole pages, as real ones are.
        let end = (address | 0xfff).wrapping_add(1);
        mapping.memory_limit = mapping.memory_limit.max(end);
        (mapping.id, address)
    }

    /// What a reader should know before trusting the figures.
    fn comments<'a>(&mut self, processes: impl Iterator<Item = &'a Process>) {
        let mut doubts: Vec<String> = Vec::new();
        for process in processes {
            let who = format!("{} (pid {})", process.executable.name, process.identity.pid);
            match process.accuracy.kind {
                AccuracyKind::Exact => {}
                AccuracyKind::Sampled => doubts.push(format!(
                    "{who} is sampled, one in {}: its figures are estimates",
                    units::bytes(process.accuracy.sample_bytes)
                )),
                AccuracyKind::Lossy => doubts.push(format!("{who} is lossy: events were lost")),
            }
            match process.coverage {
                Coverage::Full => {}
                Coverage::Partial => doubts.push(format!("{who} is partly covered")),
                Coverage::None => doubts.push(format!("{who} is not covered")),
            }
            for hidden in &process.suppressed {
                let bytes = units::bytes(hidden.live_bytes);
                let pattern = &hidden.pattern;
                doubts.push(format!("{who}: leak:{pattern} suppresses {bytes}"));
            }
        }
        let more = doubts.len().saturating_sub(COMMENTS_MAX);
        doubts.truncate(COMMENTS_MAX);
        if more > 0 {
            doubts.push(format!("and {more} more such remarks"));
        }
        for doubt in doubts {
            let comment = self.foreign(&doubt);
            self.profile.comment.push(comment);
        }
    }

    fn finish(mut self, sample_bytes: u64) -> Profile {
        let period_type = self.value_type("space", "bytes");
        self.profile.period_type = Some(period_type);
        self.profile.period = signed(sample_bytes.max(1));
        self.profile.default_sample_type = self.string("inuse_space");
        self.profile
    }
}

/// In the order of `SAMPLE_TYPES`.
fn values(counts: &Counts) -> Vec<i64> {
    let values = [
        counts.allocated_count,
        counts.allocated_bytes,
        counts.live_count,
        counts.live_bytes,
    ];
    values.map(signed).to_vec()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
