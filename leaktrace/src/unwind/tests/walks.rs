//! Real stacks: a process of ours is stopped at random and walked, by us and by framehop.
//!
//! Stopping anywhere is harder than stopping at the start of malloc: most instructions of prologues
//! and epilogues have rows of their own.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use framehop::{
    ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _,
    x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64},
};
use leaktrace_common::unwind::{Registers, Rule, outcome};
use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use super::{Numbers, sections};
use crate::{
    host::maps::{Mapping, read_maps},
    unwind::{FrameSections, Table, walk::walk},
};

/// Set in the process that is walked.
const WORKLOAD: &str = "LEAKTRACE_UNWIND_WORKLOAD";

/// As many stacks as are compared.
const SAMPLES: usize = 1000;

/// Sorts by a closure that allocates, in threads, until it is killed.
#[test]
fn workload() {
    if std::env::var_os(WORKLOAD).is_none() {
        return;
    }
    let mut numbers = Numbers(3);
    loop {
        let mut words: Vec<String> = (0..200).map(|_| format!("{:?}", numbers.next())).collect();
        words.sort_by(|a, b| {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().rev().collect(), b.chars().collect());
            a.iter().rev().cmp(b.iter())
        });
        let counts: HashMap<String, usize> =
            words.iter().map(|it| (it.clone(), it.len())).collect();
        let _ = std::hint::black_box(std::panic::catch_unwind(|| {
            if counts.len().is_multiple_of(2) {
                std::panic::resume_unwind(Box::new(1));
            }
        }));
    }
}

/// Ends with the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The workload, once it runs: the thread that does and its mappings.
fn start() -> (Victim, Pid, Vec<Mapping>) {
    let child = Command::new("/proc/self/exe")
        .args(["--exact", "unwind::tests::walks::workload"])
        .env(WORKLOAD, "1")
        .stdout(Stdio::null())
        .spawn()
        .expect("the tests can run themselves");
    let victim = Victim(child);
    let pid = victim.0.id();
    // The harness waits in the first thread and runs the test in another.
    for _ in 0..1000 {
        std::thread::sleep(Duration::from_millis(10));
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let tasks = tasks.filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u32>().ok());
        if let Some(task) = tasks.max().filter(|it| *it != pid) {
            std::thread::sleep(Duration::from_millis(200));
            return (
                victim,
                Pid::from_raw(task as i32),
                read_maps(pid).expect("it runs"),
            );
        }
    }
    panic!("the workload does not begin");
}

/// A mapping for framehop, which wants the file's addresses.
fn module(mapping: &Mapping, found: &FrameSections) -> Module<Vec<u8>> {
    let in_file = |it: &&crate::unwind::sections::Code| {
        u64::from(it.file_offset) / 4096 == mapping.file_offset / 4096
    };
    let code = found
        .code
        .iter()
        .find(in_file)
        .expect("mapped code is a segment");
    let svma = mapping.file_offset.wrapping_add(code.svma) - u64::from(code.file_offset);
    let end = found.eh_frame.svma + found.eh_frame.bytes.len() as u64;
    Module::new(
        mapping.path.clone(),
        mapping.start..mapping.end,
        mapping.start.wrapping_sub(svma),
        ExplicitModuleSectionInfo {
            eh_frame_svma: Some(found.eh_frame.svma..end),
            eh_frame: Some(found.eh_frame.bytes.clone()),
            ..ExplicitModuleSectionInfo::default()
        },
    )
}

/// The frames that framehop finds.
fn expected(
    unwinder: &UnwinderX86_64<Vec<u8>>,
    cache: &mut CacheX86_64,
    registers: Registers,
    read: impl Fn(u64) -> Option<u64>,
) -> Vec<u64> {
    let mut read = |address| read(address).ok_or(());
    let Registers { rip, rsp, rbp } = registers;
    let start = UnwindRegsX86_64::new(rip, rsp, rbp);
    let mut frames = unwinder.iter_frames(rip, start, cache, &mut read);
    let mut found = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        found.push(match frame {
            FrameAddress::InstructionPointer(pc) => pc,
            FrameAddress::ReturnAddress(pc) => pc.get(),
        });
    }
    found
}

/// Nearly all stacks of a running program are complete and equal to framehop's.
#[test]
fn real_stacks_equal_framehop() {
    let (victim, task, mappings) = start();
    let memory = File::open(format!("/proc/{}/mem", victim.0.id())).expect("it is ours");
    let read = |address: u64| {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, address).ok()?;
        Some(u64::from_ne_bytes(word))
    };
    let mut tables = Vec::new();
    let mut unwinder = UnwinderX86_64::new();
    let mut cache = CacheX86_64::new();
    for mapping in mappings.iter().filter(|it| it.is_file()) {
        let found = sections(&mapping.path);
        unwinder.add_module(module(mapping, &found));
        tables.push((mapping, Table::build(&found).0));
    }
    let lookup = |pc| {
        let holds = |it: &&(&Mapping, Table)| (it.0.start..it.0.end).contains(&pc);
        tables
            .iter()
            .find(holds)
            .map_or(Rule::NONE, |(mapping, table)| {
                table.rule(mapping.file_offset_of(pc) as u32)
            })
    };
    let mut numbers = Numbers(9);
    let (mut equal, mut complete) = (0, 0);
    for _ in 0..SAMPLES {
        std::thread::sleep(Duration::from_micros(50 + numbers.next() % 500));
        ptrace::seize(task, ptrace::Options::empty()).expect("it is ours");
        ptrace::interrupt(task).expect("it is seized");
        waitpid(task, Some(WaitPidFlag::__WALL)).expect("it stops");
        let state = ptrace::getregs(task).expect("it is stopped");
        let registers = Registers {
            rip: state.rip,
            rsp: state.rsp,
            rbp: state.rbp,
        };
        let walked = walk(registers, 128, lookup, read);
        let expected = expected(&unwinder, &mut cache, registers, read);
        ptrace::detach(task, None).expect("it is stopped");
        equal += usize::from(walked.frames == expected);
        complete += usize::from(walked.outcome == outcome::ROOT && walked.frames.len() > 5);
    }
    // Now and then the code that catches a panic is met while it rewrites the stack.
    assert!(
        equal >= SAMPLES * 995 / 1000,
        "{equal} of {SAMPLES} are equal"
    );
    assert!(
        complete >= SAMPLES * 995 / 1000,
        "{complete} of {SAMPLES} are complete"
    );
}
