//! Owns what more ledgers and more threads would bring: the same events, parted by process, each part in order.
//! Must not know how decoding or the ledger work.
//!
//! The agent has one ring, one reader and one ledger, which is the first case. The others are what it would gain if its one
//! reader handed on what it takes in: nothing hands anything on here, so that they are the most that could be gained.

use std::{thread, time::Instant};

use leaktrace::ledger::Ledger;

use super::{
    cpu_ns,
    stream::{Maker, Stream},
    take_in,
};

/// Live blocks of each ledger.
const LIVE: u64 = 500_000;

/// Ledgers, and threads that take them in.
const CASES: [(usize, usize); 5] = [(1, 1), (4, 1), (4, 2), (4, 4), (16, 2)];

/// A ledger with its own processes, and the piece of the stream that is to be taken in.
type Part = (Ledger, Stream);

/// Tells events a second by number of ledgers and consumers, all together taking in `records`.
pub fn compare(records: u64) -> anyhow::Result<()> {
    println!(
        "\n{:<10}{:>12}{:>22}{:>22}",
        "ledgers", "consumers", "M events/s (time)", "M events/s of CPU"
    );
    for (ledgers, consumers) in CASES {
        let parts = (0..ledgers).map(|_| part(records / ledgers as u64));
        let mut of_thread: Vec<Vec<Part>> = (0..consumers).map(|_| Vec::new()).collect();
        for (number, part) in parts.enumerate() {
            of_thread[number % consumers].push(part?);
        }
        let began = Instant::now();
        let spent: Vec<anyhow::Result<(u64, f64)>> = thread::scope(|scope| {
            let threads = of_thread
                .into_iter()
                .map(|parts| scope.spawn(|| drain(parts)));
            let threads: Vec<_> = threads.collect();
            let ends = threads.into_iter().map(|it| it.join().expect("no panic"));
            ends.collect()
        });
        let seconds = began.elapsed().as_secs_f64();
        let spent: anyhow::Result<Vec<(u64, f64)>> = spent.into_iter().collect();
        let (events, cpu_ns) =
            (spent?.into_iter()).fold((0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        println!(
            "{ledgers:<10}{consumers:>12}{:>22.1}{:>22.1}",
            events as f64 / seconds / 1e6,
            events as f64 * 1e3 / cpu_ns
        );
    }
    Ok(())
}

fn part(records: u64) -> anyhow::Result<Part> {
    let (mut ledger, mut maker) = (Ledger::default(), Maker::new());
    let mut stream = Stream::default();
    maker.grow(LIVE, &mut stream);
    take_in(&mut ledger, &stream)?;
    let mut stream = Stream::default();
    maker.churn(records, &mut stream);
    Ok((ledger, stream))
}

/// Events and CPU time of one consumer. What is freed at the end is no part of it.
fn drain(mut parts: Vec<Part>) -> anyhow::Result<(u64, f64)> {
    let before = cpu_ns()?;
    let mut events = 0;
    for (ledger, stream) in &mut parts {
        take_in(ledger, stream)?;
        events += stream.count;
    }
    Ok((events, cpu_ns()? - before))
}
