//! Owns the benchmark `pair`: what a pair of malloc and free costs the program that is traced.
//! Must not know how a tracer works; each is a row of the table.
//!
//! Every tracer has a target of its own and stays attached to it. A round asks each target in
//! turn, so that whatever slows the machine for a while slows all rows alike, and ratios are
//! those of one round.

mod target;
mod tracers;

#[path = "../support/mod.rs"]
mod support;

use std::{fs, path::Path, thread, time::Duration};

use support::{Options, Spread, machine};
use target::{Target, Workshop};
use tracers::Tracer;

/// Calls of the same function between the program's `main` and the one that allocates. Its own
/// frame, `main`, and the C library's three make 13 frames of the deep stack.
const DEPTHS: [(&str, u32); 2] = [("13 frames", 8), ("shallow", 0)];

/// The same trace with stacks by frame pointers, which the target keeps: what tables cost beside them.
const FRAME_POINTERS: &str = "leaktrace, frame pointers";

/// The tracer that ours is compared with.
const MEMLEAK: &str = "bcc memleak";

/// Pairs that a target without probes makes for one that a probed target makes: it is a hundred
/// times faster.
const BARE_FACTOR: u64 = 50;

/// Longer than the agent's clock: what is in the ring when the target rests is read by then.
const AGENT_PAUSE: Duration = Duration::from_millis(60);

/// A tracer and its target, with the costs by depth and round.
struct Row {
    name: &'static str,
    target: Target,
    tracer: Tracer,
    pair_ns: [Vec<f64>; DEPTHS.len()],
    agent_ns: [Vec<f64>; DEPTHS.len()],
    pairs_made: u64,
}

impl Row {
    fn new(
        workshop: &Workshop,
        name: &'static str,
        attach: impl FnOnce(&Target) -> anyhow::Result<Tracer>,
    ) -> anyhow::Result<Self> {
        let target = Target::start(workshop, name)?;
        let tracer = attach(&target)?;
        Ok(Self {
            name,
            target,
            tracer,
            pair_ns: Default::default(),
            agent_ns: Default::default(),
            pairs_made: 0,
        })
    }

    fn measure(&mut self, depth: usize, pairs: u64) -> anyhow::Result<()> {
        let pairs = match self.tracer {
            Tracer::None => pairs * BARE_FACTOR,
            _ => pairs,
        };
        let before_ns = self.tracer.spent_ns();
        let spent_ns = self.target.spend(DEPTHS[depth].1, pairs)?;
        if let Tracer::Process(_) = self.tracer {
            thread::sleep(AGENT_PAUSE);
        }
        self.pairs_made += pairs;
        self.pair_ns[depth].push(spent_ns / pairs as f64);
        self.agent_ns[depth].push((self.tracer.spent_ns() - before_ns) / pairs as f64);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::read();
    println!("pair: CPU time of the traced program for malloc(64) and free, in nanoseconds");
    println!("{}", machine());
    if !nix::unistd::geteuid().is_root() {
        println!("NOT MEASURED: probes need root");
        return Ok(());
    }
    let (rounds, pairs) = if options.is_quick {
        (3, 5_000)
    } else {
        (25, 30_000)
    };
    let workshop = Workshop::open()?;
    let report = std::env::temp_dir().join(format!("leaktrace-pair-{}.json", std::process::id()));
    let mut rows = vec![
        Row::new(&workshop, "untraced", |_| Ok(Tracer::None))?,
        Row::new(&workshop, "empty programs", Tracer::empty)?,
        Row::new(&workshop, "leaktrace", |target| {
            Tracer::leaktrace(target, &report, &[])
        })?,
        Row::new(&workshop, FRAME_POINTERS, |target| {
            Tracer::leaktrace(target, Path::new("/dev/null"), &["--without-unwind-tables"])
        })?,
        Row::new(&workshop, "leaktrace, size left out", |target| {
            Tracer::leaktrace(target, Path::new("/dev/null"), &["--min-size", "65"])
        })?,
    ];
    match Row::new(&workshop, MEMLEAK, Tracer::memleak) {
        Ok(row) => rows.push(row),
        Err(why) => println!("bcc memleak: {why:#}"),
    }
    for round in 0..=rounds {
        for depth in 0..DEPTHS.len() {
            for place in 0..rows.len() {
                // Each row comes first, second and last in its turn.
                let row = (place + round) % rows.len();
                rows[row].measure(depth, pairs)?;
            }
        }
        if round == 0 {
            // The first round fills caches and tables.
            for row in &mut rows {
                row.pair_ns = Default::default();
                row.agent_ns = Default::default();
            }
        }
    }
    for depth in 0..DEPTHS.len() {
        print_table(&rows, depth, rounds);
    }
    print_per_frame(&rows[2]);
    print_per_frame(&rows[3]);
    rows[2].tracer.finish();
    print_truth(&report, rows[2].pairs_made);
    let _ = fs::remove_file(report);
    println!("{}", machine());
    Ok(())
}

fn print_table(rows: &[Row], depth: usize, rounds: usize) {
    println!(
        "\n{} ({rounds} rounds)\n{:<26}{:>8}{:>8}{:>8}{:>10}{:>10}{:>12}{:>10}",
        DEPTHS[depth].0, "", "median", "min", "max", "added", "/ floor", "/ memleak", "agent"
    );
    let bare = &rows[0].pair_ns[depth];
    // The cost that a tracer adds, by round.
    let added = |row: &Row| -> Vec<f64> {
        let costs = row.pair_ns[depth].iter().zip(bare);
        costs.map(|(with, without)| with - without).collect()
    };
    let ratio = |row: &Row, base: Option<&Row>| {
        let Some(base) = base.filter(|_| !matches!(row.tracer, Tracer::None)) else {
            return "-".to_owned();
        };
        let ratios = added(row).into_iter().zip(added(base)).map(|(a, b)| a / b);
        format!("{:.2}", Spread::of(ratios.collect()).median)
    };
    for row in rows {
        let cost = Spread::of(row.pair_ns[depth].clone());
        println!(
            "{:<26}{:>8.0}{:>8.0}{:>8.0}{:>10.0}{:>10}{:>12}{:>10.0}",
            row.name,
            cost.median,
            cost.min,
            cost.max,
            Spread::of(added(row)).median,
            ratio(row, rows.get(1)),
            ratio(row, rows.iter().find(|it| it.name == MEMLEAK)),
            Spread::of(row.agent_ns[depth].clone()).median,
        );
    }
}

/// Tells what a frame more costs: both stacks differ by nothing else.
fn print_per_frame(row: &Row) {
    let frames = f64::from(DEPTHS[0].1 - DEPTHS[1].1);
    let costs = row.pair_ns[0].iter().zip(&row.pair_ns[1]);
    let each = costs.map(|(deep, shallow)| (deep - shallow) / frames);
    let cost = Spread::of(each.collect());
    println!(
        "\n{}: {:.0} ns for each frame more ({:.0} to {:.0})",
        row.name, cost.median, cost.min, cost.max
    );
}

/// Tells whether the figures are those of an exact trace.
fn print_truth(report: &Path, pairs: u64) {
    let text = fs::read_to_string(report).unwrap_or_default();
    let end = text.lines().last().unwrap_or_default();
    let end: serde_json::Value = serde_json::from_str(end).unwrap_or_default();
    println!(
        "\nleaktrace saw {} events of {pairs} pairs; lost: {}",
        end["event_count"], end["lost"]
    );
}
