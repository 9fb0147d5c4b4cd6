//! Owns what is printed of an examination of the corpus: a row for each marked line, and the sums by language.
//! Must not know how it was examined.

use std::collections::BTreeMap;

use serde_json::json;

use super::programs::{Language, Program};
use super::truth::{Guilt, Mark, Seen};

/// One mark of one program, and what the agent said of it.
pub struct Row {
    /// Whose it is.
    pub program: Program,
    /// The truth.
    pub mark: Mark,
    /// What was said.
    pub seen: Seen,
}

/// One program, examined.
pub struct Examined {
    /// Its marks.
    pub rows: Vec<Row>,
    /// Its sites that are called growing without a reason, by their innermost frames.
    pub strays: Vec<String>,
    /// Whose they are.
    pub program: Program,
}

/// What came of some programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums {
    leaks: usize,
    named: usize,
    found: usize,
    innocents: usize,
    blamed: usize,
    strays: usize,
}

impl Row {
    /// A leak is found at its line and called growing; an innocent is anything but growing.
    pub fn is_right(&self) -> bool {
        match self.mark.guilt {
            Guilt::Leak(_) => self.is_growing(),
            Guilt::Innocent => !self.is_growing(),
            Guilt::Either => true,
        }
    }

    fn is_growing(&self) -> bool {
        self.seen.verdict.as_deref() == Some("growing")
    }
}

impl Sums {
    /// Adds one program.
    pub fn add(&mut self, examined: &Examined) {
        for row in &examined.rows {
            let [is_named, is_growing] = [row.seen.verdict.is_some(), row.is_growing()];
            match row.mark.guilt {
                Guilt::Leak(_) => {
                    self.leaks += 1;
                    self.named += usize::from(is_named);
                    self.found += usize::from(is_growing);
                }
                Guilt::Innocent => {
                    self.innocents += 1;
                    self.blamed += usize::from(is_growing);
                }
                Guilt::Either => {}
            }
        }
        self.strays += examined.strays.len();
    }

    /// Whether every leak was found and nobody else blamed.
    pub fn is_right(&self) -> bool {
        self.found == self.leaks && self.blamed + self.strays == 0
    }
}

/// Prints all as tables or as one JSON object a line.
pub fn print(examined: &[Examined], is_json: bool) {
    if is_json {
        for row in examined.iter().flat_map(|it| &it.rows) {
            println!("{}", to_json(row));
        }
        for it in examined {
            for stray in &it.strays {
                let line = json!({"program": it.program.name, "truth": "innocent", "verdict": "growing", "stack": stray, "right": false});
                println!("{line}");
            }
        }
        return;
    }
    print_rows(examined);
    for it in examined {
        for stray in &it.strays {
            println!(
                "{}: blamed, though nothing of it is marked: {stray}",
                it.program.name
            );
        }
    }
    println!();
    print_sums(examined);
}

fn truth(mark: &Mark) -> (&'static str, u64) {
    match mark.guilt {
        Guilt::Leak(bytes_per_second) => ("leak", bytes_per_second),
        Guilt::Innocent => ("innocent", 0),
        Guilt::Either => ("either", 0),
    }
}

fn to_json(row: &Row) -> serde_json::Value {
    let (truth, bytes_per_second) = truth(&row.mark);
    json!({
        "program": row.program.name, "site": row.mark.name,
        "line": row.mark.line, "truth": truth, "named": row.seen.verdict.is_some(),
        "verdict": row.seen.verdict, "true_bytes_per_second": bytes_per_second,
        "seen_bytes_per_second": row.seen.growth_bytes_per_second, "right": row.is_right(),
    })
}

fn print_rows(examined: &[Examined]) {
    println!(
        "{:<17} {:<5} {:<32} {:<9} {:<11} {:>9} {:>9}  right?",
        "program", "line", "site", "truth", "verdict", "true B/s", "seen B/s"
    );
    for row in examined.iter().flat_map(|it| &it.rows) {
        let (truth, bytes_per_second) = truth(&row.mark);
        let name: String = row.mark.name.chars().take(32).collect();
        println!(
            "{:<17} {:<5} {name:<32} {truth:<9} {:<11} {bytes_per_second:>9} {:>9}  {}",
            row.program.name,
            row.mark.line,
            row.seen.verdict.as_deref().unwrap_or("-"),
            row.seen.growth_bytes_per_second,
            if row.is_right() { "yes" } else { "NO" },
        );
    }
}

fn print_sums(examined: &[Examined]) {
    println!(
        "{:<9} {:>8} {:>6} {:>20} {:>17} {:>10} {:>7} {:>21}",
        "language",
        "programs",
        "leaks",
        "named at their lines",
        "found (growing)",
        "innocents",
        "blamed",
        "blamed without a mark"
    );
    let mut by_language = BTreeMap::<Language, Vec<&Examined>>::new();
    for it in examined {
        by_language.entry(it.program.language).or_default().push(it);
    }
    let groups = by_language
        .into_iter()
        .map(|(language, group)| (language.name(), group));
    for (name, group) in groups.chain([("all", examined.iter().collect())]) {
        let mut sums = Sums::default();
        group.iter().for_each(|it| sums.add(it));
        println!(
            "{name:<9} {:>8} {:>6} {:>20} {:>17} {:>10} {:>7} {:>21}",
            group.len(),
            sums.leaks,
            sums.named,
            sums.found,
            sums.innocents,
            sums.blamed,
            sums.strays,
        );
    }
}
