//! Owns the tests of the entry point tables and of the plan, on this machine's libc.
//! Must not know how a probe is attached.

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
    plan.probes.iter().find(|probe| probe.names.contains(&name)).unwrap()
}

/// Every name is probed or absent, once, on an instruction boundary; `--nocapture` shows where.
#[test]
fn plans_the_libc_of_this_machine() {
    let bytes = libc();
    let elf = Elf::parse(&bytes).unwrap();
    let plan = plan(&elf, &GLIBC);
    assert_eq!(plan.not_covered, []);
    for point in GLIBC.entry_points {
        let probes = plan.probes.iter().filter(|probe| probe.names.contains(&point.name)).count();
        let absent = usize::from(plan.absent.contains(&point.name));
        assert!(probes >= 1 && absent == 0 || probes == 0 && absent == 1, "{}", point.name);
    }
    for required in ["malloc", "calloc", "realloc", "free", "posix_memalign", "memalign"] {
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
            decoder.decode();
        }
        assert_eq!(decoder.position() as u64, probe.offset(), "{}", probe.name());
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
    assert_eq!(find(&plan, "aligned_alloc").names, ["aligned_alloc", "memalign"]);
}

/// Names that a file defines in ways that cannot be probed are reported, not dropped.
#[test]
fn reports_what_is_not_covered() {
    let bytes = libc();
    let elf = Elf::parse(&bytes).unwrap();
    // glibc chooses strlen when it is loaded; free under a foreign call shares free's code.
    let family = Family {
        name: "made up",
        entry_points: &[
            entry("strlen", Call::Malloc, 1),
            entry("free", Call::Free, 1),
            entry("__libc_free", Call::PosixMemalign, 3),
            entry("no_such_function", Call::Malloc, 1),
        ],
    };
    let plan = plan(&elf, &family);
    assert_eq!(plan.absent, ["no_such_function"]);
    assert_eq!(plan.probes.len(), 1);
    let reasons: Vec<_> =
        plan.not_covered.iter().map(|each| (each.name, each.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            ("strlen", "an IFUNC: its address is the resolver's, not the function's"),
            ("__libc_free", "shares its code with free, which takes other arguments"),
        ]
    );
}

/// Both names that glibc has had, and nothing that only looks like them.
#[test]
fn knows_the_names_of_libc() {
    for name in ["libc.so.6", "libc-2.31.so", "libc-2.5.so"] {
        assert!(is_libc_name(name), "{name}");
    }
    let others =
        ["libc.so", "libc.musl-x86_64.so.1", "libc-client.so", "libc-.so", "libc++.so.1", ""];
    for name in others {
        assert!(!is_libc_name(name), "{name}");
    }
}

/// Only `free` does without a return probe.
#[test]
fn all_but_free_need_the_return() {
    for point in GLIBC.entry_points {
        let need = point.call.need(point.arguments);
        let expected = match point.call {
            Call::Free => Need::Registers(point.arguments),
            _ => Need::RegistersAndReturn(point.arguments),
        };
        assert_eq!(need, expected);
    }
}
