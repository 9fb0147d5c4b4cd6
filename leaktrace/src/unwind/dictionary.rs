//! Owns the numbers of rules that are the same in all tables of a run.
//! Must not know where rules come from.

use leaktrace_common::unwind::{RULE_ID_BAD, RULES_MAX, Rule};
use rustc_hash::FxHashMap;

use super::Table;

/// As many rules as files that users wrote may add: they cannot take the numbers that the
/// system's own files need, whose rules are 4 400 together.
const UNTRUSTED_RULES_MAX: usize = RULES_MAX / 2;

/// Who wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Only root can have written it.
    Trusted,
    /// Anybody can have.
    Untrusted,
}

/// A table as the probes search it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The file offsets where rows begin, strictly ascending. A row ends where the next begins.
    pub pcs: Vec<u32>,
    /// The rule of each row; the last one's is `RULE_ID_NONE`.
    pub rules: Vec<u16>,
}

/// Rules by number and numbers by rule. A number never changes its meaning.
pub struct Dictionary {
    rules: Vec<Rule>,
    ids: FxHashMap<Rule, u16>,
    refused: u64,
}

impl Default for Dictionary {
    /// Begins with the rules whose numbers are fixed.
    fn default() -> Self {
        let mut it = Self {
            rules: Vec::new(),
            ids: FxHashMap::default(),
            refused: 0,
        };
        for rule in [Rule::NONE, Rule::BAD] {
            it.id(rule, RULES_MAX);
        }
        it
    }
}

impl Dictionary {
    /// Numbers the rules of a table. Rules that find no number left become `RULE_ID_BAD`.
    pub fn number(&mut self, table: Table, origin: Origin) -> Rows {
        let limit = match origin {
            Origin::Trusted => RULES_MAX,
            Origin::Untrusted => UNTRUSTED_RULES_MAX,
        };
        let ids: Vec<u16> = table
            .palette()
            .iter()
            .map(|rule| self.id(*rule, limit))
            .collect();
        let (pcs, mut rules) = table.into_parts();
        for rule in &mut rules {
            *rule = ids[usize::from(*rule)];
        }
        Rows { pcs, rules }
    }

    /// All rules so far: the id is the index. Only ever grows, so that what follows the length
    /// seen last is what is new.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many times a table's rule found no number.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn id(&mut self, rule: Rule, limit: usize) -> u16 {
        if let Some(id) = self.ids.get(&rule) {
            return *id;
        }
        let Some(id) = u16::try_from(self.rules.len())
            .ok()
            .filter(|id| usize::from(*id) < limit)
        else {
            self.refused += 1;
            return RULE_ID_BAD;
        };
        self.rules.push(rule);
        self.ids.insert(rule, id);
        id
    }
}
