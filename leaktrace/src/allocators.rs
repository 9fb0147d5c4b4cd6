//! Owns the tables of allocation entry points, and the plan of probes for one file.
//! Must not know processes, paths or how a probe is attached.

use leaktrace_common::call::Call;

use crate::binary::elf::{Elf, Function};
use crate::binary::placement::{self, CostClass, Extent, FunctionCode, MAX_UNSIZED_BYTES, Need};

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

impl EntryPoint {
    /// What must be intact where it is probed: everything but `free` reports its result.
    pub fn need(&self) -> Need {
        match self.call {
            Call::Free => Need::Registers(self.arguments),
            _ => Need::RegistersAndReturn(self.arguments),
        }
    }
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
    EntryPoint {
        name,
        call,
        arguments,
    }
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
        let mut defined = functions
            .iter()
            .filter(|function| function.name == point.name)
            .peekable();
        if defined.peek().is_none() {
            plan.absent.push(point.name);
        }
        for function in defined {
            if let Err(reason) = add(&mut plan.probes, elf, point, function) {
                plan.not_covered.push(NotCovered {
                    name: point.name,
                    reason,
                });
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
        return Err(String::from(
            "an IFUNC: its address is the resolver's, not the function's",
        ));
    }
    if let Some(probe) = probes
        .iter_mut()
        .find(|probe| probe.entry_svma == function.svma)
    {
        if !read_alike(probe.call, point.call) {
            return Err(format!(
                "shares its code with {}, which takes other arguments",
                probe.name()
            ));
        }
        probe.names.push(point.name);
        return Ok(());
    }
    let placement = placement::choose(code_of(elf, function), point.need());
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

/// Whether one probe can stand for both, because arguments and result mean the same.
fn read_alike(left: Call, right: Call) -> bool {
    let shape = |call| match call {
        Call::Memalign => Call::AlignedAlloc,
        Call::Valloc | Call::Pvalloc => Call::Malloc,
        call => call,
    };
    shape(left) == shape(right)
}

fn code_of<'d>(elf: &Elf<'d>, function: &Function<'_>) -> FunctionCode<'d> {
    let svma = function.svma;
    match elf.code(svma, function.size) {
        Some(bytes) => FunctionCode {
            bytes,
            svma,
            extent: Extent::Whole,
        },
        None => {
            let bytes = elf.code_up_to(svma, MAX_UNSIZED_BYTES as u64);
            FunctionCode {
                bytes,
                svma,
                extent: Extent::Unknown,
            }
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
                && version
                    .chars()
                    .all(|each| each.is_ascii_digit() || each == '.')
        })
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    /// The libc that this test runs on, as the loader mapped it.
    fn libc() -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.lines().find_map(|line| {
            let path = &line[line.find('/')?..];
            is_libc_name(path.rsplit('/').next()?).then_some(path)
        });
        std::fs::read(path.expect("the test is linked dynamically to glibc")).unwrap()
    }

    fn find<'p>(plan: &'p Plan, name: &str) -> &'p ChosenProbe {
        plan.probes
            .iter()
            .find(|probe| probe.names.contains(&name))
            .unwrap()
    }

    /// Every name is probed or absent, once, on an instruction boundary; `--nocapture` shows where.
    #[test]
    fn plans_the_libc_of_this_machine() {
        let bytes = libc();
        let elf = Elf::parse(&bytes).unwrap();
        let plan = plan(&elf, &GLIBC);
        assert_eq!(plan.not_covered, []);
        for point in GLIBC.entry_points {
            let probes = plan
                .probes
                .iter()
                .filter(|probe| probe.names.contains(&point.name))
                .count();
            let absent = usize::from(plan.absent.contains(&point.name));
            assert!(
                probes >= 1 && absent == 0 || probes == 0 && absent == 1,
                "{}",
                point.name
            );
        }
        for required in [
            "malloc",
            "calloc",
            "realloc",
            "free",
            "posix_memalign",
            "memalign",
        ] {
            find(&plan, required);
        }
        let mut offsets: Vec<_> = plan.probes.iter().map(|probe| probe.file_offset).collect();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), plan.probes.len(), "a place is probed twice");
        for probe in &plan.probes {
            println!(
                "{:<24} {:#9x} +{:<3} {:?} | {} | {}",
                probe.names.join("/"),
                probe.entry_file_offset,
                probe.offset(),
                probe.class,
                probe.instruction,
                probe.why
            );
            let code = elf.code_up_to(probe.entry_svma, 256);
            let mut decoder = Decoder::with_ip(64, code, probe.entry_svma, DecoderOptions::NONE);
            while (decoder.position() as u64) < probe.offset() {
                let _ = decoder.decode();
            }
            assert_eq!(
                decoder.position() as u64,
                probe.offset(),
                "{}",
                probe.name()
            );
        }
        println!("absent: {:?}", plan.absent);
    }

    /// The places in the libc that the costs were measured on; other builds only print a note.
    #[test]
    fn chooses_the_measured_places_of_debian_12() {
        let bytes = libc();
        const VERSION: &[u8] = b"GNU C Library (Debian GLIBC 2.36-9+deb12";
        if !bytes.windows(VERSION.len()).any(|window| window == VERSION) {
            println!("not run: this machine's libc is not Debian 12's 2.36");
            return;
        }
        let plan = plan(&Elf::parse(&bytes).unwrap(), &GLIBC);
        for (name, offset, class, instruction) in [
            ("malloc", 0, CostClass::Emulated, "push"),
            ("calloc", 0, CostClass::Emulated, "push"),
            ("realloc", 0, CostClass::Emulated, "push"),
            ("reallocarray", 0, CostClass::Stepped, "mov"),
            ("free", 3, CostClass::Emulated, "je"),
            ("posix_memalign", 7, CostClass::Emulated, "push"),
            ("aligned_alloc", 7, CostClass::Emulated, "je"),
            ("valloc", 7, CostClass::Emulated, "push"),
            ("pvalloc", 7, CostClass::Emulated, "push"),
        ] {
            let probe = find(&plan, name);
            assert_eq!((probe.offset(), probe.class), (offset, class), "{probe:?}");
            assert!(probe.instruction.starts_with(instruction), "{probe:?}");
        }
        assert_eq!(find(&plan, "free").names, ["free", "cfree"]);
        assert_eq!(
            find(&plan, "aligned_alloc").names,
            ["aligned_alloc", "memalign"]
        );
    }

    /// Names that a file defines in ways that cannot be probed are reported, not dropped.
    #[test]
    fn reports_what_is_not_covered() {
        let bytes = libc();
        let elf = Elf::parse(&bytes).unwrap();
        // glibc chooses strlen when it is loaded; free under a foreign call shares free's code.
        const MADE_UP: Family = Family {
            name: "made up",
            entry_points: &[
                entry("strlen", Call::Malloc, 1),
                entry("free", Call::Free, 1),
                entry("__libc_free", Call::PosixMemalign, 3),
                entry("no_such_function", Call::Malloc, 1),
            ],
        };
        let plan = plan(&elf, &MADE_UP);
        assert_eq!(plan.absent, ["no_such_function"]);
        assert_eq!(plan.probes.len(), 1);
        let reasons: Vec<_> = plan
            .not_covered
            .iter()
            .map(|each| (each.name, each.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [
                (
                    "strlen",
                    "an IFUNC: its address is the resolver's, not the function's"
                ),
                (
                    "__libc_free",
                    "shares its code with free, which takes other arguments"
                ),
            ]
        );
    }

    /// Both names that glibc has had, and nothing that only looks like them.
    #[test]
    fn knows_the_names_of_libc() {
        for name in ["libc.so.6", "libc-2.31.so", "libc-2.5.so"] {
            assert!(is_libc_name(name), "{name}");
        }
        let others = [
            "libc.so",
            "libc.musl-x86_64.so.1",
            "libc-client.so",
            "libc-.so",
            "libc++.so.1",
            "",
        ];
        for name in others {
            assert!(!is_libc_name(name), "{name}");
        }
    }

    /// Only `free` does without a return probe.
    #[test]
    fn all_but_free_need_the_return() {
        for point in GLIBC.entry_points {
            let need = point.need();
            let expected = match point.call {
                Call::Free => Need::Registers(point.arguments),
                _ => Need::RegistersAndReturn(point.arguments),
            };
            assert_eq!(need, expected);
        }
    }
}
