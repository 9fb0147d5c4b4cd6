//! Owns the benchmark `agent`: what the agent spends on an event, and keeps for a live block.
//! Must not know how decoding or the ledger work.

mod ledgers;
mod recorded;
mod stream;

#[path = "../support/mod.rs"]
mod support;

use std::hint::black_box;

use leaktrace::{decode::decode, ledger::Ledger};
use nix::time::{ClockId, clock_gettime};
use stream::{Maker, Stream};
use support::{Options, Spread, machine};

/// The allocator that the agent uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Goals: five million events a second on one core, and what an outstanding object may take.
const GOAL_EVENT_NS: f64 = 200.0;
const GOAL_OBJECT_BYTES: f64 = 64.0;

/// As many objects are weighed where there is memory for twice their tables, which grow by doubling.
const HUNDRED_MILLION: u64 = 100_000_000;

fn has_room_for(objects: u64) -> bool {
    let left = leaktrace::host::memory::left_bytes(std::process::id());
    left.is_some_and(|left| left > objects * 2 * GOAL_OBJECT_BYTES as u64)
}

fn main() -> anyhow::Result<()> {
    let options = Options::read();
    println!("agent: CPU time for an event, and memory for an outstanding object");
    println!("{}", machine());
    println!("8 processes, 500 sites each, 10 % realloc, 80 % of frees of young blocks\n");
    println!(
        "{:<22}{:>16}{:>8}{:>8}{:>8}{:>14}",
        "live blocks", "ns per event", "median", "min", "max", "M events/s"
    );
    let (rounds, records) = if options.is_quick {
        (3, 50_000)
    } else {
        (25, 400_000)
    };
    let working_sets: &[u64] = if options.is_quick {
        &[100_000]
    } else {
        &[100_000, 1_000_000, 10_000_000]
    };
    for live in working_sets {
        time_events(*live, rounds, records)?;
    }
    if !options.is_quick && has_room_for(HUNDRED_MILLION) {
        time_events(HUNDRED_MILLION, rounds.min(9), records)?;
    }
    time_recorded(rounds.min(9), if options.is_quick { 500 } else { 20_000 })?;
    println!(
        "\n{:<22}{:>16}{:>16}",
        "live blocks", "bytes each", "at worst"
    );
    for live in working_sets {
        weigh_objects(*live)?;
    }
    if !options.is_quick && has_room_for(HUNDRED_MILLION) {
        weigh_objects(HUNDRED_MILLION)?;
    }
    ledgers::compare(if options.is_quick { 50_000 } else { 2_000_000 })?;
    println!(
        "\ngoals: at most {GOAL_EVENT_NS} ns for decoding and matching, and {GOAL_OBJECT_BYTES} bytes"
    );
    println!("{}", machine());
    Ok(())
}

/// A ledger with so many live blocks, and what keeps the stream going.
fn grown(live: u64) -> anyhow::Result<(Ledger, Maker)> {
    let (mut ledger, mut maker) = (Ledger::default(), Maker::new());
    let mut left = live;
    while left > 0 {
        let mut stream = Stream::default();
        let part = left.min(100_000);
        maker.grow(part, &mut stream);
        take_in(&mut ledger, &stream)?;
        left -= part;
    }
    Ok((ledger, maker))
}

fn take_in(ledger: &mut Ledger, stream: &Stream) -> anyhow::Result<()> {
    for record in stream.records() {
        ledger.apply(&decode(record)?);
    }
    Ok(())
}

/// Each round is a piece of the stream of its own, first decoded only, then decoded and matched.
fn time_events(live: u64, rounds: u32, records: u64) -> anyhow::Result<()> {
    let (mut ledger, mut maker) = grown(live)?;
    let (mut decoding, mut matching) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut stream = Stream::default();
        maker.churn(records, &mut stream);
        let begun = cpu_ns()?;
        for record in stream.records() {
            black_box(decode(record)?);
        }
        let decoded = cpu_ns()?;
        take_in(&mut ledger, &stream)?;
        let matched = cpu_ns()?;
        decoding.push((decoded - begun) / stream.count as f64);
        matching.push((matched - decoded) / stream.count as f64);
    }
    // The stream frees only what is live: whatever the ledger missed would show here.
    let (counted, _) = totals(&ledger);
    anyhow::ensure!(counted == live, "{counted} blocks are live, not {live}");
    tell(&live.to_string(), decoding, matching);
    Ok(())
}

fn tell(of_what: &str, decoding: Vec<f64>, matching: Vec<f64>) {
    for (what, figures) in [("decode", decoding), ("decode and match", matching)] {
        let spread = Spread::of(figures);
        println!(
            "{:<22}{:>16}{:>8.1}{:>8.1}{:>8.1}{:>14.1}",
            of_what,
            what,
            spread.median,
            spread.min,
            spread.max,
            1_000.0 / spread.median
        );
    }
}

/// The same of what real probes told, from its beginning each time.
fn time_recorded(rounds: u32, documents: u32) -> anyhow::Result<()> {
    let stream = match recorded::record(documents) {
        Ok(stream) => stream,
        Err(error) => {
            println!("recorded: NOT MEASURED, because {error:#}");
            return Ok(());
        }
    };
    let most = most_live(&stream)?;
    let (mut decoding, mut matching) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut ledger = Ledger::default();
        let begun = cpu_ns()?;
        for record in stream.records() {
            black_box(decode(record)?);
        }
        let decoded = cpu_ns()?;
        take_in(&mut ledger, &stream)?;
        let matched = cpu_ns()?;
        decoding.push((decoded - begun) / stream.count as f64);
        matching.push((matched - decoded) / stream.count as f64);
    }
    tell("recorded", decoding, matching);
    println!(
        "{:<22}{} records of a Python program with up to {most} live blocks",
        "", stream.count
    );
    Ok(())
}

/// The most blocks that are live in between.
fn most_live(stream: &Stream) -> anyhow::Result<u64> {
    let (mut ledger, mut most) = (Ledger::default(), 0);
    for (number, record) in stream.records().enumerate() {
        ledger.apply(&decode(record)?);
        if number % 10_000 == 0 {
            most = most.max(totals(&ledger).0);
        }
    }
    anyhow::ensure!(most > 0, "nothing was recorded");
    Ok(most)
}

/// Live blocks and the bytes of the tables that hold them.
fn totals(ledger: &Ledger) -> (u64, u64) {
    let keys = ledger.keys();
    let processes = keys.iter().filter_map(|key| ledger.get(*key));
    processes.fold((0, 0), |(blocks, bytes), process| {
        let (more, size) = (process.live_count(), process.table_bytes());
        (blocks + more as u64, bytes + size as u64)
    })
}

/// Memory at so many blocks, and the worst on the way from a tenth of them.
fn weigh_objects(live: u64) -> anyhow::Result<()> {
    let (mut ledger, mut maker) = grown(live / 10)?;
    let mut worst = 0.0_f64;
    let steps = 90;
    for _ in 0..steps {
        let mut stream = Stream::default();
        maker.grow(live / 100, &mut stream);
        take_in(&mut ledger, &stream)?;
        let (blocks, bytes) = totals(&ledger);
        worst = worst.max(bytes as f64 / blocks as f64);
    }
    let (blocks, bytes) = totals(&ledger);
    let each = bytes as f64 / blocks as f64;
    println!("{blocks:<22}{each:>16.1}{worst:>16.1}");
    Ok(())
}

fn cpu_ns() -> anyhow::Result<f64> {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(spent.tv_sec() as f64 * 1e9 + spent.tv_nsec() as f64)
}
