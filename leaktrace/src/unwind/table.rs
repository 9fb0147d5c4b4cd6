//! Owns the table of a file: which rule holds at which file offset.
//! Must not know files, disks or the numbers that rules have in a run.
//!
//! Rows are keyed by file offset, because mappings state file offsets: the row of an address is
//! found without the addresses that the file was linked to, and so without a load bias to get
//! wrong. What is malformed is left out or becomes `Rule::BAD`, and is counted.
//!
//! Time and memory are bounded, because the file belongs to a traced process: FDEs, rows, rules
//! and the bytes of instructions have limits far above what real files need.

mod builder;

use leaktrace_common::unwind::{RULE_ID_BAD, RULE_ID_NONE, Rule, cfa, rbp};

use super::FrameSections;

/// Rows of one table: 48 MiB. The largest here, Rust's LLVM, has 1.2 million.
pub const ROWS_MAX: usize = 8 << 20;

/// Distinct rules of one table. Real files have up to 900.
pub const PALETTE_MAX: usize = 4096;

/// What a build met with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Functions that have rows.
    pub functions: u64,
    /// Rows as the file states them, before equal neighbours became one.
    pub stated_rows: u64,
    /// Of these, rows that a `Rule` cannot hold.
    pub bad_rows: u64,
    /// Functions left out because they do not lie in the file's code.
    pub outside: u64,
    /// Functions cut short because another begins within them.
    pub overlaps: u64,
    /// Entries that could not be read.
    pub malformed: u64,
    /// Whether a limit left something out.
    pub limited: bool,
}

/// The rows of one file, with rules of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Strictly ascending.
    pcs: Vec<u32>,
    /// One for each of `pcs`, each within `palette`.
    rules: Vec<u16>,
    /// Distinct rules; the first two are those with fixed ids.
    palette: Vec<Rule>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            pcs: Vec::new(),
            rules: Vec::new(),
            palette: vec![Rule::NONE, Rule::BAD],
        }
    }
}

impl Table {
    /// Works the table out, 3 to 5 million rows a second. At worst, for a file made to be slow, it
    /// takes about two seconds and 150 MiB besides the sections.
    pub fn build(sections: &FrameSections) -> (Self, Stats) {
        builder::build(sections)
    }

    /// Where functions begin and end in the file, in order: also those that have no name.
    pub fn functions(sections: &FrameSections) -> Vec<(u32, u32)> {
        builder::functions(sections)
    }

    /// A table from its parts, `None` where they break what a table promises.
    pub fn from_parts(pcs: Vec<u32>, rules: Vec<u16>, palette: Vec<Rule>) -> Option<Self> {
        let fixed = palette.get(usize::from(RULE_ID_NONE)) == Some(&Rule::NONE)
            && palette.get(usize::from(RULE_ID_BAD)) == Some(&Rule::BAD);
        let known = |rule: &Rule| rule.cfa <= cfa::SIGNAL && rule.rbp <= rbp::RSP_OFFSET;
        let sound = fixed
            && pcs.len() == rules.len()
            && pcs.len() <= ROWS_MAX
            && palette.len() <= PALETTE_MAX
            && pcs.is_sorted_by(|a, b| a < b)
            && rules.iter().all(|rule| usize::from(*rule) < palette.len())
            && rules.last().is_none_or(|rule| *rule == RULE_ID_NONE)
            && palette.iter().all(known);
        sound.then_some(Self {
            pcs,
            rules,
            palette,
        })
    }

    /// The rule that holds at a file offset.
    pub fn rule(&self, file_offset: u32) -> Rule {
        let after = self.pcs.partition_point(|pc| *pc <= file_offset);
        match after.checked_sub(1) {
            Some(row) => self.palette[usize::from(self.rules[row])],
            None => Rule::NONE,
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.pcs.len()
    }

    /// Whether there are none: all frames of this file are stepped by frame pointer.
    pub fn is_empty(&self) -> bool {
        self.pcs.is_empty()
    }

    /// Where rows begin.
    pub fn pcs(&self) -> &[u32] {
        &self.pcs
    }

    /// Which rule of the palette each row has.
    pub fn rules(&self) -> &[u16] {
        &self.rules
    }

    /// The distinct rules.
    pub fn palette(&self) -> &[Rule] {
        &self.palette
    }

    /// Where rows begin and their rules.
    pub fn into_parts(self) -> (Vec<u32>, Vec<u16>) {
        (self.pcs, self.rules)
    }
}
