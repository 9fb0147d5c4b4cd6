//! Owns what the benchmarks share: the machine's facts, options, and the middle of many figures.
//! Must not know what is measured.

use std::fs;

/// What the user asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A smoke test: few rounds, small figures, no claim.
    pub is_quick: bool,
}

impl Options {
    /// Reads the command line. Cargo itself passes `--bench`.
    pub fn read() -> Self {
        let mut options = Self { is_quick: false };
        for word in std::env::args().skip(1) {
            match word.as_str() {
                "--quick" => options.is_quick = true,
                "--bench" => {}
                other => {
                    eprintln!("unknown option {other}; there is --quick");
                    std::process::exit(2);
                }
            }
        }
        options
    }
}

/// What a figure depends on, in one line.
pub fn machine() -> String {
    let first = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_facts = first("/proc/cpuinfo");
    let models: Vec<&str> = cpu_facts
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .collect();
    let load = first("/proc/loadavg");
    format!(
        "Linux {}, {} x {}, load {}",
        first("/proc/sys/kernel/osrelease").trim(),
        models.len(),
        models.first().unwrap_or(&"unknown CPU"),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

/// The spread of one figure over all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// As many above as below.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Sorts the figures; none gives zeros.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(0.0);
        let last = figures.len().saturating_sub(1);
        Self {
            min: at(0),
            median: f64::midpoint(at(last / 2), at(figures.len() / 2)),
            max: at(last),
        }
    }
}
