//! Owns the benchmark `watch`: what it costs to watch a host, and to find a leak in a program that makes a million
//! allocations a second.
//! Must not know the agent's inside.
//!
//! Beside the program that leaks runs the same one that does not, at the same pace and at the same time, and so never
//! has a probe: the difference of their CPU time is what watching added.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "one figure has no spread")]
mod support;

mod agent;
mod program;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use agent::Agent;
use program::{Pace, Program};
use support::{Options, machine};

/// Within this time a leak is to be found.
const TWO_MINUTES: Duration = Duration::from_secs(120);

fn main() -> anyhow::Result<()> {
    let options = Options::read();
    println!("watch: {}", machine());
    let directory = std::env::temp_dir().join(format!("leaktrace-watch-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let ran = Program::compile(&directory).and_then(|program| {
        crowd(options)?;
        headline(&program)?;
        storm(&program)
    });
    fs::remove_dir_all(&directory)?;
    ran
}

/// What it costs to look at the memory of a thousand processes.
fn crowd(options: Options) -> anyhow::Result<()> {
    let (count, seconds) = if options.is_quick {
        (100, 10)
    } else {
        (1_000, 60)
    };
    let sleepers = Sleepers::start(count)?;
    let agent = Agent::watch(&[])?;
    // The first looks open files.
    thread::sleep(Duration::from_secs(6));
    let (began, before_s) = (Instant::now(), agent.cpu_s()?);
    thread::sleep(Duration::from_secs(seconds));
    let part = (agent.cpu_s()? - before_s) / began.elapsed().as_secs_f64();
    println!(
        "survey: {count} processes beside the host's own, a look each 5 s: {:.3} % of a CPU",
        part * 100.0
    );
    drop(sleepers);
    Ok(())
}

/// A leak of 100 KiB a second among a million allocations a second.
fn headline(program: &Path) -> anyhow::Result<()> {
    let leaking = Program::start(program, "1000000 102400")?;
    let control = Program::start(program, "1000000 0")?;
    let both = || Ok::<_, anyhow::Error>((leaking.pace()?, control.pace()?));
    thread::sleep(Duration::from_secs(2));
    let first = both()?;
    thread::sleep(Duration::from_secs(20));
    let alone = both()?;
    let began = Instant::now();
    let agent = Agent::watch(&["--interval", "1s", "--processes", "0"])?;
    let cpu_before_s = agent.cpu_s()?;
    let pid = leaking.pid();
    let (suspected, _) = agent.find(&format!("pid {pid} (storm) keeps growing"), TWO_MINUTES)?;
    let (found, line) = agent.find(&format!("pid {pid} (storm) leaks"), TWO_MINUTES)?;
    let watched = both()?;
    let (_, site) = agent.find(r#""type":"site""#, Duration::from_secs(30))?;
    let cpu_s = agent.cpu_s()? - cpu_before_s;
    let site: serde_json::Value = serde_json::from_str(&site)?;
    println!(
        "headline: suspected after {:.0} s, found after {:.0} s: {} in {}, {:.0} KiB/s of 100",
        (suspected - began).as_secs_f64(),
        (found - began).as_secs_f64(),
        site["verdict"],
        site["stack"][0]["function"],
        site["growth_bytes_per_second"].as_f64().unwrap_or(0.0) / 1024.0,
    );
    println!("  the agent: {line}");
    let part = |now: (Pace, Pace), before: (Pace, Pace)| {
        (now.0.cpu_since(before.0), now.1.cpu_since(before.1))
    };
    let (floor, floor_control) = part(alone, first);
    let (traced, traced_control) = part(watched, alone);
    println!(
        "  before: {:.2} % of a CPU at {:.0} pairs/s, beside it without a leak {:.2} %",
        floor * 100.0,
        alone.0.pairs_since(first.0),
        floor_control * 100.0,
    );
    println!(
        "  from start to verdict: {:.2} % at {:.0} pairs/s, beside it {:.2} %: added {:.2} % of a CPU",
        traced * 100.0,
        watched.0.pairs_since(alone.0),
        traced_control * 100.0,
        100.0 * ((traced - traced_control) - (floor - floor_control)),
    );
    println!(
        "  the agent itself took {:.2} % of a CPU",
        100.0 * cpu_s / began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// From some hundreds to two million allocations a second while there are probes.
fn storm(program: &Path) -> anyhow::Result<()> {
    let mut leaking = Program::start(program, "200 65536")?;
    let mut control = Program::start(program, "200 0")?;
    let agent = Agent::watch(&["--interval", "1s", "--look-every", "1s", "--processes", "0"])?;
    let pid = leaking.pid();
    agent.find(&format!("pid {pid} (storm) keeps growing"), TWO_MINUTES)?;
    // Probes have been in at every call for a while, but not for as long as a verdict takes.
    thread::sleep(Duration::from_secs(6));
    leaking.set("2000000 65536")?;
    control.set("2000000 0")?;
    let began = Instant::now();
    let (noticed, _) = agent.find(&format!("pid {pid} (storm): probes take"), TWO_MINUTES)?;
    println!(
        "storm: from 200 to 2 000 000 pairs/s with probes in: noticed after {:.2} s",
        (noticed - began).as_secs_f64()
    );
    let mut last = (leaking.pace()?, control.pace()?);
    let first = last;
    let mut added = Vec::new();
    for _ in 0..20 {
        thread::sleep(Duration::from_secs(1));
        let now = (leaking.pace()?, control.pace()?);
        added.push(now.0.cpu_since(last.0) - now.1.cpu_since(last.1));
        last = now;
    }
    let all = last.0.cpu_since(first.0) - last.1.cpu_since(first.1);
    let worst = added.iter().copied().reduce(f64::max);
    println!(
        "  after that: {:.0} pairs/s; added on average {:.2} % of a CPU, in the worst second of 20 {:.2} %",
        last.0.pairs_since(first.0),
        all * 100.0,
        worst.context("there were seconds")? * 100.0,
    );
    Ok(())
}

/// Processes that sleep; killed when dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(count: usize) -> anyhow::Result<Self> {
        let mut sleepers = Self(Vec::new());
        for _ in 0..count {
            let mut sleep = Command::new("/bin/sleep");
            sleep.arg("600").stdin(Stdio::null());
            sleepers.0.push(sleep.spawn()?);
        }
        Ok(sleepers)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is what was wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
