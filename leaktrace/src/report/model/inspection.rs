//! Owns what `inspect` tells of a process: what would be probed, and what would not.
//! Must not know how it was found out.

use super::{Container, Coverage, Executable, K8s, NotCovered, ProcessIdentity};

/// A process that was looked at without touching it.
#[derive(Clone, Debug, Default)]
pub struct Inspected {
    /// Which process.
    pub identity: ProcessIdentity,
    /// What it executes.
    pub executable: Executable,
    /// Its arguments.
    pub command_line: String,
    /// The user that it runs as.
    pub owner: String,
    /// The container that it runs in.
    pub container: Option<Container>,
    /// The Kubernetes pod that it runs in.
    pub k8s: Option<K8s>,
    /// What is told of a Go program.
    pub go: Option<InspectedGo>,
    /// Its allocators, those that make blocks themselves first.
    pub allocators: Vec<InspectedAllocator>,
    /// How much of what it allocates would be seen.
    pub coverage: Coverage,
    /// Why not all, in one clause.
    pub coverage_reason: Option<String>,
    /// By what its stacks are walked, file by file, its program first.
    pub unwinding: Vec<InspectedUnwinding>,
}

/// What is told of a Go program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedGo {
    /// The version that made it.
    pub version: String,
    /// `runtime.MemProfileRate` of the process; 0 where its memory profile is off, `None` where it cannot be read.
    pub memory_profile_rate_bytes: Option<u64>,
    /// What tells the version: `build info`, `text` or `functions`.
    pub version_source: &'static str,
    /// From where it is known how its runtime's structures are laid out, or why it is not, in one clause.
    pub layout: String,
    /// How it was linked.
    pub link: InspectedLink,
}

/// How a Go program was linked, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedLink {
    /// Without a symbol table (`-s`).
    pub is_stripped: bool,
    /// With debug information.
    pub has_debug_info: bool,
    /// Position independent.
    pub is_pie: bool,
    /// With C: then it has a second heap.
    pub has_cgo: bool,
    /// With the race detector.
    pub has_race_detector: bool,
    /// With the collector that keeps marks inside of spans.
    pub has_green_tea: bool,
    /// `-ldflags`, as the program states them.
    pub linker_flags: Option<String>,
    /// `GOEXPERIMENT`, as it states it.
    pub experiments: Option<String>,
}

impl InspectedLink {
    /// What is so of it, in words.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        let words = [
            (self.is_stripped, "stripped"),
            (self.has_debug_info, "debug info"),
            (self.is_pie, "position independent"),
            (self.has_cgo, "cgo"),
            (self.has_race_detector, "race detector"),
            (self.has_green_tea, "Green Tea"),
        ];
        let so = words.into_iter().filter(|(is_so, _)| *is_so);
        so.map(|(_, word)| word).collect()
    }
}

/// An allocator in a file that a process maps.
#[derive(Clone, Debug, Default)]
pub struct InspectedAllocator {
    /// Whose it is.
    pub name: String,
    /// The version, where the file tells it.
    pub version: Option<String>,
    /// The file, as the process calls it.
    pub path: String,
    /// Its build id.
    pub build_id: Option<String>,
    /// The names of all that would be seen.
    pub names: Vec<String>,
    /// What would be probed for that.
    pub entry_points: Vec<InspectedEntryPoint>,
    /// What would not.
    pub not_covered: Vec<NotCovered>,
}

/// A function that would be probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedEntryPoint {
    /// Its names.
    pub names: Vec<String>,
    /// Where the probe would stand, in the file.
    pub file_offset: u64,
    /// How far behind the function's entry that is.
    pub offset: u64,
    /// The instruction that it would stand on.
    pub instruction: String,
    /// `emulated`, `nop` or `stepped`: what the kernel does with that instruction.
    pub cost: &'static str,
    /// `return probe`, `instructions`, `at a return`, `at a refill`, `at a collection` or `none`: how the result is had.
    pub result: &'static str,
    /// What a call costs, in nanoseconds: on bare metal, and in a virtual machine. Orders of magnitude.
    pub ns: (u32, u32),
    /// The proof of the place, in one clause.
    pub why: String,
}

/// By what the stacks through a file are walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedUnwinding {
    /// The file.
    pub path: String,
    /// `eh_frame`, `debug_frame` or `frame pointers`.
    pub by: &'static str,
}

impl Inspected {
    /// What an allocation and its free cost at the most, in nanoseconds: on bare metal, and in a virtual machine.
    /// Nothing where nothing is probed.
    #[must_use]
    pub fn ns_of_pair(&self) -> Option<(u32, u32)> {
        let points = || self.allocators.iter().flat_map(|it| &it.entry_points);
        let of = |name: &str| {
            let has_name = |it: &&InspectedEntryPoint| it.names.iter().any(|it| it.ends_with(name));
            points().find(has_name).map(|it| it.ns)
        };
        let (make, free) = (of("malloc")?, of("free")?);
        Some((make.0 + free.0, make.1 + free.1))
    }
}
