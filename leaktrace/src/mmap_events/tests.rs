//! Owns the tests of the mapping events, against the kernel where there is root.
//! Must not know any other module's inside.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::*;

/// Opens the events, or says why the test is skipped.
fn open() -> Option<MmapEvents> {
    match MmapEvents::open(64) {
        Ok(events) => Some(events),
        Err(error) if std::env::var_os("LEAKTRACE_REQUIRE_KERNEL").is_some() => panic!("{error:#}"),
        Err(error) => {
            eprintln!("skipped: {error:#}");
            None
        }
    }
}

fn mappings(events: &[MapEvent]) -> Vec<&Mapping> {
    let mapping = |event| match event {
        &MapEvent {
            change: MapChange::Mapped(ref mapping),
            ..
        } => Some(mapping),
        _ => None,
    };
    events.iter().filter_map(mapping).collect()
}

/// The kernel's list form is understood, nonsense gives nothing.
#[test]
fn cpu_lists_are_parsed() {
    assert_eq!(parse_cpu_list("0-2,5\n"), BTreeSet::from([0, 1, 2, 5]));
    assert_eq!(parse_cpu_list("x,3-1,"), BTreeSet::new());
}

/// All mappings of a process that lives a millisecond are seen, in order, with
/// the build id of libc.
#[test]
fn a_short_lived_process_is_seen() {
    let Some(mut events) = open() else { return };
    let mut child = Command::new("/bin/ls")
        .stdout(Stdio::null())
        .spawn()
        .expect("ls starts");
    child.wait().expect("ls ends");
    let mut seen = Vec::new();
    events.drain(|event| seen.push(event));
    seen.retain(|event| event.tgid == child.id());
    let executed = seen
        .iter()
        .filter(|event| event.change == MapChange::Executed)
        .count();
    assert_eq!(executed, 1, "{seen:#?}");
    let mappings = mappings(&seen);
    for name in ["/ls", "ld-linux-x86-64.so.2", "libc.so.6", "[vdso]"] {
        let mapping = mappings.iter().find(|mapping| mapping.path.ends_with(name));
        let mapping = mapping.unwrap_or_else(|| panic!("no mapping of {name} in {seen:#?}"));
        assert!(!events.has_build_ids() || mapping.build_id.is_some() || name == "[vdso]");
    }
    assert!(seen.is_sorted_by_key(|event| event.time_ns));
    assert!(seen.iter().all(|event| event.time_ns > 0));
    assert_eq!(events.lost(), 0);
}

/// Without build ids there are device and inode instead.
#[test]
fn without_build_ids_there_is_the_inode() {
    if open().is_none() {
        return;
    }
    let cpus = parse_cpu_list(&fs::read_to_string("/sys/devices/system/cpu/online").unwrap());
    let mut events =
        MmapEvents::open_on(&cpus, 8, options(false, 1)).expect("the older form opens too");
    let mut child = Command::new("/bin/true").spawn().expect("true starts");
    child.wait().expect("true ends");
    let mut seen = Vec::new();
    events.drain(|event| seen.push(event));
    seen.retain(|event| event.tgid == child.id());
    let inodes: Vec<_> = mappings(&seen)
        .iter()
        .filter(|it| it.is_file())
        .map(|it| it.inode)
        .collect();
    assert!(inodes.len() >= 3 && !inodes.contains(&0), "{inodes:?}");
}

/// Rings that are full count what they lost, and work on afterwards.
#[test]
fn a_full_ring_counts() {
    let Some(_) = open() else { return };
    let mut events = MmapEvents::open(1).expect("a small ring opens");
    let burst = || {
        for _ in 0..60 {
            Command::new("/bin/true").status().expect("true runs");
        }
    };
    burst();
    events.drain(|_| {});
    // The kernel tells the loss with the first record that has room again.
    burst();
    events.drain(|_| {});
    assert!(events.lost() > 0);
}

/// A new mapping wakes who waits, again and again.
#[test]
fn a_mapping_wakes_the_reader() {
    let Some(mut events) = open() else { return };
    let readiness = events.readiness().expect("an epoll can be shared");
    for round in 0..20 {
        let spawner = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            let started = Instant::now();
            (
                Command::new("/bin/true").spawn().expect("true starts"),
                started,
            )
        });
        let mut found = false;
        let deadline = Instant::now() + Duration::from_secs(60);
        while !found && Instant::now() < deadline {
            let mut ready = [EpollEvent::empty()];
            // Signals of this process, such as the end of another test's child, end the wait too.
            match readiness.wait(&mut ready, 60_000_u16) {
                Ok(1) => {}
                Err(Errno::EINTR) => continue,
                other => panic!("{other:?} in round {round}"),
            }
            events.drain(|event| {
                found |= mappings(&[event])
                    .iter()
                    .any(|it| it.path.ends_with("/true"));
            });
        }
        let (mut child, started) = spawner.join().expect("the spawner ends");
        child.wait().expect("true ends");
        assert!(found, "round {round}");
        eprintln!("noticed after {:?}", started.elapsed());
    }
}
