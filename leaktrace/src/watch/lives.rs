//! Owns which programs are started again and again, and whether each of their lives ended while its memory rose: a leak
//! that restarts hide.
//! Must not know how processes are found or read.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Programs that are remembered; beyond it those that ended first are forgotten.
const LINEAGES_MAX: usize = 16_384;

/// Ends that are remembered of each.
const ENDS_MAX: usize = 8;

/// One that begins so long after another ended is none that came back.
const RESTART_SECONDS: f64 = 900.0;

/// Lives in a row that rose until they ended, after which the next one is suspected from its beginning.
const RISEN_MIN: usize = 3;

/// A life that was too short for a trend rose if it ended this much, and this many times, larger than it began.
const SHORT_RISE_BYTES: u64 = 8 << 20;
const SHORT_RISE_FACTOR: f64 = 1.5;

/// How a life went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Life {
    /// Its memory at the first look, at the last, and the most.
    pub first_bytes: u64,
    /// The same at the last.
    pub last_bytes: u64,
    /// The most that was seen.
    pub most_bytes: u64,
    /// Whether it kept growing when it ended.
    pub was_growing: bool,
    /// Whether somebody in its group was killed for want of memory when it ended.
    pub was_killed: bool,
}

impl Life {
    /// Whether it ended while its memory rose.
    fn rose(&self) -> bool {
        let by = self.last_bytes.saturating_sub(self.first_bytes);
        let is_at_its_most = self.last_bytes as f64 >= 0.9 * self.most_bytes as f64;
        let rose_much = by >= SHORT_RISE_BYTES
            && self.last_bytes as f64 >= SHORT_RISE_FACTOR * self.first_bytes as f64;
        self.was_growing || (is_at_its_most && (rose_much || self.was_killed))
    }
}

/// An end, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
struct End {
    /// In seconds of the boot clock.
    at: f64,
    rose: bool,
}

/// One program.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Line {
    /// Those that run now.
    #[serde(skip)]
    alive: u32,
    ends: VecDeque<End>,
    /// How often it came back.
    restarts: u64,
}

/// What is known of a program that came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// How often it came back since it is watched.
    pub count: u64,
    /// How many lives before this one, in a row, ended while their memory rose.
    pub risen: usize,
}

impl Restarts {
    /// Whether what runs now is suspected for what those before it did.
    #[must_use]
    pub fn is_heir(&self) -> bool {
        self.risen >= RISEN_MIN
    }
}

/// Every program that ran.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Lives(FxHashMap<u64, Line>);

impl Lives {
    /// A process of this program was found. True where it is one that came back.
    pub fn began(&mut self, lineage: u64, at: f64) -> bool {
        if lineage == 0 {
            return false;
        }
        let line = self.0.entry(lineage).or_default();
        // Where several run side by side, as workers do, none stands for another.
        let is_restart =
            line.alive == 0 && (line.ends.back()).is_some_and(|end| at - end.at <= RESTART_SECONDS);
        line.alive += 1;
        line.restarts += u64::from(is_restart);
        is_restart
    }

    /// A process of this program ended.
    pub fn ended(&mut self, lineage: u64, at: f64, life: Life) {
        let Some(line) = self.0.get_mut(&lineage) else {
            return;
        };
        line.alive = line.alive.saturating_sub(1);
        if line.ends.len() >= ENDS_MAX {
            line.ends.pop_front();
        }
        line.ends.push_back(End {
            at,
            rose: life.rose(),
        });
        self.forget_old();
    }

    /// Where there are too many, a quarter of all is forgotten, those that ended first: one at a time would be a
    /// search through all for each.
    fn forget_old(&mut self) {
        if self.0.len() <= LINEAGES_MAX {
            return;
        }
        let last = |line: &Line| line.ends.back().map_or(0.0, |end| end.at);
        let ended = self.0.iter().filter(|(_, line)| line.alive == 0);
        let mut ended: Vec<(f64, u64)> = ended.map(|(id, line)| (last(line), *id)).collect();
        ended.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (_, lineage) in ended.iter().take(LINEAGES_MAX / 4) {
            self.0.remove(lineage);
        }
    }

    /// What is known of a program whose process runs.
    #[must_use]
    pub fn restarts(&self, lineage: u64) -> Restarts {
        let Some(line) = self.0.get(&lineage).filter(|line| line.restarts > 0) else {
            return Restarts::default();
        };
        // Beside others of its kind it is a worker, and what they did tells nothing of it.
        let risen = line.ends.iter().rev().take_while(|end| end.rose).count();
        Restarts {
            count: line.restarts,
            risen: if line.alive <= 1 { risen } else { 0 },
        }
    }

    /// Takes up what was remembered of programs that are known to run.
    pub fn remember(&mut self, lives: Self) {
        for (lineage, remembered) in lives.0.into_iter().take(LINEAGES_MAX) {
            let line = self.0.entry(lineage).or_default();
            line.restarts = line.restarts.max(remembered.restarts);
            if line.ends.is_empty() {
                let from = remembered.ends.len().saturating_sub(ENDS_MAX);
                line.ends = remembered.ends.into_iter().skip(from).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RISING: Life = Life {
        first_bytes: 10 << 20,
        last_bytes: 50 << 20,
        most_bytes: 50 << 20,
        was_growing: false,
        was_killed: false,
    };

    /// A program that comes back three times, each time after its memory rose, is suspected; one that fell, is not.
    #[test]
    fn restarts_do_not_hide_a_leak() {
        let mut lives = Lives::default();
        assert!(!lives.began(7, 0.0));
        for round in 1..=3 {
            let at = f64::from(round) * 60.0;
            assert!(!lives.restarts(7).is_heir(), "{round}");
            lives.ended(7, at, RISING);
            assert!(lives.began(7, at + 5.0));
        }
        let restarts = lives.restarts(7);
        assert_eq!((restarts.count, restarts.risen), (3, 3));
        assert!(restarts.is_heir());
        let fell = Life {
            last_bytes: 12 << 20,
            ..RISING
        };
        lives.ended(7, 300.0, fell);
        lives.began(7, 301.0);
        assert_eq!(lives.restarts(7).risen, 0);
    }

    /// Workers that run side by side, what comes back the next day, and threads of the kernel are no restarts.
    #[test]
    fn others_are_no_restarts() {
        let mut lives = Lives::default();
        assert!(!lives.began(7, 0.0) && !lives.began(7, 1.0));
        for at in [2.0, 3.0, 4.0, 5.0] {
            lives.ended(7, at, RISING);
            assert!(!lives.began(7, at + 0.5));
        }
        assert_eq!(lives.restarts(7), Restarts::default());
        lives.began(8, 0.0);
        lives.ended(8, 10.0, RISING);
        assert!(!lives.began(8, 86_400.0));
        assert!(!lives.began(0, 0.0));
    }

    /// What rose by little, or was not at its most, did not rise; one that was killed for want of memory did.
    #[test]
    fn a_life_rises_or_not() {
        assert!(RISING.rose());
        let little = Life {
            last_bytes: 12 << 20,
            most_bytes: 12 << 20,
            ..RISING
        };
        assert!(!little.rose());
        let killed = Life {
            was_killed: true,
            ..little
        };
        assert!(killed.rose());
        let peaked = Life {
            most_bytes: 90 << 20,
            ..RISING
        };
        assert!(!peaked.rose());
    }

    /// However many programs run, what is remembered has its limit; what runs is never forgotten.
    #[test]
    fn memory_is_bounded() {
        let mut lives = Lives::default();
        lives.began(1, 0.0);
        for lineage in 2..40_000 {
            let at = lineage as f64 / 1_000.0;
            lives.began(lineage, at);
            lives.ended(lineage, at, RISING);
        }
        assert!(lives.0.len() <= LINEAGES_MAX && lives.0.contains_key(&1));
    }

    /// What was learnt outlives a restart of ours.
    #[test]
    fn it_is_remembered() {
        let mut lives = Lives::default();
        for round in 0..4 {
            let at = f64::from(round) * 60.0;
            lives.began(7, at);
            lives.ended(7, at + 50.0, RISING);
        }
        let kept = serde_json::to_vec(&lives).unwrap();
        let mut again = Lives::default();
        again.began(7, 300.0);
        again.remember(serde_json::from_slice(&kept).unwrap());
        assert!(again.restarts(7).is_heir());
    }
}
