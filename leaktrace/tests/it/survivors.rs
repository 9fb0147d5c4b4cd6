//! Owns which writes to a block are taken for its end, on each glibc that is promised.
//! Must not know windows or verdicts.

use std::{
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

use leaktrace::{
    allocators::ReturnProbes, examine, examine::freeing::freeing_code, watchpoints::Watchpoints,
};
use leaktrace_common::cookie::Family;

use crate::{
    harness::{kernel, programs, workload::Workload},
    libraries::{GLIBC, with_glibc},
};

/// Where a process has the code of a C library that frees.
fn code_in(pid: u32, library: &Path) -> Vec<Range<u64>> {
    let file = File::open(library).unwrap();
    let path = library.to_str().unwrap();
    let examined = examine::examine_file(&file, path, None, ReturnProbes::default()).unwrap();
    let mut allocators = examined.allocators.iter();
    let glibc = allocators.find(|it| it.family == Family::Glibc).unwrap();
    let code = freeing_code(&file, glibc).unwrap();
    let bytes: u64 = code.iter().map(|it| it.end - it.start).sum();
    // No more than all of the allocator, and nothing of the two megabytes beside it.
    assert!(code.len() > 2 && bytes < 24 << 10, "{code:x?}");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mapping = maps
        .lines()
        .find(|line| line.ends_with(path) && line.contains(" r-xp "));
    let mut words = mapping.unwrap().split_whitespace();
    let (start, _) = words.next().unwrap().split_once('-').unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let bias = hex(start).wrapping_sub(hex(words.nth(1).unwrap()));
    let at = |offset: u64| offset.wrapping_add(bias);
    code.iter().map(|it| at(it.start)..at(it.end)).collect()
}

/// A block's free writes to its first word, and from that code; what the program writes there comes from elsewhere, by itself
/// or by another function of the same library.
#[track_caller]
fn assert_told(program: &Path, library: &Path) {
    let mut workload = Workload::run(&mut Command::new(program));
    let code = code_in(workload.pid(), library);
    let mut watchpoints = Watchpoints::new(workload.pid());
    // Small ones are kept by thread, larger ones in lists; the largest grows without being moved where it can.
    for (size, end) in [
        (100, "free"),
        (3000, "free"),
        (100, "realloc"),
        (3000, "realloc"),
    ] {
        workload.talk.say(&size.to_string());
        let block = workload.talk.hear("block ");
        let block: u64 = block["block ".len()..].parse().unwrap();
        watchpoints.set(&[block]).unwrap();
        let mut writes = |step: &str| {
            workload.talk.say(step);
            workload.talk.hear("did");
            let is_free = |at: u64| code.iter().any(|it| it.contains(&at));
            let writes = watchpoints.take();
            writes.iter().map(|it| is_free(it.code_address)).collect()
        };
        let of_program: [Vec<bool>; 2] = ["write", "copy"].map(&mut writes);
        assert_eq!(of_program, [[false], [false]], "{size}");
        let of_end: Vec<bool> = writes(end);
        assert!(of_end.contains(&true), "{size} {end}: {of_end:?}");
    }
    workload.finish();
}

/// It is so on the host's C library, and on the oldest and the newest that are promised.
#[test]
fn a_free_is_told_from_other_writes() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let program = programs::workload("survivor");
    assert_told(&program, &programs::libc().canonicalize().unwrap());
    for (version, below) in GLIBC {
        let Some(library) = programs::kept(&format!("glibc-{version}/{below}"), || ()) else {
            return;
        };
        let program = with_glibc("survivor", version, &library);
        let file: PathBuf = library.join("libc.so.6").canonicalize().unwrap();
        assert_told(&program, &file);
    }
}
