//! Owns the tables of allocation entry points, and the plan of probes for one file.
//! Must not know processes, paths or how a probe is attached.

use crate::binary::elf::{Elf, Function};
use crate::binary::placement::{
    self, CostClass, Extent, FunctionCode, MAX_UNSIZED_BYTES, Need,
};

/// What an entry point does, which fixes where its size, alignment and addresses are passed.
///
/// The numbers go to the probes as cookies and into records: they never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Call {
    /// `void *malloc(size_t size)`.
    Malloc = 1,
    /// `void *calloc(size_t count, size_t size)`.
    Calloc = 2,
    /// `void *realloc(void *old, size_t size)`.
    Realloc = 3,
    /// `void *reallocarray(void *old, size_t count, size_t size)`.
    Reallocarray = 4,
    /// `void free(void *block)`.
    Free = 5,
    /// `int posix_memalign(void **block, size_t alignment, size_t size)`.
    PosixMemalign = 6,
    /// `void *aligned_alloc(size_t alignment, size_t size)`.
    AlignedAlloc = 7,
    /// `void *memalign(size_t alignment, size_t size)`.
    Memalign = 8,
    /// `void *valloc(size_t size)`.
    Valloc = 9,
    /// `void *pvalloc(size_t size)`.
    Pvalloc = 10,
}

impl Call {
    /// What must be intact where the call is probed: everything but `free` reports its result.
    pub fn need(self, arguments: u8) -> Need {
        match self {
            Call::Free => Need::Registers(arguments),
            _ => Need::RegistersAndReturn(arguments),
        }
    }

    /// Whether one probe can stand for both, because arguments and result mean the same.
    fn reads_like(self, other: Call) -> bool {
        let shape = |call| match call {
            Call::Memalign => Call::AlignedAlloc,
            Call::Valloc | Call::Pvalloc => Call::Malloc,
            call => call,
        };
        shape(self) == shape(other)
    }
}

/// A function through which a program allocates or frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// The symbol's name.
    pub name: &'static str,
    /// What it does.
    pub call: Call,
    /// How many integer arguments the probe reads.
    pub arguments: u8,
}

/// An allocator's entry points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The allocator's name.
    pub name: &'static str,
    /// All entry points that any version has.
    pub entry_points: &'static [EntryPoint],
}

const fn entry(name: &'static str, call: Call, arguments: u8) -> EntryPoint {
    EntryPoint { name, call, arguments }
}

/// The GNU C library. `cfree` is an old name of `free` that programs built before 2.26 may call;
/// `reallocarray` came with 2.26, `aligned_alloc` with 2.16.
pub const GLIBC: Family = Family {
    name: "glibc",
    entry_points: &[
        entry("malloc", Call::Malloc, 1),
        entry("calloc", Call::Calloc, 2),
        entry("realloc", Call::Realloc, 2),
        entry("reallocarray", Call::Reallocarray, 3),
        entry("free", Call::Free, 1),
        entry("cfree", Call::Free, 1),
        entry("posix_memalign", Call::PosixMemalign, 3),
        entry("aligned_alloc", Call::AlignedAlloc, 2),
        entry("memalign", Call::Memalign, 2),
        entry("valloc", Call::Valloc, 1),
        entry("pvalloc", Call::Pvalloc, 1),
    ],
};

/// One probe to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenProbe {
    /// What the probed function does.
    pub call: Call,
    /// Every name that leads here: a second probe at the same place would count twice.
    pub names: Vec<&'static str>,
    /// The function's entry.
    pub entry_svma: u64,
    /// Where the function's entry lies in the file.
    pub entry_file_offset: u64,
    /// Where the probe goes, in the file.
    pub file_offset: u64,
    /// What the probed instruction costs.
    pub class: CostClass,
    /// The probed instruction.
    pub instruction: String,
    /// The proof of the place, in one clause.
    pub why: String,
}

impl ChosenProbe {
    /// The name to show: the first of the table.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or("?")
    }

    /// How far behind the entry the probe lies.
    pub fn offset(&self) -> u64 {
        self.file_offset - self.entry_file_offset
    }
}

/// An entry point that the file has and that is not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCovered {
    /// The function's name.
    pub name: &'static str,
    /// Why not, in one clause.
    pub reason: String,
}

/// What to probe in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One probe per address.
    pub probes: Vec<ChosenProbe>,
    /// What allocates or frees unseen.
    pub not_covered: Vec<NotCovered>,
    /// Names of the family that the file does not define: no loss, nothing can call them.
    pub absent: Vec<&'static str>,
}

/// Chooses the probes for a file of the family.
pub fn plan(elf: &Elf<'_>, family: &Family) -> Plan {
    let names: Vec<&'static str> = family.entry_points.iter().map(|point| point.name).collect();
    let functions = elf.functions(&names);
    let mut plan = Plan::default();
    for point in family.entry_points {
        let mut defined = functions.iter().filter(|function| function.name == point.name).peekable();
        if defined.peek().is_none() {
            plan.absent.push(point.name);
        }
        for function in defined {
            if let Err(reason) = add(&mut plan.probes, elf, point, function) {
                plan.not_covered.push(NotCovered { name: point.name, reason });
            }
        }
    }
    plan
}

/// Adds a probe for the function, or its name to the probe that already stands at its address.
fn add(
    probes: &mut Vec<ChosenProbe>,
    elf: &Elf<'_>,
    point: &EntryPoint,
    function: &Function<'_>,
) -> Result<(), String> {
    if function.ifunc {
        return Err(String::from("an IFUNC: its address is the resolver's, not the function's"));
    }
    if let Some(probe) = probes.iter_mut().find(|probe| probe.entry_svma == function.svma) {
        if !probe.call.reads_like(point.call) {
            return Err(format!("shares its code with {}, which takes other arguments", probe.name()));
        }
        probe.names.push(point.name);
        return Ok(());
    }
    let placement = placement::choose(code_of(elf, function), point.call.need(point.arguments));
    if let Some(hazard) = placement.hazard {
        return Err(String::from(hazard));
    }
    probes.push(ChosenProbe {
        call: point.call,
        names: vec![point.name],
        entry_svma: function.svma,
        entry_file_offset: function.file_offset,
        file_offset: function.file_offset + placement.offset,
        class: placement.class,
        instruction: placement.instruction,
        why: placement.why,
    });
    Ok(())
}

fn code_of<'d>(elf: &Elf<'d>, function: &Function<'_>) -> FunctionCode<'d> {
    let svma = function.svma;
    match elf.code(svma, function.size) {
        Some(bytes) => FunctionCode { bytes, svma, extent: Extent::Whole },
        None => {
            let bytes = elf.code_up_to(svma, MAX_UNSIZED_BYTES as u64);
            FunctionCode { bytes, svma, extent: Extent::Unknown }
        }
    }
}

/// Whether a file of this name is glibc's: `libc.so.6`, or `libc-2.31.so` before 2.34.
///
/// musl calls its own `libc.so` and `libc.musl-x86_64.so.1`, which is not this family.
pub fn is_libc_name(file_name: &str) -> bool {
    let version = || file_name.strip_prefix("libc-")?.strip_suffix(".so");
    file_name == "libc.so.6"
        || version().is_some_and(|version| {
            version.starts_with(|first: char| first.is_ascii_digit())
                && version.chars().all(|each| each.is_ascii_digit() || each == '.')
        })
}

#[cfg(test)]
mod tests;
