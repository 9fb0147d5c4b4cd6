//! Owns how an inspected process becomes lines: one of the process, and one of each function that would be probed.
//! Must not know where the bytes go.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    JsonStream,
    cut::Cuts,
    encode::Integer,
    line::{Executable, NotCovered, ProcessAttributes, ProcessIdentity},
    longest,
    place::{Place, place_of},
};
use crate::report::model::{self, Inspected};

/// All allocators of a process.
const ALLOCATORS_BYTES: usize = 3200;
/// The names of one allocator's functions.
const NAMES_BYTES: usize = 640;
/// All files of a process.
const FILES_BYTES: usize = 900;

#[derive(Serialize)]
struct Process<'a> {
    process: ProcessAttributes<'a>,
    #[serde(flatten)]
    place: Place<'a>,
    runtime: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    go: Option<Go<'a>>,
    allocators: Vec<Allocator<'a>>,
    coverage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage_reason: Option<Cow<'a, str>>,
    unwinding: Vec<Unwinding<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ns_per_allocation: Option<Cost>,
}

#[derive(Serialize)]
struct Go<'a> {
    version: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_profile_rate_bytes: Option<Integer>,
    version_source: &'static str,
    layout: Cow<'a, str>,
    link: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linker_flags: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experiments: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Allocator<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<Cow<'a, str>>,
    entry_points: Vec<Cow<'a, str>>,
    not_covered: Vec<NotCovered<'a>>,
}

#[derive(Serialize)]
struct Unwinding<'a> {
    path: Cow<'a, str>,
    by: &'static str,
}

#[derive(Serialize)]
struct Cost {
    bare_metal: u32,
    virtual_machine: u32,
}

#[derive(Serialize)]
struct EntryPoint<'a> {
    process: ProcessIdentity,
    allocator: Cow<'a, str>,
    path: Cow<'a, str>,
    names: Vec<Cow<'a, str>>,
    address: String,
    offset: Integer,
    instruction: Cow<'a, str>,
    cost: &'static str,
    ns: Cost,
    result: &'static str,
    why: Cow<'a, str>,
}

impl JsonStream {
    /// Appends the lines of an inspected process.
    pub fn inspected(&self, from: &Inspected, time_unix_ns: u64, out: &mut Vec<u8>) {
        let mut cuts = Cuts::default();
        let body = process(&mut cuts, from);
        self.line("process", time_unix_ns, None, body, cuts)
            .finish(out);
        for allocator in &from.allocators {
            for point in &allocator.entry_points {
                let mut cuts = Cuts::default();
                let body = entry_point(&mut cuts, from, allocator, point);
                self.line("entry_point", time_unix_ns, None, body, cuts)
                    .finish(out);
            }
        }
    }
}

fn process<'a>(cuts: &mut Cuts, from: &'a Inspected) -> Process<'a> {
    let executable = &from.executable;
    let path = (!executable.path.is_empty()).then_some(&executable.path);
    Process {
        process: ProcessAttributes {
            identity: ProcessIdentity::from(&from.identity),
            executable: Executable {
                name: cuts.text("executable.name", &executable.name, longest::NAME),
                path: path.map(|path| cuts.text("executable.path", path, longest::PATH)),
                build_id: cuts.optional("executable.build_id", &executable.build_id, longest::WORD),
            },
            command_line: cuts.text("command_line", &from.command_line, longest::PATH),
            owner: cuts.text("owner", &from.owner, longest::WORD),
        },
        place: place_of(cuts, from.container.as_ref(), from.k8s.as_ref()),
        runtime: match from.go {
            Some(_) => model::Runtime::Go.word(),
            None => model::Runtime::Native.word(),
        },
        go: from.go.as_ref().map(|go| Go {
            version: cuts.text("go.version", &go.version, longest::WORD),
            memory_profile_rate_bytes: go.memory_profile_rate_bytes.map(Integer),
            version_source: go.version_source,
            layout: cuts.text("go.layout", &go.layout, longest::REASON),
            link: go.link.words(),
            linker_flags: cuts.optional("go.linker_flags", &go.link.linker_flags, longest::NAME),
            experiments: cuts.optional("go.experiments", &go.link.experiments, longest::NAME),
        }),
        allocators: cuts.list("allocators", &from.allocators, ALLOCATORS_BYTES, allocator),
        coverage: from.coverage.word(),
        coverage_reason: cuts.optional("coverage_reason", &from.coverage_reason, longest::REASON),
        unwinding: cuts.list("unwinding", &from.unwinding, FILES_BYTES, |cuts, from| {
            Unwinding {
                path: cuts.text("unwinding.path", &from.path, longest::NAME),
                by: from.by,
            }
        }),
        ns_per_allocation: from.ns_of_pair().map(cost),
    }
}

fn allocator<'a>(cuts: &mut Cuts, from: &'a model::InspectedAllocator) -> Allocator<'a> {
    let none = cuts.list(
        "not_covered",
        &from.not_covered,
        NAMES_BYTES,
        |cuts, from| NotCovered {
            name: cuts.text("not_covered.name", &from.name, longest::NAME),
            reason: cuts.text("not_covered.reason", &from.reason, longest::NAME),
        },
    );
    Allocator {
        name: cuts.text("allocators.name", &from.name, longest::WORD),
        version: cuts.optional("allocators.version", &from.version, longest::WORD),
        path: cuts.text("allocators.path", &from.path, longest::NAME),
        build_id: cuts.optional("allocators.build_id", &from.build_id, longest::WORD),
        entry_points: cuts.list("entry_points", &from.names, NAMES_BYTES, |cuts, name| {
            cuts.text("entry_points.name", name, longest::NAME)
        }),
        not_covered: none,
    }
}

fn entry_point<'a>(
    cuts: &mut Cuts,
    process: &Inspected,
    allocator: &'a model::InspectedAllocator,
    from: &'a model::InspectedEntryPoint,
) -> EntryPoint<'a> {
    EntryPoint {
        process: ProcessIdentity::from(&process.identity),
        allocator: cuts.text("allocator", &allocator.name, longest::WORD),
        path: cuts.text("path", &allocator.path, longest::PATH),
        names: cuts.list("names", &from.names, longest::OPTIONS / 2, |cuts, name| {
            cuts.text("names.name", name, longest::NAME)
        }),
        address: format!("{:#x}", from.file_offset),
        offset: Integer(from.offset),
        instruction: cuts.text("instruction", &from.instruction, longest::NAME),
        cost: from.cost,
        ns: cost(from.ns),
        result: from.result,
        why: cuts.text("why", &from.why, longest::REASON),
    }
}

fn cost((bare_metal, virtual_machine): (u32, u32)) -> Cost {
    Cost {
        bare_metal,
        virtual_machine,
    }
}
