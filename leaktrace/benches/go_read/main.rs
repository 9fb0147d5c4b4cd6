//! Owns the benchmark `go-read`: what it costs to read a Go program's goroutines and memory profile from outside.
//! Must not know how either is read. The program itself pays nothing: it is not stopped, and nothing is written.

#[path = "../go/target.rs"]
mod target;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the extremes are of others' interest")]
mod support;

use std::{fs, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use leaktrace::{
    golang::{
        buckets::read_profile,
        goroutines::{read_goroutines, read_stack},
        program::{GoProcess, GoProgram},
    },
    host::maps::read_maps,
};

use support::{Options, Spread, machine};
use target::{Target, Workshop};

/// The oldest and the newest.
const VERSIONS: [&str; 2] = ["1.21.13", "1.27.3"];

/// How many goroutines wait, and how many sites the profile has.
const SIZES: [u64; 3] = [100, 10_000, 100_000];

fn main() -> anyhow::Result<()> {
    let options = Options::read();
    println!("go-read: time to read what a Go program's runtime knows, in milliseconds");
    println!("{}", machine());
    let rounds = if options.is_quick { 3 } else { 15 };
    println!(
        "\n{:<10}{:>9}{:>12}{:>14}{:>14}{:>12}",
        "", "of each", "the file", "goroutines", "their stacks", "profile"
    );
    for version in VERSIONS {
        let workshop = Workshop::open(version)?;
        for size in SIZES {
            measure(version, &workshop, size, rounds)?;
        }
    }
    println!("{}", machine());
    Ok(())
}

/// Milliseconds that something takes, and what it gives.
fn timed<T>(figures: &mut Vec<f64>, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    figures.push(began.elapsed().as_secs_f64() * 1e3);
    result
}

fn measure(version: &str, workshop: &Workshop, size: u64, rounds: usize) -> anyhow::Result<()> {
    let mut target = Target::start(workshop, &size.to_string(), 1)?;
    target.spend("goroutines", size)?;
    target.spend("sites", size)?;
    // The profile is published by collections.
    target.spend("page", 200_000)?;
    let mut figures: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let program = timed(&mut figures[0], || {
            GoProgram::read(&fs::read(&target.program)?).context("not Go's")
        })?;
        let process = open(target.pid(), &target.program, Arc::new(program))?;
        let goroutines = timed(&mut figures[1], || read_goroutines(&process));
        let goroutines = goroutines.ok().context("no goroutines")?.goroutines;
        anyhow::ensure!(
            goroutines.len() as u64 >= size,
            "{} goroutines",
            goroutines.len()
        );
        timed(&mut figures[2], || {
            for goroutine in &goroutines {
                std::hint::black_box(read_stack(&process, goroutine));
            }
        });
        let profile = timed(&mut figures[3], || read_profile(&process));
        let profile = profile.ok().context("no profile")?;
        anyhow::ensure!(
            profile.buckets.len() as u64 >= size,
            "{} buckets",
            profile.buckets.len()
        );
    }
    let [file, goroutines, stacks, profile] = figures.map(|it| Spread::of(it).median);
    println!("{version:<10}{size:>9}{file:>12.1}{goroutines:>14.2}{stacks:>14.2}{profile:>12.2}");
    Ok(())
}

/// Makes a running process readable.
fn open(pid: u32, path: &Path, program: Arc<GoProgram>) -> anyhow::Result<GoProcess> {
    let maps = read_maps(pid)?;
    let own = maps.iter().filter(|it| Path::new(&it.path) == path);
    let mut opened = own.filter_map(|it| GoProcess::open(pid, Arc::clone(&program), it).ok());
    opened.next().context("it does not map its own code")
}
