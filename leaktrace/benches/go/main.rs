//! Owns the benchmark `go`: what an allocation costs a Go program that is traced, or profiles itself.
//! Must not know how a tracer works; each is a row of the table.
//!
//! Every tracer has a target of its own and stays attached to it. A round asks each target in turn, so that
//! whatever slows the machine for a while slows all rows alike.

mod target;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the extremes are of others' interest")]
mod support;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use leaktrace::{
    golang::{binary::GoBinary, plan},
    probes::{Probes, Scope, Settings},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use support::{Options, Spread, machine};
use target::{Target, Workshop};

/// The oldest way of allocating, that of the text that the project began from, and the newest.
const VERSIONS: [&str; 3] = ["1.22.10", "1.24.11", "1.27.3"];

/// What is made, and how many of it in a round for each that a probed program makes.
const KINDS: [(&str, &str, f64); 4] = [
    ("node", "48 B, pointers", 1.0),
    ("buffer", "100 B", 1.0),
    ("tiny", "8 B, shared", 1.0),
    ("page", "2 KiB", 0.3),
];

/// Objects that a program without probes makes for one that a probed program makes.
const BARE_FACTOR: u64 = 20;

/// Longer than the agent's clock: what is in the ring when the target rests is read by then.
const AGENT_PAUSE: Duration = Duration::from_millis(60);

/// Who looks on.
enum Tracer {
    /// Nobody but the program itself, perhaps.
    None,
    /// Our instructions with programs that do nothing: held, never asked.
    Empty { _probes: Box<Probes> },
    /// The agent.
    Agent(Child),
}

impl Tracer {
    fn empty(target: &Target) -> anyhow::Result<Self> {
        let bytes = fs::read(&target.program)?;
        let plan = plan::plan(&GoBinary::parse(&bytes)?)?;
        let mut probes = Box::new(Probes::load(&Settings::default())?);
        let file = File::open(&target.program)?;
        probes.attach_go_empty(&file, &plan, Scope::Process(target.pid()))?;
        Ok(Self::Empty { _probes: probes })
    }

    /// The agent that users run.
    fn agent(target: &Target, report: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leaktrace"))
            .args(["trace", "--format", "json", "--top", "1", "--pid"])
            .arg(target.pid().to_string())
            .arg("--output")
            .arg(report)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start leaktrace")?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.contains("tracing"), "leaktrace does not trace: {line}");
        // Read on, so that it never waits for room.
        thread::spawn(move || lines.read_to_string(&mut String::new()));
        Ok(Self::Agent(child))
    }

    /// CPU time of the agent so far, in nanoseconds.
    fn spent_ns(&self) -> f64 {
        let Self::Agent(child) = self else {
            return 0.0;
        };
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
        tasks
            .into_iter()
            .flatten()
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Self::Agent(child) = self {
            // One that is gone already is what was wanted.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT);
            let _ = child.wait();
        }
    }
}

/// A tracer and its target, with the costs by kind and round.
struct Row {
    name: &'static str,
    // Ended first: the agent's report is of a program that runs.
    tracer: Tracer,
    target: Target,
    object_ns: [Vec<f64>; KINDS.len()],
    agent_ns: [Vec<f64>; KINDS.len()],
}

impl Row {
    fn new(
        workshop: &Workshop,
        name: &'static str,
        rate: u32,
        attach: impl FnOnce(&Target) -> anyhow::Result<Tracer>,
    ) -> anyhow::Result<Self> {
        let target = Target::start(workshop, name, rate)?;
        Ok(Self {
            name,
            tracer: attach(&target).with_context(|| name.to_owned())?,
            target,
            object_ns: Default::default(),
            agent_ns: Default::default(),
        })
    }

    fn measure(&mut self, kind: usize, objects: u64) -> anyhow::Result<()> {
        let (word, _, share) = KINDS[kind];
        let objects = (objects as f64 * share) as u64;
        let objects = match self.tracer {
            Tracer::None => objects * BARE_FACTOR,
            _ => objects,
        };
        let before_ns = self.tracer.spent_ns();
        let spent_ns = self.target.spend(word, objects)?;
        if let Tracer::Agent(_) = self.tracer {
            thread::sleep(AGENT_PAUSE);
        }
        let agent_ns = self.tracer.spent_ns() - before_ns;
        self.object_ns[kind].push(spent_ns / objects as f64);
        self.agent_ns[kind].push(agent_ns / objects as f64);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::read();
    println!(
        "go: CPU time of a Go program for an object, its collector's included, in nanoseconds"
    );
    println!("{}", machine());
    if !nix::unistd::geteuid().is_root() {
        println!("NOT MEASURED: probes need root");
        return Ok(());
    }
    let (rounds, objects) = if options.is_quick {
        (3, 4_000)
    } else {
        (15, 20_000)
    };
    for version in VERSIONS {
        let rows = measure(version, rounds, objects)?;
        print_table(version, &rows, rounds);
    }
    println!("{}", machine());
    Ok(())
}

fn measure(version: &str, rounds: usize, objects: u64) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open(version)?;
    let report = workshop.program.with_extension("json");
    let agent = |more: &'static [&'static str]| {
        let report = report.clone();
        move |target: &Target| Tracer::agent(target, &report, more)
    };
    let nobody = |_: &Target| Ok(Tracer::None);
    let mut rows = vec![
        Row::new(&workshop, "untraced", 0, nobody)?,
        Row::new(&workshop, "empty programs", 0, Tracer::empty)?,
        Row::new(&workshop, "leaktrace", 0, agent(&[]))?,
        Row::new(
            &workshop,
            "leaktrace sampled",
            0,
            agent(&["--sample-bytes", "512KiB"]),
        )?,
        Row::new(&workshop, "own profile 512 KiB", 512 * 1024, nobody)?,
        Row::new(&workshop, "own profile of all", 1, nobody)?,
    ];
    for round in 0..=rounds {
        for kind in 0..KINDS.len() {
            for place in 0..rows.len() {
                // Each row comes first, second and last in its turn.
                let row = (place + round) % rows.len();
                rows[row].measure(kind, objects)?;
            }
        }
        if round == 0 {
            // The first round fills caches and tables.
            for row in &mut rows {
                row.object_ns = Default::default();
                row.agent_ns = Default::default();
            }
        }
    }
    Ok(rows)
}

/// For each kind the median, what it is more than untraced, that as a multiple of the floor, and the agent's own.
fn print_table(version: &str, rows: &[Row], rounds: usize) {
    println!("\nGo {version} ({rounds} rounds): median, added, added / floor, agent's own");
    print!("{:<20}", "");
    KINDS.iter().for_each(|(_, name, _)| print!("{name:>28}"));
    println!();
    let added = |row: &Row, kind: usize| -> f64 {
        let costs = row.object_ns[kind].iter().zip(&rows[0].object_ns[kind]);
        Spread::of(costs.map(|(with, without)| with - without).collect()).median
    };
    for row in rows {
        print!("{:<20}", row.name);
        for kind in 0..KINDS.len() {
            let cost = Spread::of(row.object_ns[kind].clone()).median;
            let agent = Spread::of(row.agent_ns[kind].clone()).median;
            let more = added(row, kind);
            let ratio = more / added(&rows[1], kind);
            print!("{cost:>9.0}{more:>+8.0}{ratio:>6.2}{agent:>5.0}");
        }
        println!();
    }
}
