//! Owns the tests of what is found in files and where it is probed, on the machine's own.
//! Must not know processes.

use iced_x86::{Decoder, DecoderOptions};
use leaktrace_common::cookie::NO_ARGUMENT;

use super::{detect::Found, families::MALLOC, plan::plan, *};
use crate::binary::elf::Elf;

/// The libc that this test runs on, as the loader mapped it.
fn libc() -> Vec<u8> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.ends_with("/libc.so.6").then_some(path)
    });
    std::fs::read(path.expect("the test is linked dynamically to glibc")).unwrap()
}

/// The one allocator of a file that has one.
fn only(mut allocators: Vec<Allocator>) -> Allocator {
    assert_eq!(allocators.len(), 1, "{allocators:#?}");
    allocators.remove(0)
}

fn find<'p>(allocator: &'p Allocator, name: &str) -> &'p ChosenProbe {
    let mut probes = allocator.probes.iter();
    let is_it = |probe: &&ChosenProbe| probe.names.iter().any(|it| it == name);
    probes.find(is_it).unwrap()
}

/// Every function is on an instruction boundary and no place is probed twice; `--nocapture` shows
/// where.
#[track_caller]
fn assert_sound(elf: &Elf<'_>, allocators: &[Allocator]) {
    let probes = || allocators.iter().flat_map(|it| &it.probes);
    let mut offsets: Vec<_> = probes().map(|probe| probe.file_offset).collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), probes().count(), "a place is probed twice");
    for probe in probes() {
        println!(
            "{:<24} {:#9x} +{:<3} {:?} {:?} | {} | {}",
            probe.names.join("/"),
            probe.entry_file_offset,
            probe.offset(),
            probe.class,
            probe.outcome,
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
}

/// What the C library of this machine defines is glibc, whole.
#[test]
fn plans_the_libc_of_this_machine() {
    let bytes = libc();
    let elf = Elf::parse(&bytes).unwrap();
    let allocators = examine(&elf, &[], ReturnProbes::Used);
    assert_sound(&elf, &allocators);
    let glibc = only(allocators);
    assert_eq!(glibc.family, Family::Glibc);
    assert_eq!(glibc.not_covered, []);
    let names: Vec<_> = glibc.entry_points().collect();
    for required in [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "memalign",
    ] {
        assert!(names.contains(&required), "{required} in {names:?}");
    }
    let version = version(&elf, Family::Glibc).unwrap();
    assert!(version.starts_with("2."), "{version}");
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
    let glibc = only(examine(
        &Elf::parse(&bytes).unwrap(),
        &[],
        ReturnProbes::Used,
    ));
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
        let probe = find(&glibc, name);
        assert_eq!((probe.offset(), probe.class), (offset, class), "{probe:?}");
        assert!(probe.instruction.starts_with(instruction), "{probe:?}");
        let is_free = probe.call == Call::Free;
        assert_eq!(probe.outcome == Outcome::None, is_free, "{probe:?}");
    }
    assert_eq!(find(&glibc, "free").names, ["free", "cfree"]);
    assert_eq!(
        find(&glibc, "aligned_alloc").names,
        ["aligned_alloc", "memalign"]
    );
}

/// Names that a file defines in ways that cannot be probed are reported, not dropped.
#[test]
fn reports_what_is_not_covered() {
    let bytes = libc();
    let elf = Elf::parse(&bytes).unwrap();
    // glibc chooses strlen when it is loaded; free under a foreign call shares free's code.
    let found = |name: &str, point: &str| {
        let function = elf.functions(&[name])[0];
        Found {
            point: *MALLOC.iter().find(|it| it.name == point).unwrap(),
            name: name.to_owned(),
            prefix: String::new(),
            family: Family::Other,
            svma: function.svma,
            size: function.size,
            ifunc: function.ifunc,
        }
    };
    let made_up = [
        found("strlen", "malloc"),
        found("free", "free"),
        found("__libc_free", "posix_memalign"),
    ];
    let allocator = only(plan(&elf, &made_up, ReturnProbes::Used));
    assert_eq!(allocator.probes.len(), 1);
    let reasons: Vec<_> = allocator
        .not_covered
        .iter()
        .map(|each| (each.name.as_str(), each.reason.as_str()))
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

/// libstdc++ has malloc make its blocks, and its deletes only jump to free: there is nothing to
/// wait for and no delete to probe.
#[test]
fn libstdcpp_is_only_an_outer_caller() {
    let path = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6";
    let Ok(bytes) = std::fs::read(path) else {
        println!("not run: there is no {path}");
        return;
    };
    let elf = Elf::parse(&bytes).unwrap();
    let allocators = examine(&elf, &[], ReturnProbes::Used);
    assert_sound(&elf, &allocators);
    let cpp = only(allocators);
    assert_eq!((cpp.family, cpp.makes_blocks()), (Family::Cpp, false));
    assert_eq!(cpp.not_covered, []);
    assert_eq!(find(&cpp, "_Znwm").layout.shape, Shape::Outer);
    assert_eq!(
        find(&cpp, "_ZnwmSt11align_val_t").layout.shape,
        Shape::Outer
    );
    assert!(cpp.probes.iter().all(|it| it.outcome == Outcome::None));
    let forwarded: Vec<_> = cpp.forwarded.iter().map(|it| it.name.as_str()).collect();
    for name in ["_ZdlPv", "_ZdlPvm", "_ZdaPv", "_Znam"] {
        assert!(forwarded.contains(&name), "{name} in {forwarded:?}");
    }
}

/// No function that an exception may leave has a return probe.
#[test]
fn what_throws_has_no_return_probe() {
    let directory = "/usr/lib/x86_64-linux-gnu/";
    let files = [
        ("libjemalloc.so.2", Family::Jemalloc),
        ("libtcmalloc_minimal.so.4", Family::Tcmalloc),
        ("libmimalloc.so.2.0", Family::Mimalloc),
    ];
    for (file, family) in files {
        let Ok(bytes) = std::fs::read(format!("{directory}{file}")) else {
            println!("not run: there is no {file}");
            continue;
        };
        let elf = Elf::parse(&bytes).unwrap();
        let allocators = examine(&elf, &[], ReturnProbes::Used);
        println!("{file} {:?}", version(&elf, family));
        assert_sound(&elf, &allocators);
        let own = allocators.iter().find(|it| it.family == family).unwrap();
        assert!(own.makes_blocks());
        assert_eq!(own.not_covered, [], "{file}");
        let new = find(own, "_Znwm");
        assert!(
            matches!(&new.outcome, Outcome::Instructions(at) if !at.is_empty()),
            "{file}: {new:?}"
        );
        assert!(version(&elf, family).is_some(), "{file}");
    }
}

/// Where return probes do harm there is none, and what cannot do without is not covered.
#[test]
fn return_probes_are_avoided() {
    let bytes = libc();
    let elf = Elf::parse(&bytes).unwrap();
    let allocators = examine(&elf, &[], ReturnProbes::Avoided);
    assert_sound(&elf, &allocators);
    let glibc = only(allocators);
    assert!(glibc.probes.iter().all(|it| it.outcome != Outcome::Return));
    for name in ["malloc", "realloc", "posix_memalign"] {
        let outcome = &find(&glibc, name).outcome;
        assert!(matches!(outcome, Outcome::Instructions(at) if !at.is_empty()));
    }
    for missing in &glibc.not_covered {
        let reason = &missing.reason;
        assert!(reason.starts_with("a return probe may end"), "{reason}");
    }
}

/// What a probe is told fits its function.
#[test]
fn cookies_tell_the_layout() {
    let bytes = libc();
    let glibc = only(examine(
        &Elf::parse(&bytes).unwrap(),
        &[],
        ReturnProbes::Used,
    ));
    let cookie = find(&glibc, "reallocarray").cookie();
    assert_eq!((cookie.pointer(), cookie.count(), cookie.size()), (0, 1, 2));
    let cookie = find(&glibc, "malloc").cookie();
    assert_eq!((cookie.size(), cookie.count()), (0, NO_ARGUMENT));
    assert_eq!(cookie.family(), Family::Glibc as u8);
}
