//! Owns what is told of a Go program: its version, and how its own memory profile is set.
//! Must not know native allocators.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

use super::process::cost;
use crate::{
    binary::placement::{self, CostClass},
    golang::{
        binary::{GoBinary, GoError, VersionSource},
        buckets,
        layout::LayoutSource,
        plan,
        program::{GoProcess, GoProgram},
        sites,
    },
    host::maps::Mapping,
    report::model::{InspectedAllocator, InspectedEntryPoint, InspectedGo, InspectedLink},
};

/// No instruction is longer.
const LONGEST_BYTES: u64 = 15;

/// Largest program that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A Go program of a process.
pub struct Found {
    /// What is told of it.
    pub go: InspectedGo,
    /// Its heap, or why it would not be probed.
    pub heap: Result<InspectedAllocator, String>,
}

/// Looks whether the file that a mapping shows is a Go program.
pub fn look(pid: u32, file: &File, mapping: &Mapping) -> Option<Found> {
    let length = file.metadata().ok()?.len();
    if length > FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let binary = match GoBinary::parse(&bytes) {
        Ok(binary) => binary,
        Err(GoError::NotElf(_) | GoError::NotGo) => return None,
        Err(error @ GoError::Malformed(_)) => {
            return Some(Found {
                go: InspectedGo::default(),
                heap: Err(error.to_string()),
            });
        }
    };
    let heap = plan::plan(&binary)
        .map(|plan| heap(&plan, &binary, &mapping.path))
        .map_err(|error| error.to_string());
    let rate = GoProgram::read(&bytes).ok().and_then(|program| {
        let process = GoProcess::open(pid, Arc::new(program), mapping).ok()?;
        buckets::read_rate(&process).ok()
    });
    Some(Found {
        go: InspectedGo {
            version: binary.version().text.clone(),
            memory_profile_rate_bytes: rate,
            version_source: match binary.version().source {
                VersionSource::BuildInfo => "build info",
                VersionSource::Text => "text",
                VersionSource::Functions => "functions",
            },
            layout: match binary.layout() {
                Ok(layout) if layout.source == LayoutSource::DebugInfo => {
                    "its debug information".to_owned()
                }
                Ok(layout) => format!("the table of Go 1.{}", layout.minor),
                Err(error) => error.to_string(),
            },
            link: link(&binary),
        },
        heap,
    })
}

fn link(binary: &GoBinary<'_>) -> InspectedLink {
    let flags = binary.flags();
    InspectedLink {
        is_stripped: flags.is_stripped,
        has_debug_info: flags.has_debug_info,
        is_pie: flags.is_pie,
        has_cgo: flags.has_cgo,
        has_race_detector: flags.has_race_detector,
        has_green_tea: binary.has_green_tea(),
        linker_flags: flags.linker_flags.clone(),
        experiments: flags.experiments.clone(),
    }
}

/// The heap, with the functions in which its probes would stand: those of exact tracing, those that sample, and
/// those that tell the dead.
fn heap(plan: &plan::GoPlan, binary: &GoBinary<'_>, path: &str) -> InspectedAllocator {
    let instruction = |svma: u64| disassembled(binary, svma);
    let mut points = Vec::new();
    for (site, probe) in plan.sites.iter().zip(&plan.allocs) {
        points.push(InspectedEntryPoint {
            names: vec![site.function.clone()],
            file_offset: probe.file_offset,
            offset: site.offset,
            instruction: instruction(site.svma),
            cost: cost(site.class).0,
            ns: cost(site.class).1,
            result: "at a return",
            why: format!(
                "the block is known there, before the return at +{:#x}",
                site.return_offset
            ),
        });
    }
    let refills = plan.refills.as_ref();
    for (site, probe) in refills
        .iter()
        .flat_map(|it| it.sites.iter().zip(&it.probes))
    {
        points.push(InspectedEntryPoint {
            names: vec![site.function.to_owned()],
            file_offset: probe.file_offset,
            offset: site.offset,
            instruction: instruction(site.svma),
            cost: cost(site.class).0,
            ns: cost(site.class).1,
            result: "at a refill",
            why: format!(
                "instead of the above with --sample-bytes 128KiB and more; the block and its span are known there, \
                 before the return at +{:#x}",
                site.return_offset
            ),
        });
    }
    for (function, probe) in [sites::SWEEP, sites::BEGIN].into_iter().zip(&plan.sweeps) {
        let svma = binary.elf().file_offset_to_svma(probe.file_offset);
        let svma = svma.unwrap_or_default();
        let entry = binary.table().function_at(svma).map(|it| it.entry_svma);
        points.push(InspectedEntryPoint {
            names: vec![function.to_owned()],
            file_offset: probe.file_offset,
            offset: svma.saturating_sub(entry.unwrap_or(svma)),
            instruction: instruction(svma),
            // A push is emulated.
            cost: cost(CostClass::Emulated).0,
            ns: cost(CostClass::Emulated).1,
            result: "at a collection",
            why: "behind the check of the stack, where the arguments are in their registers"
                .to_owned(),
        });
    }
    let mut names: Vec<String> = plan.sites.iter().map(|it| it.function.clone()).collect();
    names.dedup();
    InspectedAllocator {
        name: "go".to_owned(),
        names,
        version: Some(plan.version.text.clone()),
        path: path.to_owned(),
        entry_points: points,
        ..InspectedAllocator::default()
    }
}

/// The instruction at an address, as a disassembler writes it.
fn disassembled(binary: &GoBinary<'_>, svma: u64) -> String {
    let code = binary.elf().code_up_to(svma, LONGEST_BYTES);
    placement::text(code, svma)
}
