//! Owns the check of stacks as the probes walk them in real programs: framehop must find the same frames.
//! Must not know how either walks.
//!
//! `cargo xtask bench oracle` compares far more stacks of each than a test run does.

mod compare;
pub mod subjects;

use std::{env, fs, path::Path, time::Instant};

use leaktrace::golang::binary::GoBinary;
use leaktrace_common::event::{Oracle, StackEnd};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::{
    compare::{Longer, Tally, Unwinding, read_all},
    subjects::Subject,
};
use crate::harness::{PATIENCE, agent::Agent, kernel, programs};

/// Stacks of one program that a test compares.
const STACKS: usize = 300;

/// How many stacks to compare.
fn stacks_wanted() -> usize {
    let wanted = env::var("LEAKTRACE_ORACLE_STACKS").ok();
    wanted.map_or(STACKS, |it| it.parse().expect("a number of stacks"))
}

/// Traces a program until enough of its stacks came with what they were walked from.
fn compare(name: &str, mut subject: Subject, one_in: u32) -> Tally {
    let wanted = stacks_wanted();
    let path = programs::scratch().join(format!("{name}.oracle"));
    let args = ["--unwind-oracle", path.to_str().unwrap()];
    let one_in = one_in.to_string();
    let pid = subject.pid.to_string();
    let more = ["--unwind-oracle-one-in", &one_in, "--pid", &pid];
    let agent = Agent::trace(&[&args[..], &more].concat());
    // Those that came while probes were still being placed lack some kinds, and some of them wait in the ring.
    let bytes = size(&path) + 2 * (wanted * size_of::<Oracle>()) as u64;
    let patience = PATIENCE * u32::try_from(1 + wanted / STACKS).unwrap();
    let deadline = Instant::now() + patience;
    while size(&path) < bytes {
        assert!(
            Instant::now() < deadline,
            "{name}: {} stacks came",
            size(&path) as usize / size_of::<Oracle>()
        );
        subject.load();
    }
    // Before it ends, since its mappings are read.
    let mut unwinding = Unwinding::of(subject.pid);
    // Where one CPU is slow, it would allocate faster than the agent can end.
    let pid = Pid::from_raw(i32::try_from(subject.pid).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    agent.interrupt();
    kill(pid, Signal::SIGCONT).unwrap();
    let mut stacks = read_all(&path);
    stacks.retain(|it| it.tgid == subject.pid);
    stacks.drain(..stacks.len().saturating_sub(wanted));
    fs::remove_file(&path).unwrap();
    let tally = Tally::of(&mut unwinding, &stacks);
    println!("{name}: {tally:#?}");
    let without = |it: &&compare::Walked| it.end == StackEnd::NoTables;
    assert_eq!(
        stacks.iter().filter(without).count(),
        0,
        "{name}: its tables are in place"
    );
    tally
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

/// At least 999 of 1000 are equal, of those that framehop can see to their end.
fn assert_equal(name: &str, tally: &Tally) {
    let seen = tally.equal + tally.different + tally.longer.len() + tally.bad_rule;
    let wrong = seen - tally.equal;
    assert!(tally.equal > 0, "{name}: {tally:#?}");
    assert!(
        wrong * 1000 <= seen,
        "{name}: {wrong} of {seen} differ: {tally:#?}"
    );
    assert!(tally.cut * 10 <= seen, "{name}: {tally:#?}");
}

/// One after the other: each is the same claim about another kind of code.
macro_rules! subjects {
    ($($(#[$doc:meta])* $name:ident, $program:literal, $one_in:literal;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            let Some(_turn) = kernel::turn_with($program, || ()) else {
                return;
            };
            let tally = compare(stringify!($name), subjects::$name(), $one_in);
            assert_equal(stringify!($name), &tally);
        }
    )*};
}

subjects! {
    /// C without frame pointers, as distributions build it.
    redis, "redis-server", 4;
    /// C with calls through pointers, in workers.
    nginx, "nginx", 1;
    /// An interpreter: frames of many kilobytes.
    python, "python3", 4;
    /// A JIT, whose code no table knows, between C++ frames.
    node, "node", 1;
    /// A database with deep stacks.
    postgres, "pg_ctlcluster", 1;
    /// Templates, lambdas, exceptions, callbacks, variable frames, without frame pointers.
    cplusplus, "c++", 8;
    /// A release build, threads, panics; linked by lld, whose code does not begin at a page.
    rust, "cc", 8;
    /// A release build on tokio: tasks that steal and are stolen, timers, channels, blocking tasks.
    tokio, "cc", 4;
}

/// The functions of a stack by Go's own table, outermost last, from the first one of Go's on; inlined ones among them.
fn of_go(go: &GoBinary<'_>, frames: &[u64]) -> Vec<String> {
    // The program is not relocated, so that its addresses are those of the file.
    let functions = |frame: &u64| go.table().frames(frame - 1);
    let names = frames.iter().flat_map(functions);
    names.map(|it| it.function.to_owned()).collect()
}

/// What calls C in `crossing.go`, outermost last.
const OF_CALLS: [&str; 2] = [
    "runtime.cgocall main._cgo_cmalloc main._Cfunc_CString",
    "runtime.cgocall main._Cfunc_twice",
];
const OF_WORKER: [&str; 4] = [
    "main.process",
    "main.worker",
    "main.main.gowrap1",
    "runtime.goexit",
];

/// C called by Go. What Go itself allocates is walked by Go's frame pointers, and equal. From C, framehop ends where C's
/// stack is left for the goroutine's; ours has the same frames up to there and goes on, through exactly the functions
/// that the program's source has between that call and the goroutine's first, by Go's own table.
#[test]
fn cgo() {
    if !crate::harness::golang::is_there(|| ()) {
        return;
    }
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let tally = compare("cgo", subjects::cgo(), 1);
    let others = tally.different + tally.bad_rule + tally.cut;
    assert_eq!(others, 0, "{tally:#?}");
    // The two blocks of each round are C's, two or three more are Go's.
    let wanted = stacks_wanted();
    assert!(tally.longer.len() * 5 > wanted, "{tally:#?}");
    assert!(tally.equal * 5 > wanted, "{tally:#?}");
    let bytes = fs::read(programs::scratch().join("crossing")).unwrap();
    let go = GoBinary::parse(&bytes).unwrap();
    for Longer { ours, theirs } in &tally.longer {
        let common = of_go(&go, &ours[..*theirs]);
        assert_eq!(common, ["runtime.asmcgocall"], "{ours:x?}");
        let beyond = of_go(&go, &ours[*theirs..]);
        let (called, roots) = beyond.split_at(beyond.len().saturating_sub(4));
        assert_eq!(roots, OF_WORKER, "{beyond:#?}");
        assert!(OF_CALLS.contains(&called.join(" ").as_str()), "{beyond:#?}");
    }
}
