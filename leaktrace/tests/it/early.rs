//! Owns the stacks of programs that live for a moment, of which nothing was known before.
//! Must not know the agent's inside.

use std::{fs, process::Command};

use crate::harness::{
    agent::Agent,
    kernel,
    programs::{self, Build},
};

/// Programs without frame pointers, each a file that nobody has seen before, which make their blocks at once and end: their
/// stacks are whole, or say that they are cut. None leaves out a caller.
#[test]
fn a_new_program_is_walked_from_its_first_block() {
    const PROGRAMS: usize = 20;
    const BLOCKS: u64 = 25;
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let build = Build::of("cc", "brief.c", "brief-bare");
    let program = build.with(&["-fomit-frame-pointer"]).program();
    // Others may allocate without pause, such as a compiler beside the tests.
    let agent = Agent::trace(&["--ring-size", "256MiB"]);
    let mut pids = Vec::new();
    for number in 0..PROGRAMS {
        let path = programs::scratch().join(format!("brief-{number}"));
        let _ = fs::remove_file(&path);
        fs::copy(&program, &path).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        pids.push(child.id());
        assert!(child.wait().unwrap().success());
    }
    let stream = agent.interrupt();
    let mut whole = 0;
    for pid in pids {
        let process = stream.process(pid);
        let mut count = 0;
        for site in &process.sites {
            let frames = site["stack"].as_array().unwrap();
            let names: Vec<_> = frames.iter().map(|it| it["function"].as_str()).collect();
            if names.first() != Some(&Some("site_brief")) {
                continue;
            }
            let live = site["live_count"].as_u64().unwrap();
            count += live;
            if site.get("stack_truncated").is_none() {
                let callers = [Some("site_brief"), Some("between"), Some("main")];
                assert_eq!(names[..3], callers, "{site:#}");
                assert_eq!(*names.last().unwrap(), Some("_start"), "{site:#}");
                whole += live;
            }
        }
        assert_eq!(count, BLOCKS, "{:#?}", process.sites);
    }
    let all = PROGRAMS as u64 * BLOCKS;
    assert!(whole * 10 >= all * 9, "{whole} of {all} are whole");
}
