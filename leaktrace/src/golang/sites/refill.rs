//! Owns the choice of the instructions that are probed where the allocator's cache gets its blocks.
//! Must not know how many blocks it gets.
//!
//! `(*mcache).nextFree` returns a block and its span, `(*mcache).allocLarge` the span of a block of its own. As for
//! the allocator itself, an instruction must stand for the `ret`, and each of these values must be at one place.

use iced_x86::Register;
use leaktrace_common::go::place;

use super::{FunctionCode, Names, SitesError, body::Body, choice, values};
use crate::binary::placement::CostClass;

/// Gives a small block when no free one is known, and finds more of its kind.
pub const NEXT_FREE: &str = "runtime.(*mcache).nextFree";

/// Gives a block that has a span of its own.
pub const ALLOC_LARGE: &str = "runtime.(*mcache).allocLarge";

/// An instruction to probe for the blocks that a cache gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefillSite {
    /// `NEXT_FREE` or `ALLOC_LARGE`.
    pub function: &'static str,
    /// The `ret` that it stands for, from the function's beginning.
    pub return_offset: u64,
    /// The instruction, from the function's beginning.
    pub offset: u64,
    /// Its address, as the file states it.
    pub svma: u64,
    /// What a probe on it costs.
    pub class: CostClass,
    /// How far the return address lies above rsp, with `depth`'s flags.
    pub depth: u16,
    /// Where the block is, one of `place`.
    pub block: u8,
    /// Where the span is.
    pub span: u8,
}

/// Chooses the instructions to probe for the blocks that caches get.
///
/// # Errors
///
/// When one of the two functions is not there, or its code is not understood.
pub fn refill_sites(
    functions: &[FunctionCode<'_>],
    name_of: Names<'_>,
) -> Result<Vec<RefillSite>, SitesError> {
    let mut sites = Vec::new();
    for name in [NEXT_FREE, ALLOC_LARGE] {
        let function = functions.iter().find(|it| it.name == name);
        let function = *function.ok_or(SitesError::Missing(name))?;
        let found = Body::decode(function, name_of).and_then(|body| choose(&body, name));
        sites.extend(found.map_err(|why| SitesError::Code {
            function: name.to_owned(),
            why,
        })?);
    }
    Ok(sites)
}

fn choose(body: &Body<'_>, function: &'static str) -> Result<Vec<RefillSite>, String> {
    let returns = body.returns();
    if returns.is_empty() {
        return Err("it never returns".to_owned());
    }
    let chosen = returns.into_iter().map(|to| {
        choose_for(body, function, to).ok_or_else(|| {
            let at = body.offset(to);
            format!("what it returns at +{at:#x} cannot be told on the way")
        })
    });
    chosen.collect()
}

/// The cheapest instruction that stands for a `ret`.
fn choose_for(body: &Body<'_>, function: &'static str, to: usize) -> Option<RefillSite> {
    let mut effects = values::Effects::new();
    let mut returned = |register| values::returned(body, &mut effects, to, register);
    let first = returned(Register::RAX);
    let second = returned(Register::RBX);
    choice::candidates(body, to).into_iter().find_map(|index| {
        let step = &body.steps[index];
        let at = |values: &[Option<values::Place>]| place_of(values[index]?, step.depth?);
        let (block, span) = match function {
            ALLOC_LARGE => (place::SPAN, at(&first)?),
            _ => (at(&first)?, at(&second)?),
        };
        Some(RefillSite {
            function,
            return_offset: body.offset(to),
            offset: body.offset(index),
            svma: step.instruction.ip(),
            class: step.class,
            depth: choice::depth_of(step)?,
            block,
            span,
        })
    })
}

/// A place as the probe is told it.
fn place_of(value: values::Place, above: i64) -> Option<u8> {
    match value {
        values::Place::Register(Register::RAX) => Some(place::RAX),
        values::Place::Register(Register::RBX) => Some(place::RBX),
        values::Place::Register(_) => None,
        values::Place::Slot(slot) => {
            let offset = u64::try_from(slot + above).ok()?;
            let word = u8::try_from(offset / 8).ok()?;
            (offset.is_multiple_of(8) && word < place::SPAN).then_some(word)
        }
    }
}
