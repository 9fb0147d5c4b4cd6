//! Owns the choice of the instructions of Go's allocator and collector that are probed, and the proof
//! behind it.
//! Must not know files, processes or how a probe is attached.
//!
//! Every heap allocation returns from one of a few functions, with the block's address in rax. A return
//! probe would break Go's stacks, and a probe on a `ret` is single-stepped. So for each `ret` the
//! cheapest instruction is taken of which the code itself proves that
//!
//! * every way from the entry to this `ret` passes it exactly once, and no way leads from it to another;
//! * the address that will be returned is in rax or in a slot of the stack, and nothing changes it on
//!   the way;
//! * the arguments size and type still lie in the slots where the function itself put them.
//!
//! A `ret` is passed over where it only passes on what another of these functions returned, where what
//! it returns is the address of a variable (`zerobase`), or where the block came from outside of the
//! heap (`GODEBUG=sbrk=1`).

mod body;
mod choice;
mod refill;
mod values;

use std::fmt;

use leaktrace_common::go::{AllocCookie, SLOT_BYTES};

use self::body::Body;
pub use self::refill::{ALLOC_LARGE, NEXT_FREE, RefillSite, refill_sites};
use crate::binary::placement::CostClass;

/// A function as its file has it, padding behind it included.
#[derive(Clone, Copy, Debug)]
pub struct FunctionCode<'d> {
    /// With its package.
    pub name: &'d str,
    /// The address of the first instruction.
    pub svma: u64,
    /// From the first instruction on.
    pub bytes: &'d [u8],
}

/// An instruction to probe for the blocks that one function hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocSite {
    /// The function.
    pub function: String,
    /// The `ret` that it stands for, from the function's beginning.
    pub return_offset: u64,
    /// The instruction, from the function's beginning.
    pub offset: u64,
    /// Its address, as the file states it.
    pub svma: u64,
    /// What a probe on it costs.
    pub class: CostClass,
    /// What the probe is told; flags that depend on the version are not set.
    pub cookie: AllocCookie,
}

/// Why no instruction can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SitesError {
    /// The program has no such function.
    Missing(&'static str),
    /// The code of a function is not understood.
    Code {
        /// The function.
        function: String,
        /// One clause.
        why: String,
    },
}

impl fmt::Display for SitesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "it has no function {name}"),
            Self::Code { function, why } => write!(f, "{function} is not understood: {why}"),
        }
    }
}

impl std::error::Error for SitesError {}

/// The function that sweeps one span: every death goes through it.
pub const SWEEP: &str = "runtime.(*sweepLocked).sweep";

/// Called once a collection, while the world is stopped before its marking begins.
pub const BEGIN: &str = "runtime.(*gcControllerState).startCycle";

/// What compiled code calls when it allocates: nothing else returns a new block to it.
pub const ALLOCATOR: &str = "runtime.mallocgc";

/// Whether a function hands out blocks to code outside of the allocator. The others that
/// `runtime.mallocgc` calls are inlined into it where a profile tells the compiler to.
#[must_use]
pub fn hands_out(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(ALLOCATOR) else {
        return false;
    };
    rest.is_empty()
        || is_slow_path(rest)
        || number_after(rest, "SC").is_some()
        || number_after(rest, "TinySize").is_some()
}

/// Whether a function goes on with what another one that hands out blocks could not do quickly.
fn is_slow_path(name: &str) -> bool {
    name.ends_with("SlowPath")
}

/// The number that a name ends with, behind this word.
fn number_after(name: &str, word: &str) -> Option<usize> {
    let (_, digits) = name.rsplit_once(word)?;
    digits.parse().ok()
}

/// What is known of a function's blocks by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Nothing: size and type tell.
    Any,
    /// All share slots with others.
    Tiny,
    /// All lie in slots of this many bytes.
    Slot(u16),
}

impl Shape {
    fn of(name: &str) -> Self {
        let rest = name.strip_prefix(ALLOCATOR).unwrap_or_default();
        if rest.starts_with("Tiny") {
            return Self::Tiny;
        }
        match number_after(rest, "SC").and_then(|class| SLOT_BYTES.get(class)) {
            Some(bytes) => Self::Slot(*bytes),
            None => Self::Any,
        }
    }
}

/// Which function begins at an address.
pub type Names<'n> = &'n dyn Fn(u64) -> Option<&'n str>;

/// Chooses the instructions to probe for every block that these functions hand out. `name_of` tells
/// which function begins at an address.
///
/// # Errors
///
/// When the code of one of them is not understood: then some blocks would not be seen.
pub fn alloc_sites(
    functions: &[FunctionCode<'_>],
    name_of: Names<'_>,
) -> Result<Vec<AllocSite>, SitesError> {
    if !functions.iter().any(|it| it.name == ALLOCATOR) {
        return Err(SitesError::Missing(ALLOCATOR));
    }
    let mut sites = Vec::new();
    for function in functions.iter().filter(|it| hands_out(it.name)) {
        let failed = |why| SitesError::Code {
            function: function.name.to_owned(),
            why,
        };
        let body = Body::decode(*function, name_of).map_err(failed)?;
        sites.extend(choice::choose(&body, name_of).map_err(failed)?);
    }
    Ok(sites)
}

/// Where a function is probed at its beginning: behind the check that may begin it anew on a larger
/// stack, where the arguments are still in their registers. An offset from the function's beginning.
///
/// # Errors
///
/// When its beginning is not one that Go's compiler makes.
pub fn entry_site(function: FunctionCode<'_>, name_of: Names<'_>) -> Result<u64, SitesError> {
    let body = Body::decode(function, name_of);
    let found = body.and_then(|body| choice::after_stack_check(&body));
    found.map_err(|why| SitesError::Code {
        function: function.name.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests;
