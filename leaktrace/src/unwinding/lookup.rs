//! Owns asking for a rule by file and offset, as the probes ask for it by address.
//! Must not know stacks or processes.

use leaktrace_common::unwind::Rule;

use super::{State, Unwinding};
use crate::modules::Module;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its rule.
    Rule(Rule),
    /// Its table is still being made.
    Later,
}

impl Unwinding {
    /// The rule of an offset in a file, whose table is made if nobody has asked for it before.
    pub fn known(&mut self, module: &Module, file_offset: u64) -> Known {
        // Nobody has the pid 0, so nobody is told.
        let State::Ready { segments, .. } = self.state(module, 0) else {
            return Known::Later;
        };
        let segment = segments
            .iter()
            .rfind(|it| it.first_offset <= file_offset && file_offset < it.end_offset);
        // Rows have 32 bits of an offset; a segment without end tells of no more.
        let found = segment.copied().zip(u32::try_from(file_offset).ok());
        let id = found.and_then(|(it, offset)| {
            let rows = self.rows.as_ref()?;
            rows.rule(it.shard, it.first_row, it.row_count, offset)
        });
        let rule = id.and_then(|id| self.dictionary.rules().get(usize::from(id)));
        Known::Rule(rule.copied().unwrap_or(Rule::NONE))
    }
}
