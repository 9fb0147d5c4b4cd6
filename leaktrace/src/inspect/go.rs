//! Owns what is told of a Go program: its version, and how its own memory profile is set.
//! Must not know native allocators.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

use crate::{
    golang::{
        binary::{GoBinary, GoError},
        buckets, plan,
        program::{GoProcess, GoProgram},
    },
    host::maps::Mapping,
    report::model::{InspectedAllocator, InspectedEntryPoint, InspectedGo},
};

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
        .map(|plan| heap(&plan, &mapping.path))
        .map_err(|error| error.to_string());
    let version = binary.version().text.clone();
    let rate = GoProgram::read(&bytes).ok().and_then(|program| {
        let process = GoProcess::open(pid, Arc::new(program), mapping).ok()?;
        buckets::read_rate(&process).ok()
    });
    Some(Found {
        go: InspectedGo {
            version,
            memory_profile_rate_bytes: rate,
        },
        heap,
    })
}

/// The heap, with the functions in which its probes would stand.
fn heap(plan: &plan::GoPlan, path: &str) -> InspectedAllocator {
    let points = plan.sites.iter().zip(&plan.allocs);
    let points = points.map(|(site, probe)| InspectedEntryPoint {
        names: vec![site.function.clone()],
        file_offset: probe.file_offset,
        offset: site.offset,
        cost: super::process::cost(site.class).0,
        result: "at a return",
        ns: super::process::cost(site.class).1,
        why: format!(
            "the block is known there, before the return at +{:#x}",
            site.return_offset
        ),
        ..InspectedEntryPoint::default()
    });
    let mut names: Vec<String> = plan.sites.iter().map(|it| it.function.clone()).collect();
    names.dedup();
    InspectedAllocator {
        name: "go".to_owned(),
        names,
        version: Some(plan.version.text.clone()),
        path: path.to_owned(),
        entry_points: points.collect(),
        ..InspectedAllocator::default()
    }
}
