//! Owns the tests of `process`.
//! Must not know anything that `process` does not show.

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use super::*;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> Running {
    Running(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

/// The parent goes on a moment before the new program has its arguments.
fn settled_facts(pid: u32) -> ProcessFacts {
    loop {
        let facts = ProcessFacts::read(pid).unwrap();
        if !facts.command_line.is_empty() {
            return facts;
        }
        std::thread::yield_now();
    }
}

/// A command name with blanks, parentheses and a line end shifts no field.
#[test]
fn stat_survives_hostile_names() {
    let tail = " S 77 1 1 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 3 0 12345 1000 10";
    for comm in ["a", "a b", ") Z 1 1", "((", "\n) R", "\u{fffd})"] {
        let stat = Stat::parse(&format!("42 ({comm}){tail}")).unwrap();
        let expected = Stat {
            state: 'S',
            parent: 77,
            flags: 4_194_560,
            threads: 3,
            start_ticks: 12345,
        };
        assert_eq!(stat, expected, "{comm}");
    }
    for text in ["", "1", "1 (a", "1 (a)", "1 (a) S", "1 (a) S x 1 1", ")))"] {
        assert_eq!(Stat::parse(text), None, "{text}");
    }
}

/// Only a process without a thread left is dead.
#[test]
fn zombie_leaders_are_alive() {
    let dead = |state, threads| {
        Stat {
            state,
            parent: 1,
            flags: 0,
            threads,
            start_ticks: 1,
        }
        .is_dead()
    };
    assert!(dead('Z', 1));
    assert!(!dead('Z', 2));
    assert!(!dead('R', 1));
}

/// What we know of ourselves comes out.
#[test]
fn own_facts() {
    let pid = std::process::id();
    let facts = ProcessFacts::read(pid).unwrap();
    assert_eq!(
        facts.executable.as_deref(),
        std::env::current_exe().ok().as_deref()
    );
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!(facts.command_line, arguments.join(" "));
    assert!(!facts.kernel_thread);
    assert!(facts.start_boot_ns <= crate::host::clock::Clock::now_boot_ns());
    assert!(is_alive(pid, facts.start_ticks));
    assert!(!is_alive(pid, facts.start_ticks + 1));
    assert!(rss_bytes(pid).unwrap() > 100_000);
    assert!(list_pids().unwrap().contains(&pid));
}

/// A program that is gone from disk keeps its path, and a wild command line
/// comes out bounded and as text.
#[test]
fn hostile_command_lines() {
    let directory = std::env::temp_dir().join(format!("leaktrace-process-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("a-name-longer-than-15");
    fs::copy("/bin/cat", &path).unwrap();
    let argument = OsString::from_vec(vec![0xff; 10_000]);
    // cat takes everything after "-" as one more file, which it opens only then.
    let child = run(Command::new(&path)
        .arg0("\u{1b}[31m")
        .arg("-")
        .arg(argument));
    fs::remove_dir_all(&directory).unwrap();
    let facts = settled_facts(child.0.id());
    assert_eq!(facts.executable.as_deref(), Some(path.as_path()));
    assert_eq!(facts.comm, "a-name-longer-t");
    assert!(facts.command_line.starts_with("\u{1b}[31m - \u{fffd}"));
    assert!(facts.command_line.ends_with('…'));
    assert!(facts.command_line.chars().count() <= COMMAND_LINE_LIMIT + 1);
    for (pattern, expected) in [
        ("a-name-longer-t", true),
        ("a-name-longer-than-15", true),
        ("a-*-15", true),
        ("[a-c]-name*", true),
        ("a-name", false),
        ("?-name-longer-than-??", true),
        ("", false),
    ] {
        let glob = CommGlob::new(pattern).unwrap();
        assert_eq!(facts.comm_matches(&glob), expected, "{pattern}");
    }
    assert!(CommGlob::new("[a").is_err());
}

/// A zombie is not alive, and a pid that is gone is `NotFound`.
#[test]
fn the_dead_are_dead() {
    let mut child = run(&mut Command::new("cat"));
    let pid = child.0.id();
    let ticks = start_ticks(pid).unwrap();
    assert!(is_alive(pid, ticks));
    child.0.kill().unwrap();
    while !fs::read_to_string(format!("/proc/{pid}/stat"))
        .unwrap()
        .contains(") Z ")
    {
        std::thread::yield_now();
    }
    assert!(!is_alive(pid, ticks));
    child.0.wait().unwrap();
    assert_eq!(
        ProcessFacts::read(pid).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(rss_bytes(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
}

/// A thread's id is told from a process's.
#[test]
fn threads_are_no_processes() {
    let tid = std::thread::spawn(|| {
        let tid = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
        ProcessFacts::read(tid).unwrap_err()
    });
    assert_eq!(tid.join().unwrap().kind(), io::ErrorKind::InvalidInput);
}

/// Every process of this machine can be read, in whatever state it is.
#[test]
fn all_of_them() {
    let mut read = 0;
    for pid in list_pids().unwrap() {
        if let Ok(facts) = ProcessFacts::read(pid) {
            assert_eq!(facts.kernel_thread, is_kernel_thread(pid));
            read += 1;
        }
    }
    assert!(read > 1);
}

/// Each seccomp mode is told, and odd text is no mode.
#[test]
fn status_fields() {
    let status = Status::parse("Name:\ta\nTgid:\t7\nUid:\t33\t0\t0\t0\nSeccomp:\t2\n");
    assert_eq!(
        status,
        Status {
            tgid: Some(7),
            uid: Some(33),
            seccomp: Seccomp::Filter
        }
    );
    assert_eq!(Status::parse("Seccomp: 1\n").seccomp, Seccomp::Strict);
    assert_eq!(
        Status::parse("Uid:\nTgid: x\nno colon\n"),
        Status::default()
    );
}

/// What was swapped out is told where the kernel tells it.
#[test]
fn swapped_memory_is_read() {
    let status = "Name:\tswapped\nVmSwap:\t      12 kB\nThreads:\t1\n";
    assert_eq!(swapped_in(status), Some(12 * 1024));
    assert_eq!(swapped_in("Name:\tVmSwap: 1 kB\n"), None);
}
