//! Owns the tests of the ledger: a story of events in, what is live out.
//! Must not know the kernel.

use leaktrace_common::call::Call;

use super::*;
use crate::decode::{Alloc, Image};

/// Parses one line of a story; times are in microseconds.
fn event(line: &str) -> Event {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| {
        let word: &str = words[index];
        let word = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        word.parse::<u64>()
            .unwrap_or_else(|_| panic!("no number {index} in {line:?}"))
    };
    let tgid = number(1) as u32;
    let alloc = |address: usize, size: usize, stack: usize, time: usize| Alloc {
        tgid,
        call: Call::Malloc,
        family: None,
        address: number(address),
        size: number(size),
        stack: number(stack),
        time_ns: number(time) * 1_000,
    };
    match words[0] {
        "alloc" => Event::Alloc(alloc(2, 3, 4, 5)),
        "free" => Event::Free {
            tgid,
            address: number(2),
        },
        "begin" => Event::ReallocBegin {
            tgid,
            tid: number(2) as u32,
            address: number(3),
        },
        "end" => Event::ReallocEnd {
            tid: number(2) as u32,
            old_address: number(3),
            is_followed: words.last() != Some(&"unfollowed"),
            new: alloc(4, 5, 6, 7),
        },
        "fork" | "vfork" => Event::Fork {
            tgid,
            child_tgid: number(2) as u32,
            uid: 0,
            time_ns: number(3) * 1_000,
            shares_memory: words[0] == "vfork",
        },
        word @ ("exec" | "exit") => {
            let image = Image {
                tgid,
                time_ns: number(2) * 1_000,
                uid: 0,
                comm: [0; 16],
            };
            if word == "exec" {
                Event::Exec(image)
            } else {
                Event::Exit(image)
            }
        }
        word => panic!("no event {word:?}"),
    }
}

/// Tells what is live, by process and site: `pid: s<stack> <count>x<bytes>`.
fn tell(ledger: &Ledger) -> String {
    let mut told = Vec::new();
    for key in ledger.keys() {
        let process = ledger.get(key).unwrap();
        let mut sites: Vec<_> = process
            .sites()
            .iter()
            .filter(|site| site.live_count() > 0)
            .collect();
        sites.sort_by_key(|site| site.stack);
        let sites: Vec<_> = sites
            .iter()
            .map(|site| {
                format!(
                    "s{} {}x{}",
                    site.stack,
                    site.live_count(),
                    site.live_bytes()
                )
            })
            .collect();
        told.push(format!("{}: {}", process.tgid(), sites.join(", ")));
        let live: u64 = process.sites().iter().map(SiteTotals::live_count).sum();
        assert_eq!(live, process.live_count() as u64, "totals and blocks agree");
    }
    told.join("; ")
}

fn check(story: &str, expected: &str) -> Ledger {
    check_in(Ledger::default(), story, expected)
}

fn check_in(mut ledger: Ledger, story: &str, expected: &str) -> Ledger {
    for line in story
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if let Some(lost) = line.strip_prefix("lost ") {
            let words: Vec<u64> = lost
                .split_whitespace()
                .map(|w| w.trim_start_matches('p').parse().unwrap())
                .collect();
            ledger.apply_lost_free(words[0] as u32, words[1], words[2] * 1_000);
        } else {
            ledger.apply(&event(line));
        }
    }
    assert_eq!(tell(&ledger), expected, "{story}");
    ledger
}

/// A block is live until it is freed, in any order of addresses.
#[test]
fn a_free_ends_a_block() {
    check(
        "alloc p1 100 64 s1 1; alloc p1 200 32 s2 2; free p1 100",
        "1: s2 1x32",
    );
}

/// The same address in two processes is two blocks.
#[test]
fn processes_do_not_share_addresses() {
    check(
        "alloc p1 100 64 s1 1; alloc p2 100 8 s1 1; free p2 100",
        "1: s1 1x64; 2: ",
    );
}

/// What finds no room is counted and not followed, of whatever process, and what was at its address is gone; there is
/// room again when something is freed, ends or executes another program.
#[test]
fn blocks_beyond_the_limit_are_counted() {
    let full = "alloc p1 100 8 s1 1; alloc p2 100 8 s1 2; alloc p2 200 8 s1 3; ";
    let refused = |story: &str, expected: &str, of: u32| {
        let ledger = check_in(
            Ledger::within(3 * BLOCK_BYTES),
            &format!("{full}{story}"),
            expected,
        );
        let process = ledger.get(ledger.key(of).unwrap()).unwrap();
        process.anomalies().blocks_refused
    };
    let over = "alloc p1 300 8 s2 4; ";
    let all = "1: s1 1x8; 2: s1 2x16";
    assert_eq!(refused(over, all, 1), 1);
    assert_eq!(refused(&format!("{over}free p1 300"), all, 1), 1);
    let instead = "1: ; 2: s1 2x16";
    assert_eq!(refused("alloc p1 100 8 s2 4", instead, 1), 1);
    let room_again = "1: s1 1x8, s2 1x8; 2: s1 1x8";
    assert_eq!(refused(&format!("free p2 200; {over}"), room_again, 1), 0);
    let executed = "1: s1 1x8, s2 1x8; 2: ";
    assert_eq!(refused(&format!("exec p2 3; {over}"), executed, 1), 0);
    let forked = "1: s1 1x8; 2: s1 2x16; 3: ";
    assert_eq!(refused("fork p2 p3 4", forked, 3), 2);
    let resized = "begin p2 t1 200; end p2 t1 200 400 16 s3 5";
    assert_eq!(refused(resized, "1: s1 1x8; 2: s1 1x8, s3 1x16", 2), 0);
}

/// A free of what was never seen is counted and harms nothing.
#[test]
fn frees_of_older_blocks_are_counted() {
    let ledger = check("free p1 100; alloc p1 100 8 s1 2", "1: s1 1x8");
    let process = ledger.get(ledger.key(1).unwrap()).unwrap();
    assert_eq!(process.anomalies().frees_untraced, 1);
}

/// A block handed out where one was live proves that the free was missed.
#[test]
fn reuse_of_a_live_address_implies_its_free() {
    let ledger = check("alloc p1 100 64 s1 1; alloc p1 100 8 s2 2", "1: s2 1x8");
    let process = ledger.get(ledger.key(1).unwrap()).unwrap();
    assert_eq!(process.anomalies().frees_implied, 1);
}

/// A resize moves, stays, shrinks, frees or leaves all as it was.
#[test]
fn resizes_of_every_kind() {
    check(
        "alloc p1 100 64 s1 1; begin p1 t9 100; end p1 t9 100 200 128 s2 3",
        "1: s2 1x128",
    );
    check(
        "alloc p1 100 64 s1 1; begin p1 t9 100; end p1 t9 100 100 16 s2 3",
        "1: s2 1x16",
    );
    check(
        "alloc p1 100 64 s1 1; begin p1 t9 100; end p1 t9 100 0 0 s2 3",
        "1: ",
    );
    check(
        "alloc p1 100 64 s1 1; begin p1 t9 100; end p1 t9 100 0 999 s2 3",
        "1: s1 1x64",
    );
    check("alloc p1 100 64 s1 1; begin p1 t9 100", "1: s1 1x64");
    check(
        "alloc p1 100 64 s1 1; begin p1 t9 100; end p1 t9 100 200 1 s2 3 unfollowed",
        "1: ",
    );
}

/// While one thread resizes, another may be given the old address; both blocks stay apart.
#[test]
fn a_resize_gives_up_its_address_at_once() {
    check(
        "alloc p1 100 64 s1 1; begin p1 t9 100; alloc p1 100 8 s3 2; end p1 t9 100 200 128 s2 3",
        "1: s2 1x128, s3 1x8",
    );
}

/// A resize of a block older than the trace makes a block; its failure makes none.
#[test]
fn resizes_of_older_blocks() {
    check("begin p1 t9 100; end p1 t9 100 200 128 s2 3", "1: s2 1x128");
    check("begin p1 t9 100; end p1 t9 100 0 128 s2 3", "1: ");
}

/// A child inherits, then lives on its own; `vfork` inherits nothing; exec drops all.
#[test]
fn forks_inherit_and_execs_forget() {
    let story = "alloc p1 100 64 s1 1; alloc p1 200 8 s1 2; fork p1 2 5";
    check(
        &format!("{story}; free p2 100; free p1 200"),
        "1: s1 1x64; 2: s1 1x8",
    );
    check(&format!("{story}; exec p2 6"), "1: s1 2x72; 2: ");
    check(
        "alloc p1 100 64 s1 1; vfork p1 2 5; exec p2 6",
        "1: s1 1x64; 2: ",
    );
}

/// A process found running whose making is told late is one process.
#[test]
fn a_late_birth_is_no_second_process() {
    let mut ledger = Ledger::default();
    ledger.watch(2, 5_000);
    ledger.apply(&event("fork p1 2 4"));
    ledger.apply(&event("alloc p2 100 64 s1 6"));
    assert_eq!(tell(&ledger), "2: s1 1x64");
    ledger.apply(&event("fork p1 2 7"));
    assert_eq!(tell(&ledger), "2: s1 1x64");
    assert_eq!(
        ledger.key(2),
        None,
        "whoever is made by a process that is not traced is not"
    );
}

/// A pid that is used again is another process; the former keeps what it had at its end.
#[test]
fn reused_pids_are_told_apart() {
    check(
        "alloc p1 7 1 s1 1; fork p1 2 2; alloc p2 100 64 s2 3; exit p2 4; fork p1 2 5; free p2 7",
        "1: s1 1x1; 2: s1 1x1, s2 1x64; 2: ",
    );
}

/// A free that comes late frees the block of its time and not the one that followed.
#[test]
fn late_frees_know_their_time() {
    check("alloc p1 100 64 s1 10; lost p1 100 20", "1: ");
    check(
        "alloc p1 100 64 s1 10; alloc p1 100 8 s2 30; lost p1 100 20",
        "1: s2 1x8",
    );
}

/// What was freed before a fork is not there in the child either; what was freed after it is.
#[test]
fn late_frees_reach_children_forked_after_them() {
    check(
        "alloc p1 100 64 s1 10; fork p1 2 30; lost p1 100 20",
        "1: ; 2: ",
    );
    check(
        "alloc p1 100 64 s1 10; fork p1 2 30; lost p1 100 40",
        "1: ; 2: s1 1x64",
    );
}

/// Ages are counted to now, or to the process's end, in half-open classes.
#[test]
fn ages_end_with_the_process() {
    let ledger = check(
        "alloc p1 100 64 s1 0; alloc p1 200 6 s1 9500000; exit p1 10000000",
        "1: s1 2x70",
    );
    let process = ledger.get(ledger.key(1).unwrap()).unwrap();
    let ages = process.ages(99_000_000_000, 10_000_000);
    assert_eq!(
        (ages[0].long_lived_count, ages[0].long_lived_bytes),
        (1, 64)
    );
    assert_eq!(ages[0].oldest_us, 10_000_000);
    assert_eq!(ages[0].classes[0], (1, 6));
    assert_eq!(ages[0].classes[2], (1, 64));
}

/// An outstanding object takes at most 64 bytes of the table, also when it has just grown.
#[test]
fn a_block_takes_at_most_64_bytes() {
    let mut ledger = Ledger::default();
    for index in 0..1_000_000u64 {
        let alloc = Alloc {
            tgid: 1,
            call: Call::Malloc,
            family: None,
            address: 0x5555_0000_0000 + index * 48,
            size: 40,
            stack: index % 100,
            time_ns: index,
        };
        ledger.apply(&Event::Alloc(alloc));
        if index > 1_000 {
            let process = ledger.get(ledger.key(1).unwrap()).unwrap();
            assert!(
                process.table_bytes() <= process.live_count() * 64,
                "at {index}"
            );
        }
    }
}
