//! Owns the proof that what is read of Go programs from outside is what they themselves tell.
//! Must not know probes: nothing is traced here. It calls the agent's library, not its command.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command, sync::Arc};

use leaktrace::{
    golang::{
        binary::GoBinary,
        buckets::{self, Profile},
        goroutines::{Blocked, Census, Goroutine, State, read_goroutines, read_stack},
        heap::Heap,
        program::{GoProcess, GoProgram},
    },
    host::maps::read_maps,
    modules::Modules,
    symbolize::{Request, Symbolizer},
};

use crate::harness::{
    golang::{self, Link, VERSIONS},
    workload::Workload,
};

/// How each version's program is linked, so that every way is met.
const LINKS: [Link; 7] = [
    Link::Stripped,
    Link::StrippedPie,
    Link::Plain,
    Link::Stripped,
    Link::Plain,
    Link::Stripped,
    Link::StrippedPie,
];

/// Makes a running process readable.
fn open(pid: u32, path: &Path) -> GoProcess {
    let program = Arc::new(GoProgram::read(&fs::read(path).unwrap()).unwrap());
    let maps = read_maps(pid).unwrap();
    let own = maps.iter().filter(|it| Path::new(&it.path) == path);
    let mut opened = own.filter_map(|it| GoProcess::open(pid, Arc::clone(&program), it).ok());
    opened.next().expect("it maps its own code")
}

/// The functions of return addresses, innermost first.
fn functions(process: &GoProcess, stack: &[u64]) -> Vec<String> {
    let table = &process.program.table;
    let frames = stack
        .iter()
        .flat_map(|avma| table.frames(process.svma(*avma) - 1));
    frames.map(|frame| frame.function.to_owned()).collect()
}

/// The profile in the words of `pprof`.
fn heading(profile: &Profile) -> String {
    let sum = |of: fn(&buckets::Tally) -> u64| -> u64 {
        let published = profile.buckets.iter().map(|it| &it.published);
        published.map(of).sum()
    };
    let (live_bytes, alloc_bytes) = (sum(buckets::Tally::live_bytes), sum(|it| it.alloc_bytes));
    // Where both are the same, pprof adds one so that its readers see four columns.
    let alloc_bytes = alloc_bytes + u64::from(alloc_bytes == live_bytes);
    format!(
        "heap profile: {}: {live_bytes} [{}: {alloc_bytes}] @ heap/{}",
        sum(buckets::Tally::live_count),
        sum(|it| it.alloc_count),
        2 * profile.rate_bytes,
    )
}

/// The program's own memory profile, read from outside, is what the program prints of it, to the object
/// and to the byte, in every version, stripped and position independent.
#[test]
fn the_memory_profile_is_what_pprof_prints() {
    if !golang::is_there(|| ()) {
        return;
    }
    for (version, link) in VERSIONS.into_iter().zip(LINKS) {
        let path = golang::program(version, "waiting", link);
        let mut workload = Workload::run(&mut Command::new(&path));
        let process = open(workload.pid(), &path);
        let profile = buckets::read_profile(&process).unwrap();
        workload.talk.say("profile");
        let printed = workload.talk.hear("heap profile:");
        assert_eq!(heading(&profile), printed, "Go {version}, {link:?}");
        let most = profile
            .buckets
            .iter()
            .max_by_key(|it| it.published.live_bytes());
        let stack = functions(&process, &most.unwrap().stack);
        assert!(
            stack.iter().any(|it| it == "main.grow"),
            "Go {version}: {stack:?}"
        );
        workload.finish();
    }
}

/// Each object that the profile has sampled and that lives is found in the heap, with the bucket that counts it, in
/// every version; and an address in the middle of an object is that object's.
#[test]
fn sampled_objects_are_those_of_the_profile() {
    if !golang::is_there(|| ()) {
        return;
    }
    for (version, link) in VERSIONS.into_iter().zip(LINKS) {
        let path = golang::program(version, "waiting", link);
        let workload = Workload::run(&mut Command::new(&path));
        let process = open(workload.pid(), &path);
        let profile = buckets::read_profile(&process).unwrap();
        let heap = Heap::read(&process).unwrap().expect("the heap is found");
        let mut sampled: BTreeMap<u64, u64> = BTreeMap::new();
        for bucket in heap.sampled() {
            *sampled.entry(bucket).or_default() += 1;
        }
        let live = |it: &buckets::Bucket| it.published.live_count() + it.pending.live_count();
        let of_profile = profile.buckets.iter().map(|it| (it.address, live(it)));
        let of_profile: BTreeMap<u64, u64> = of_profile.filter(|it| it.1 != 0).collect();
        assert_eq!(sampled, of_profile, "Go {version}, {link:?}");
        assert!(sampled.values().sum::<u64>() > 20, "Go {version}");
        let in_stack = |it: &&Goroutine| heap.slot_at(it.sp).is_none();
        let snapshot = read_goroutines(&process).unwrap();
        assert!(snapshot.goroutines.iter().all(|it| in_stack(&it)));
        workload.finish();
    }
}

/// Goroutines are counted as the program counts them; those that wait for ever are told with stack, reason
/// and who made them, and apart from a loop that only waits at one place again and again.
#[test]
fn goroutines_are_those_that_the_program_has() {
    if !golang::is_there(|| ()) {
        return;
    }
    for (version, link) in VERSIONS.into_iter().zip(LINKS) {
        let path = golang::program(version, "waiting", link);
        let mut workload = Workload::run(&mut Command::new(&path));
        let process = open(workload.pid(), &path);
        let mut blocked = Blocked::default();
        let first = look(&process, &mut blocked, 0);
        workload.talk.say("goroutines");
        let printed = workload.talk.hear("goroutines ");
        let count: u64 = first.states.values().sum();
        assert_eq!(printed, format!("goroutines {count}"), "Go {version}");
        assert_eq!(first.created.iter().map(|it| it.count).sum::<u64>(), count);

        workload.talk.say("turn");
        workload.talk.hear("turned ");
        let second = look(&process, &mut blocked, 10);
        let told: BTreeMap<String, (u64, u64, Option<&str>)> = second
            .blocked
            .iter()
            .filter(|it| it.state == State::Waiting)
            .map(|it| {
                let stack = functions(&process, &it.stack);
                let own = stack.into_iter().find(|it| it.starts_with("main."));
                let creator = functions(&process, &[it.created_pc]).swap_remove(0);
                assert!(
                    ["main.makeWaiters", "main.main"].contains(&creator.as_str()),
                    "{creator}"
                );
                let told = (it.count, it.long_count, it.wait_reason);
                (own.unwrap_or_default(), told)
            })
            .collect();
        let expected = [
            ("main.lock", (3, 3, Some("sync.Mutex.Lock"))),
            ("main.loop", (1, 0, Some("chan receive"))),
            ("main.receive", (7, 7, Some("chan receive"))),
            ("main.send", (100, 100, Some("chan send"))),
        ];
        let expected = expected.map(|(name, told)| (name.to_owned(), told));
        assert_eq!(told, BTreeMap::from(expected), "Go {version}, {link:?}");
        workload.finish();
    }
}

/// Reads the goroutines of the program itself, without the runtime's own.
fn look(process: &GoProcess, blocked: &mut Blocked, now_ns: u64) -> Census {
    let snapshot = read_goroutines(process).unwrap();
    blocked.take_in(
        &snapshot,
        now_ns,
        10,
        |goroutine| !process.is_of_the_runtime(goroutine),
        |goroutine| read_stack(process, goroutine),
    )
}

/// Function, file and line of addresses all over the code are those of `go tool addr2line`.
#[test]
fn symbols_are_those_of_addr2line() {
    if !golang::is_there(|| ()) {
        return;
    }
    for (version, link) in VERSIONS.into_iter().zip(LINKS) {
        let path = golang::program(version, "waiting", link);
        let bytes = fs::read(&path).unwrap();
        let binary = GoBinary::parse(&bytes).unwrap();
        let (start, end) = (binary.facts().text_start_svma, binary.facts().text_end_svma);
        let (mut ours, mut asked) = (String::new(), String::new());
        for svma in (start..end).step_by(((end - start) / 1500) as usize | 1) {
            writeln!(asked, "{svma:#x}").unwrap();
            let frames = binary.table().frames(svma);
            let (first, last) = (frames.first().unwrap(), frames.last().unwrap());
            writeln!(ours, "{}", last.function).unwrap();
            // Between functions there is no line, which addr2line tells by numbers below 0.
            match (first.file, first.line) {
                (Some(file), Some(line)) => writeln!(ours, "{file}:{line}").unwrap(),
                _ => ours.push_str(":-1\n"),
            }
        }
        let addresses = path.with_extension("addresses");
        fs::write(&addresses, asked).unwrap();
        let output = golang::command(version)
            .args(["tool", "addr2line"])
            .arg(&path)
            .stdin(fs::File::open(&addresses).unwrap())
            .output()
            .unwrap();
        let theirs = String::from_utf8(output.stdout).unwrap();
        let differ = ours
            .lines()
            .zip(theirs.lines())
            .find(|(ours, theirs)| ours != theirs && !(*ours == ":-1" && theirs.starts_with(":-")));
        assert_eq!(differ, None, "Go {version}, {link:?}");
        assert_eq!(ours.lines().count(), theirs.lines().count());
    }
}

/// A stack of a stripped program is named, with file and line, as a report names it.
#[test]
fn stripped_programs_have_names() {
    if !golang::is_there(|| ()) {
        return;
    }
    let symbolizer = Symbolizer::spawn().unwrap();
    let mut modules = Modules::default();
    for (version, link) in [("1.22.10", Link::StrippedPie), ("1.26.6", Link::Stripped)] {
        let path = golang::program(version, "waiting", link);
        let workload = Workload::run(&mut Command::new(&path));
        let process = open(workload.pid(), &path);
        let functions = process.program.table.functions();
        let send = functions
            .into_iter()
            .find(|it| it.name == "main.send")
            .unwrap();
        let maps = read_maps(workload.pid()).unwrap();
        let mapping = maps.iter().find(|it| Path::new(&it.path) == path).unwrap();
        let module = modules.resolve(workload.pid(), mapping);
        let request = Request {
            module: Arc::clone(modules.get(module)),
            file_offset: process.program.file_offset_of(send.entry_svma) + 1,
            is_return_address: true,
        };
        let frames = symbolizer.symbolize_blocking(vec![request]).swap_remove(0);
        let frame = frames.last().unwrap();
        assert_eq!(frame.function.as_deref(), Some("main.send"), "Go {version}");
        let file = frame.file.as_deref().unwrap();
        assert!(file.ends_with("workloads/go/waiting.go"), "{file}");
        assert!(frame.line.is_some_and(|line| line > 1), "{frame:?}");
        workload.finish();
    }
}
