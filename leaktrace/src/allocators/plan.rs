//! Owns the plan of probes for one file: where each function is probed and how its result is had.
//! Must not know names' tables or where a file lies.

use leaktrace_common::{
    call::Call,
    cookie::{Family, Layout, Shape},
};

use super::{
    Allocator, ChosenProbe, Forwarded, NotCovered, Outcome, ReturnProbes,
    detect::{self, Found},
};
use crate::binary::{
    elf::Elf,
    flow::{self, Target},
    placement::{self, Extent, FunctionCode, MAX_UNSIZED_BYTES, Need},
};

/// The allocators that a file defines, each with its probes. `more` are other symbol tables of the
/// same file.
#[must_use]
pub fn examine(elf: &Elf<'_>, more: &[&Elf<'_>], return_probes: ReturnProbes) -> Vec<Allocator> {
    plan(elf, &detect::find(elf, more), return_probes)
}

/// Chooses the probes for what was found.
pub(super) fn plan(elf: &Elf<'_>, found: &[Found], return_probes: ReturnProbes) -> Vec<Allocator> {
    let mut allocators: Vec<Allocator> = Vec::new();
    let rust_is_seen_below = rust_is_seen_below(elf, found);
    let is_wanted = |it: &&Found| it.family != Family::Rust || !rust_is_seen_below;
    for each in found.iter().filter(is_wanted) {
        let judged = judge(elf, found, each, return_probes);
        let family = match &judged {
            Ok(Judged::Probe(layout, _)) if layout.shape == Shape::Outer => Family::Cpp,
            _ if each.point.layout.shape == Shape::Throw => Family::Cpp,
            _ => each.family,
        };
        let index = index_of(&mut allocators, family, &each.prefix);
        // A place is probed once, whoever's its names are.
        let taken = allocators.iter_mut().find_map(|it| {
            let mut probes = it.probes.iter_mut();
            probes.find(|probe| probe.entry_svma == each.svma)
        });
        let outcome = match (taken, judged) {
            (Some(probe), _) => share(probe, each),
            (None, Ok(Judged::Forwards(to))) => {
                allocators[index].forwarded.push(Forwarded {
                    name: each.name.clone(),
                    to,
                });
                Ok(())
            }
            (None, Ok(Judged::Probe(layout, outcome))) => {
                let probe = place(elf, each, layout, outcome);
                probe.map(|probe| {
                    let probe = ChosenProbe { family, ..probe };
                    allocators[index].probes.push(probe);
                })
            }
            (None, Err(reason)) => Err(reason),
        };
        if let Err(reason) = outcome {
            allocators[index].not_covered.push(NotCovered {
                name: each.name.clone(),
                reason,
            });
        }
    }
    allocators.retain(|it| !it.probes.is_empty() || !it.not_covered.is_empty());
    allocators
}

/// Whether Rust's functions end in others that are seen: then they need not be.
///
/// That a file has or asks for a `malloc` does not tell: Rust's library calls it for purposes of its own, whatever the
/// global allocator is.
fn rust_is_seen_below(elf: &Elf<'_>, found: &[Found]) -> bool {
    let is_alloc = |it: &&Found| it.family == Family::Rust && it.point.layout.shape == Shape::Block;
    found.iter().filter(is_alloc).any(|each| {
        flow::leads_to(elf, each.svma, |target| {
            let entry = entry_at(found, each, target);
            let known = found
                .iter()
                .any(|it| it.family == Family::Rust && Some(it.svma) == target.svma);
            !known && entry.is_some_and(|(_, layout)| layout.shape.returns_block())
        })
    })
}

/// What is to be done about a function.
enum Judged {
    /// It does nothing but jump to this one, which is seen.
    Forwards(String),
    /// It is probed.
    Probe(Layout, Outcome),
}

fn judge(
    elf: &Elf<'_>,
    found: &[Found],
    each: &Found,
    return_probes: ReturnProbes,
) -> Result<Judged, String> {
    if each.family == Family::Rust {
        // It does, and not with every call: a free that is missed makes a leak of what is none.
        return Err(String::from(
            "the compiler may have put it into its callers, and no function that is known lies behind it",
        ));
    }
    if each.ifunc {
        return Err(String::from(
            "an IFUNC: its address is the resolver's, not the function's",
        ));
    }
    let layout = each.point.layout;
    if let Some(to) = forwards(elf, found, each) {
        return Ok(Judged::Forwards(to));
    }
    if !layout.shape.returns_block() {
        return Ok(Judged::Probe(layout, Outcome::None));
    }
    if each.point.call == Call::OperatorNew && has_others_make_it(elf, found, each) {
        let shape = Shape::Outer;
        return Ok(Judged::Probe(Layout { shape, ..layout }, Outcome::None));
    }
    let why_not = if each.point.throws {
        "an exception may leave it"
    } else if return_probes == ReturnProbes::Avoided {
        "a return probe may end the process on this kernel"
    } else {
        return Ok(Judged::Probe(layout, Outcome::Return));
    };
    let returns = flow::returns(elf, each.svma)
        .map_err(|why| format!("{why_not}, and its ends are not known: {why}"))?;
    let offsets = returns.iter().map(|svma| elf.svma_to_file_offset(*svma));
    let offsets = offsets.collect::<Option<_>>();
    let offsets = offsets.ok_or_else(|| format!("{why_not}, and it ends in another segment"))?;
    Ok(Judged::Probe(layout, Outcome::Instructions(offsets)))
}

/// The function that is seen in this one's place, where this one only jumps there.
fn forwards(elf: &Elf<'_>, found: &[Found], each: &Found) -> Option<String> {
    let is_free = each.point.layout.shape == Shape::Free;
    let target = match flow::forwards_to(elf, each.svma) {
        None if is_free => flow::passes_first_to(elf, each.svma)?,
        target => target?,
    };
    let (name, layout) = entry_at(found, each, target)?;
    (layout == each.point.layout).then_some(name)
}

/// Whether another of the functions makes the block that this one returns.
///
/// In a file that has no allocator of its own, that is so where it calls one at all. Where there is
/// one, its fast path may be built in and only the slow one a call: then the first thing that the
/// function does must be the call.
fn has_others_make_it(elf: &Elf<'_>, found: &[Found], each: &Found) -> bool {
    let makes = |target| {
        let entry = entry_at(found, each, target);
        entry.is_some_and(|(_, layout)| layout.shape.returns_block())
    };
    if each.family == Family::Cpp {
        let size = if each.size == 0 {
            MAX_UNSIZED_BYTES as u64
        } else {
            each.size
        };
        return flow::calls(elf, each.svma, size).into_iter().any(makes);
    }
    flow::first_call(elf, each.svma).is_some_and(makes)
}

/// The entry point to which a jump or a call leads.
fn entry_at(found: &[Found], from: &Found, target: Target<'_>) -> Option<(String, Layout)> {
    let here = found
        .iter()
        .find(|it| Some(it.svma) == target.svma && it.svma != from.svma);
    if let Some(here) = here {
        return Some((here.name.clone(), here.point.layout));
    }
    let name = target.name?;
    let point = detect::known(name)?;
    Some((name.to_owned(), point.layout))
}

/// Adds a name to the probe that stands at its address already.
fn share(probe: &mut ChosenProbe, each: &Found) -> Result<(), String> {
    let alike = |layout: Layout| {
        let shape = match layout.shape {
            Shape::Outer => Shape::Block,
            shape => shape,
        };
        Layout { shape, ..layout }
    };
    if alike(probe.layout) != alike(each.point.layout) {
        return Err(format!(
            "shares its code with {}, which takes other arguments",
            probe.name()
        ));
    }
    probe.names.push(each.name.clone());
    Ok(())
}

fn place(
    elf: &Elf<'_>,
    each: &Found,
    layout: Layout,
    outcome: Outcome,
) -> Result<ChosenProbe, String> {
    let entry_file_offset = elf
        .svma_to_file_offset(each.svma)
        .ok_or("its address is not in the file's code")?;
    let need = match outcome {
        Outcome::Return => Need::RegistersAndReturn(each.point.arguments()),
        Outcome::Instructions(_) | Outcome::None => Need::Registers(each.point.arguments()),
    };
    let placement = placement::choose(code_of(elf, each), need);
    if let Some(hazard) = placement.hazard {
        return Err(String::from(hazard));
    }
    Ok(ChosenProbe {
        call: each.point.call,
        layout,
        family: each.family,
        names: vec![each.name.clone()],
        entry_svma: each.svma,
        entry_file_offset,
        size: each.size,
        file_offset: entry_file_offset + placement.offset,
        class: placement.class,
        instruction: placement.instruction,
        why: placement.why,
        outcome,
    })
}

fn index_of(allocators: &mut Vec<Allocator>, family: Family, prefix: &str) -> usize {
    let known = allocators
        .iter()
        .position(|it| it.family == family && it.prefix == prefix);
    known.unwrap_or_else(|| {
        allocators.push(Allocator {
            family,
            prefix: prefix.to_owned(),
            probes: Vec::new(),
            forwarded: Vec::new(),
            not_covered: Vec::new(),
        });
        allocators.len() - 1
    })
}

fn code_of<'d>(elf: &Elf<'d>, function: &Found) -> FunctionCode<'d> {
    let svma = function.svma;
    match elf.code(svma, function.size) {
        Some(bytes) => FunctionCode {
            bytes,
            svma,
            extent: Extent::Whole,
        },
        None => FunctionCode {
            bytes: elf.code_up_to(svma, MAX_UNSIZED_BYTES as u64),
            svma,
            extent: Extent::Unknown,
        },
    }
}
