//! Owns full rings: nothing is lost without being counted, and a free that found no room makes
//! no false leak.
//! Must not know what fits in a ring by default.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::harness::{
    PATIENCE,
    agent::Agent,
    kernel,
    stream::Process,
    truth::{assert_exact, assert_live},
    workload::{Phase, Workload},
};

/// The table beside a ring of 64 KiB has room for one free per 256 bytes of it.
const RING: &str = "64KiB";
const TABLE_FREES: u64 = 65_536 / 256;

/// What one process alone may fill of the ring: half, and four fifths of the other half without the parts for births
/// and ends and for who is quiet. A free takes 16 bytes and a head of 8.
const SHARE_BYTES: u64 = 32_768 + (32_768 - 65_536 / 32 - 65_536 / 8) * 4 / 5;
const RING_FREES: u64 = SHARE_BYTES / 24;

/// A workload whose every step the agent has seen, unless it is frozen.
struct Traced {
    workload: Workload,
    agent: Agent,
    made: u64,
}

impl Traced {
    fn start() -> Self {
        let workload = Workload::start("steps", &[]);
        let pid = workload.pid_text();
        let args = ["--pid", &pid, "--ring-size", RING, "--interval", "100ms"];
        let agent = Agent::trace(&args);
        Self {
            workload,
            agent,
            made: 0,
        }
    }

    fn step(&mut self, step: &str) {
        self.workload.talk.say(step);
        self.workload.talk.hear(&format!("did {step}"));
    }

    /// Makes blocks, few enough at a time to leave room, and waits until they are reported.
    fn alloc(&mut self, count: u64, size: u64) {
        const AT_ONCE: u64 = 500;
        let goal = self.made + count;
        while self.made < goal {
            let now = AT_ONCE.min(goal - self.made);
            self.step(&format!("alloc {now} {size}"));
            self.made += now;
            let made = self.made;
            let pid = self.workload.pid();
            self.agent
                .await_process(pid, |line| line["allocated_count"] == made);
        }
    }

    /// Lets a frozen agent run on, and gives what it reports of the process in the end.
    fn end(mut self) -> (Process, Phase) {
        self.agent.signal(Signal::SIGCONT);
        let phase = self.workload.talk.phase();
        let process = self.agent.interrupt().process(self.workload.pid());
        self.workload.finish();
        (process, phase)
    }
}

/// Frees that find the ring full are put aside and applied late: nothing is lost, and no block
/// that is gone is reported live.
#[test]
fn deferred_frees_make_no_false_leak() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    // More than the ring holds, by less than the table does.
    let freed = RING_FREES + TABLE_FREES / 2;
    let mut traced = Traced::start();
    traced.alloc(freed + 70, 64);
    traced.agent.freeze();
    traced.step(&format!("free {freed}"));
    let (process, phase) = traced.end();
    assert_exact(&process, &phase.truths);
    assert_eq!(process.figure("freed_count"), freed);
    // Other processes' records may have taken some of the room, and never give more.
    let deferred = process.lost("frees_deferred");
    assert!(
        (TABLE_FREES / 2..=TABLE_FREES).contains(&deferred),
        "{deferred} frees were deferred"
    );
    assert_eq!(process.lost("frees_lost"), 0);
}

/// Where the table of frees is full as well, each block whose free was lost is counted, and the
/// process is called lossy: live blocks and lost frees agree to the block.
#[test]
fn lost_frees_are_counted() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let made = RING_FREES + TABLE_FREES + 1_000;
    let mut traced = Traced::start();
    traced.alloc(made, 64);
    traced.agent.freeze();
    traced.step(&format!("free {made}"));
    let (process, phase) = traced.end();
    assert_eq!(phase.truths[0].live_count, 0);
    assert_eq!(process.accuracy(), "lossy", "{:#}", process.line);
    let lost = process.lost("frees_lost");
    assert!(lost >= 1_000, "{:#}", process.line);
    assert_eq!(process.lost("frees_deferred"), TABLE_FREES);
    assert_eq!(process.live(), (lost, lost * 64));
    assert_eq!(process.figure("freed_count"), made - lost);
}

/// Lost allocations are counted one by one, and the frees beside them still take off what was
/// live before.
#[test]
fn lost_allocations_are_counted() {
    const PAIRS: u64 = 800;
    const FREED: u64 = 60;
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut traced = Traced::start();
    traced.alloc(200, 64);
    traced.agent.freeze();
    // Each pair takes 72 bytes.
    traced.step(&format!("pair {PAIRS} 32"));
    traced.step(&format!("free {FREED}"));
    let (process, phase) = traced.end();
    assert_eq!(process.accuracy(), "lossy", "{:#}", process.line);
    assert_live(&process, &phase.truths);
    let lost = process.lost("allocations_lost");
    assert!(lost >= PAIRS - SHARE_BYTES / 72 - 1, "{:#}", process.line);
    assert_eq!(process.figure("allocated_count") + lost, 200 + PAIRS);
    assert_eq!(process.lost("frees_lost"), 0);
    // A free travels in the ring or waits in the table, and of those in the table the blocks' own
    // find something to free, and perhaps that of the pair at which the ring became full: its
    // allocation may have taken the last room.
    let by_ring = process.figure("freed_count") - FREED + process.figure("freed_untraced_count");
    let frees = by_ring + process.lost("frees_deferred");
    assert!(frees.abs_diff(PAIRS + FREED) <= 1, "{:#}", process.line);
}

/// A resize whose both records are lost gives the old block back and counts the new one as lost.
#[test]
fn lost_resizes_are_counted() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut traced = Traced::start();
    traced.alloc(300, 64);
    traced.agent.freeze();
    traced.step("pair 800 32");
    traced.step("resize 100 4000");
    let (process, phase) = traced.end();
    let expected: u64 = phase.truths.iter().map(|truth| truth.live_count).sum();
    assert_eq!(expected, 300);
    assert_eq!(process.accuracy(), "lossy", "{:#}", process.line);
    assert_eq!(process.live(), (200, 200 * 64), "{:#}", process.line);
    let lost = process.lost("allocations_lost");
    assert_eq!(process.figure("allocated_count") + lost, 300 + 800 + 100);
}

/// The smallest ring under churn at full speed overflows all the time: the process is reported,
/// every counter tells so, and no more blocks are live than frees were lost.
#[test]
fn the_smallest_ring_at_full_speed() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("churn", &["0", "2"]);
    let pid = workload.pid_text();
    let args = ["--pid", &pid, "--ring-size", "4KiB", "--interval", "200ms"];
    let mut agent = Agent::trace(&args);
    let began = Instant::now();
    agent.await_process(workload.pid(), |line| {
        line["accuracy"]["lost"]["allocations_lost"].as_u64() > Some(10_000)
    });
    assert!(began.elapsed() < PATIENCE);
    let process = agent.interrupt().process(workload.pid());
    assert_eq!(process.accuracy(), "lossy", "{:#}", process.line);
    assert!(process.figure("allocated_count") > 0, "{:#}", process.line);
    // One block a thread may be live at any time.
    let live = process.figure("live_count");
    assert!(live <= 2 + process.lost("frees_lost"), "{:#}", process.line);
}

/// What the agent's memory has no room for is counted, the process is called lossy, and there is room again
/// for what is made once something was freed.
#[test]
fn blocks_beyond_the_memory_limit_are_counted() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    const MOST: u64 = (1 << 20) / 64;
    let mut workload = Workload::start("steps", &[]);
    let pid = workload.pid_text();
    let agent = Agent::trace(&["--pid", &pid, "--max-memory", "1MiB"]);
    let mut step = |step: &str| {
        workload.talk.say(step);
        workload.talk.hear(&format!("did {step}"));
    };
    step(&format!("alloc {} 64", MOST + 1_000));
    step("free 500");
    step("alloc 200 64");
    let process = agent.interrupt().process(workload.pid());
    workload.finish();
    assert_eq!(process.accuracy(), "lossy", "{:#}", process.line);
    let refused = process.lost("blocks_refused");
    assert!((1_000..1_100).contains(&refused), "{:#}", process.line);
    let live = process.figure("live_count");
    assert!((MOST - 300 - 100..=MOST - 300).contains(&live), "{live}");
}

/// Says a step and waits until it is done.
fn step(workload: &mut Workload, step: &str) {
    workload.talk.say(step);
    workload.talk.hear(&format!("did {step}"));
}

/// Who sends without end has losses of its own and makes none for others: beside two storms, while the ring is not read at all
/// and while it is read as fast as the machine can, a process that allocates little is exact to the byte.
#[test]
fn storms_take_no_room_from_the_quiet() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut quiet = Workload::start("steps", &[]);
    let mut noisy = Workload::start("steps", &[]);
    let churn = Workload::start("churn", &["0", "1"]);
    let pids = [quiet.pid_text(), noisy.pid_text(), churn.pid_text()];
    let mut args = vec!["--ring-size", "1MiB", "--interval", "100ms"];
    args.extend(pids.iter().flat_map(|pid| ["--pid", pid.as_str()]));
    let mut agent = Agent::trace(&args);
    step(&mut quiet, "alloc 100 64");
    agent.await_process(quiet.pid(), |line| line["allocated_count"] == 100);
    agent.freeze();
    // 72 bytes each: almost three times the ring.
    step(&mut noisy, "pair 40000 32");
    // With the first steps after that it is less than the 8 KiB that it has whatever others do.
    step(&mut quiet, "alloc 20 64");
    step(&mut quiet, "resize 10 4000");
    step(&mut quiet, "free 10");
    agent.signal(Signal::SIGCONT);
    let mut made = 130;
    for _ in 0..20 {
        step(&mut quiet, "alloc 40 48");
        step(&mut quiet, "resize 10 100");
        step(&mut quiet, "free 20");
        made += 50;
        agent.await_process(quiet.pid(), |line| line["allocated_count"] == made);
    }
    let phase = quiet.talk.phase();
    let stream = agent.interrupt();
    assert_exact(&stream.process(quiet.pid()), &phase.truths);
    for storm in [noisy.pid(), churn.pid()] {
        let storm = stream.process(storm);
        assert_eq!(storm.accuracy(), "lossy", "{:#}", storm.line);
        assert!(storm.lost("records_refused") > 0, "{:#}", storm.line);
    }
    quiet.finish();
    noisy.finish();
}
