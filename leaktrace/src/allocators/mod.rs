//! Owns which functions of a file allocate and free, and the plan of probes for them.
//! Must not know processes, paths or how a probe is attached.

mod detect;
mod families;
mod plan;
mod texts;
mod version;

use leaktrace_common::{
    call::Call,
    cookie::{Cookie, Family, Layout, Shape},
};

pub use self::{
    detect::{Defined, defined},
    families::EntryPoint,
    plan::examine,
    texts::mentioned,
    version::version,
};
use crate::{binary::placement::CostClass, host::return_probes};

/// How a function's result is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By a return probe.
    Return,
    /// By probes on these instructions, as offsets in the file: an exception may leave the
    /// function, which a return probe would stop.
    Instructions(Vec<u64>),
    /// There is none, or another function has it.
    None,
}

/// Whether results may be had by return probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnProbes {
    /// Where no exception may leave the function.
    #[default]
    Used,
    /// Nowhere: on this kernel they may end the process.
    Avoided,
}

impl ReturnProbes {
    /// As this kernel allows.
    #[must_use]
    pub fn on_this_kernel() -> Self {
        if return_probes::do_harm_here() {
            Self::Avoided
        } else {
            Self::Used
        }
    }
}

/// One probe to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenProbe {
    /// What the probed function does.
    pub call: Call,
    /// Which arguments say what.
    pub layout: Layout,
    /// Whose function it is.
    pub family: Family,
    /// Every name that leads here: a second probe at the same place would count twice.
    pub names: Vec<String>,
    /// The function's entry.
    pub entry_svma: u64,
    /// Where the function's entry lies in the file.
    pub entry_file_offset: u64,
    /// Its size; 0 where it is not told.
    pub size: u64,
    /// Where the probe goes, in the file.
    pub file_offset: u64,
    /// What the probed instruction costs.
    pub class: CostClass,
    /// The probed instruction.
    pub instruction: String,
    /// The proof of the place, in one clause.
    pub why: String,
    /// How the result is had.
    pub outcome: Outcome,
}

impl ChosenProbe {
    /// The name to show: the first of the table.
    pub fn name(&self) -> &str {
        self.names.first().map_or("?", String::as_str)
    }

    /// How far behind the entry the probe lies.
    pub fn offset(&self) -> u64 {
        self.file_offset - self.entry_file_offset
    }

    /// What the probe is told.
    pub fn cookie(&self) -> Cookie {
        /// Where the size is not told: `operator new` of every library has less.
        const SPAN_DEFAULT: u64 = 256;
        let size = if self.size == 0 {
            SPAN_DEFAULT
        } else {
            self.size
        };
        let span = u32::try_from(size.saturating_sub(self.offset())).unwrap_or(u32::MAX);
        Cookie::new(self.call as u8, self.layout, self.family, span)
    }
}

/// An entry point that the file has and that is not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCovered {
    /// The function's name.
    pub name: String,
    /// Why not, in one clause.
    pub reason: String,
}

/// An entry point that does nothing but jump to another, which is seen instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The function's name.
    pub name: String,
    /// Where it jumps.
    pub to: String,
}

/// An allocator in a file, and what to probe of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// Whose it is.
    pub family: Family,
    /// What stands before its names, where its build put something there.
    pub prefix: String,
    /// One probe per address.
    pub probes: Vec<ChosenProbe>,
    /// What is seen where it jumps to.
    pub forwarded: Vec<Forwarded>,
    /// What allocates or frees unseen.
    pub not_covered: Vec<NotCovered>,
}

impl Allocator {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.family.name()
    }

    /// Whether it makes blocks itself, instead of having another allocator make them.
    #[must_use]
    pub fn makes_blocks(&self) -> bool {
        let makes = |probe: &ChosenProbe| probe.layout.shape.returns_block();
        self.probes.iter().any(makes)
    }

    /// Every name that is covered.
    pub fn entry_points(&self) -> impl Iterator<Item = &str> {
        // An exception is nothing that a program allocates with.
        let probes = self.probes.iter();
        let probes = probes.filter(|probe| probe.layout.shape != Shape::Throw);
        let names = probes.flat_map(|probe| probe.names.iter().map(String::as_str));
        names.chain(self.forwarded.iter().map(|it| it.name.as_str()))
    }
}

#[cfg(test)]
mod tests;
