//! Owns looking at one process: the files that it maps, and what would be probed of them.
//! Must not know how it is shown.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use rustc_hash::FxHashMap;

use super::go;
use crate::{
    allocators::{Allocator, ChosenProbe, Outcome, ReturnProbes},
    binary::placement::CostClass,
    examine::{self, Examined},
    host::{
        clock::Clock,
        containers::{Containers, NAMES_PATIENCE, NameSources},
        maps::{Mapping, read_maps},
        process::ProcessFacts,
    },
    modules::{Module, ModuleId, Modules},
    places,
    report::model::{
        Coverage, Executable, Inspected, InspectedAllocator, InspectedEntryPoint,
        InspectedUnwinding, NotCovered, ProcessIdentity,
    },
    unwind::FrameSections,
};

/// What a probe on an emulated instruction costs with our program, on bare metal and in a virtual machine. Orders of
/// magnitude, from measurements of both; a trace measures its own host.
const EMULATED_NS: (u32, u32) = (500, 1_100);
/// On a 5-byte nop, from 6.18 on.
const NOP5_NS: (u32, u32) = (350, 700);
/// On an instruction that is single-stepped.
const STEPPED_NS: (u32, u32) = (1_100, 8_000);
/// What a return probe adds.
const RETURN_NS: (u32, u32) = (350, 800);

/// Looks at processes, and at each file once.
pub struct Inspector {
    clock: Clock,
    modules: Modules,
    examined: FxHashMap<ModuleId, Result<Arc<Examined>, String>>,
    containers: Containers,
    return_probes: ReturnProbes,
}

impl Inspector {
    /// One that has seen nothing yet.
    pub fn new(clock: Clock, names: NameSources) -> Self {
        let mut containers = Containers::default();
        containers.name_by(names);
        Self {
            containers,
            clock,
            modules: Modules::default(),
            examined: FxHashMap::default(),
            return_probes: ReturnProbes::on_this_kernel(),
        }
    }

    /// Looks at a process.
    ///
    /// # Errors
    ///
    /// When it is gone or may not be looked at.
    pub fn inspect(&mut self, pid: u32) -> io::Result<Inspected> {
        let facts = ProcessFacts::read(pid)?;
        let mappings = read_maps(pid)?;
        let mut inspected = self.of_facts(&facts);
        let program = facts.executable.as_ref().map(|path| path.to_string_lossy());
        let mut files: Vec<(Mapping, Arc<Module>)> = Vec::new();
        for mapping in mappings.into_iter().filter(Mapping::is_file) {
            let module = self.modules.resolve(pid, &mapping);
            if !files.iter().any(|(_, known)| known.id == module) {
                let module = self.modules.get(module).clone();
                files.push((mapping, module));
            }
        }
        // The program first: it is what a reader knows.
        files.sort_by_key(|(mapping, _)| program.as_deref() != Some(mapping.path.as_str()));
        if let Some((mapping, module)) = files.first() {
            inspected.executable.build_id.clone_from(&module.build_id);
            self.look_for_go(pid, mapping, module, &mut inspected);
        }
        for (mapping, module) in &files {
            inspected.unwinding.extend(unwinding(mapping, module));
            if let Ok(examined) = self.examine(module, pid) {
                for (number, allocator) in examined.allocators.iter().enumerate() {
                    let version = examined.versions.get(number).cloned().flatten();
                    let allocator = described(allocator, version, mapping, module);
                    inspected.allocators.push(allocator);
                }
                let why = examined.why_hidden(&mapping.path);
                let hidden = examined.hidden.iter();
                let hidden = hidden.map(|it| unseen(it.name(), mapping, module, &why));
                inspected.allocators.extend(hidden);
            }
        }
        inspected.allocators.sort_by_key(|it| !makes_blocks(it));
        self.judge(pid, &files, &mut inspected);
        Ok(inspected)
    }

    fn of_facts(&mut self, facts: &ProcessFacts) -> Inspected {
        let executable = facts.executable.as_ref();
        if let Some(container) = &facts.container {
            self.containers.ask(container, facts.pid);
            self.containers.settle(NAMES_PATIENCE);
        }
        let (container, k8s) = places::place(&self.containers, facts.container.as_ref());
        Inspected {
            identity: ProcessIdentity {
                pid: facts.pid,
                start_time_unix_ns: self.clock.boot_to_unix_ns(facts.start_boot_ns),
            },
            executable: Executable {
                name: facts.executable_name(),
                path: executable.map_or_else(String::new, |it| it.to_string_lossy().into_owned()),
                build_id: None,
            },
            command_line: facts.command_line.clone(),
            owner: facts.owner.clone(),
            container,
            k8s,
            ..Inspected::default()
        }
    }

    fn look_for_go(&self, pid: u32, mapping: &Mapping, module: &Module, inspected: &mut Inspected) {
        let found = module.file.as_ref();
        let Some(found) = found.and_then(|file| go::look(pid, file, mapping)) else {
            return;
        };
        inspected.go = Some(found.go);
        match found.heap {
            Ok(heap) => inspected.allocators.push(heap),
            Err(why) => {
                inspected.coverage_reason = Some(format!("its Go heap is not traced: {why}"));
            }
        }
    }

    fn examine(&mut self, module: &Module, pid: u32) -> Result<Arc<Examined>, String> {
        let return_probes = self.return_probes;
        let known = self.examined.entry(module.id);
        let look = || {
            let examined = examine::examine(module, pid, return_probes);
            examined.map(Arc::new).map_err(|error| format!("{error:#}"))
        };
        known.or_insert_with(look).clone()
    }

    /// Says how much would be seen.
    fn judge(&mut self, pid: u32, files: &[(Mapping, Arc<Module>)], inspected: &mut Inspected) {
        let is_seen = inspected.allocators.iter().any(makes_blocks);
        let misses = |it: &InspectedAllocator| !it.not_covered.is_empty();
        let is_partial =
            inspected.coverage_reason.is_some() || inspected.allocators.iter().any(misses);
        inspected.coverage = match (is_seen, is_partial) {
            (false, _) => Coverage::None,
            (true, true) => Coverage::Partial,
            (true, false) => Coverage::Full,
        };
        if !is_seen && inspected.coverage_reason.is_none() {
            let why = match files.first() {
                None => "it maps no file".to_owned(),
                Some((mapping, module)) => match self.examine(module, pid) {
                    Ok(examined) => examined.why_nothing_is_seen(&mapping.path),
                    Err(why) => why,
                },
            };
            inspected.coverage_reason = Some(why);
        }
    }
}

fn makes_blocks(allocator: &InspectedAllocator) -> bool {
    allocator.name == "go"
        || allocator
            .entry_points
            .iter()
            .any(|point| point.result != "none")
}

/// An allocator of which nothing can be probed.
fn unseen(name: &str, mapping: &Mapping, module: &Module, why: &str) -> InspectedAllocator {
    InspectedAllocator {
        name: name.to_owned(),
        path: mapping.path.clone(),
        build_id: module.build_id.clone(),
        not_covered: vec![NotCovered {
            name: "all of its functions".to_owned(),
            reason: why.to_owned(),
        }],
        ..InspectedAllocator::default()
    }
}

fn described(
    allocator: &Allocator,
    version: Option<String>,
    mapping: &Mapping,
    module: &Module,
) -> InspectedAllocator {
    let forwarded = |probe: &ChosenProbe| {
        let names = probe.names.iter().cloned();
        let to_it = |it: &&crate::allocators::Forwarded| probe.names.contains(&it.to);
        let more = allocator.forwarded.iter().filter(to_it);
        names.chain(more.map(|it| it.name.clone())).collect()
    };
    let points = allocator.probes.iter().map(|probe| {
        let (cost, ns) = cost(probe.class);
        let (result, more) = match probe.outcome {
            Outcome::Return => ("return probe", RETURN_NS),
            // A ret is single-stepped.
            Outcome::Instructions(_) => ("instructions", STEPPED_NS),
            Outcome::None => ("none", (0, 0)),
        };
        InspectedEntryPoint {
            names: forwarded(probe),
            file_offset: probe.file_offset,
            offset: probe.offset(),
            instruction: probe.instruction.clone(),
            cost,
            result,
            ns: (ns.0 + more.0, ns.1 + more.1),
            why: probe.why.clone(),
        }
    });
    let missing = allocator.not_covered.iter().map(|it| NotCovered {
        name: it.name.clone(),
        reason: it.reason.clone(),
    });
    InspectedAllocator {
        name: allocator.name().to_owned(),
        version,
        path: mapping.path.clone(),
        build_id: module.build_id.clone(),
        names: allocator.entry_points().map(str::to_owned).collect(),
        entry_points: points.collect(),
        not_covered: missing.collect(),
    }
}

/// The word for what the kernel does with an instruction, and what a probe on it costs.
pub(super) fn cost(class: CostClass) -> (&'static str, (u32, u32)) {
    match class {
        CostClass::Emulated => ("emulated", EMULATED_NS),
        CostClass::Nop5 if *NOPS_ARE_CHEAP => ("nop", NOP5_NS),
        CostClass::Nop5 | CostClass::Stepped => ("stepped", STEPPED_NS),
    }
}

/// Whether this kernel makes a system call of a probed nop.
static NOPS_ARE_CHEAP: LazyLock<bool> = LazyLock::new(|| {
    let names = nix::sys::utsname::uname();
    names.is_ok_and(|it| are_nops_cheap(&it.release().to_string_lossy()))
});

/// The same of the kernel of a release (`uname -r`): since 6.18; before, it steps over the nop as over anything else.
/// <https://github.com/torvalds/linux/blob/v6.18/arch/x86/kernel/uprobes.c>, `arch_uprobe_optimize`
fn are_nops_cheap(release: &str) -> bool {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let version: (u32, u32) = (next(), next());
    version >= (6, 18)
}

/// By what the stacks through a file are walked.
fn unwinding(mapping: &Mapping, module: &Module) -> Option<InspectedUnwinding> {
    let sections = FrameSections::read(module.file.as_ref()?).ok()?;
    let by = match (
        sections.eh_frame.bytes.is_empty(),
        sections.debug_frame.bytes.is_empty(),
    ) {
        (false, _) => "eh_frame",
        (true, false) => "debug_frame",
        (true, true) => "frame pointers",
    };
    Some(InspectedUnwinding {
        path: mapping.path.clone(),
        by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a probed nop costs depends on the kernel.
    #[test]
    fn nops_are_cheap_on_newer_kernels() {
        for release in ["6.18.44", "6.19-rc1", "7.2.13+deb14"] {
            assert!(are_nops_cheap(release), "{release}");
        }
        for release in ["6.17.9-arch1", "6.1.0-56-cloud-amd64", "5.10.0", ""] {
            assert!(!are_nops_cheap(release), "{release}");
        }
    }
}
