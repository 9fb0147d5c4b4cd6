//! Owns the choice among the instructions of one function.
//! Must not know how values were followed.

use iced_x86::{Code, FlowControl, Register};
use leaktrace_common::go::{AllocCookie, VALUE_IN_RAX, depth, shape};

use super::{
    AllocSite, Names, Shape,
    body::{Body, Step},
    hands_out, is_slow_path,
    values::{self, Effects, Origin, Place},
};
use crate::binary::placement::CostClass;

/// Functions whose blocks are none of the heap: they serve `GODEBUG=sbrk=1`.
const NOT_HEAP: [&str; 2] = ["runtime.persistentalloc", "runtime.preMallocgcDebug"];

/// Where the arguments are, before each instruction.
struct Arguments {
    size: Vec<Vec<Place>>,
    kind: Vec<Vec<Place>>,
    slot_bytes: Vec<Vec<Place>>,
}

/// The instructions to probe for all blocks that a function hands out.
pub fn choose(body: &Body<'_>, name_of: Names<'_>) -> Result<Vec<AllocSite>, String> {
    let mut effects = Effects::new();
    let arguments = Arguments {
        size: values::kept(body, &mut effects, Register::RAX),
        kind: values::kept(body, &mut effects, Register::RBX),
        // Only slow paths have five arguments.
        slot_bytes: match is_slow_path(body.function.name) {
            true => values::kept(body, &mut effects, Register::RSI),
            false => vec![Vec::new(); body.steps.len()],
        },
    };
    let mut sites = Vec::new();
    for to in body.returns() {
        let origins = values::origins(body, &mut effects, to);
        if !origins
            .iter()
            .all(|origin| is_passed_over(*origin, name_of))
        {
            sites.push(choose_for(body, &mut effects, &arguments, to)?);
        }
    }
    Ok(sites)
}

fn is_passed_over(origin: Origin, name_of: Names<'_>) -> bool {
    match origin {
        // Through a table of the functions that hand out blocks of one size each.
        Origin::CallOfUnknown | Origin::Variable => true,
        Origin::Call(callee) => name_of(callee).is_some_and(|name| {
            // One of its own name would be a call of itself.
            hands_out(name) || NOT_HEAP.contains(&name)
        }),
        Origin::Computed => false,
    }
}

/// The cheapest instruction that stands for a `ret`, which is the last one asked.
fn choose_for(
    body: &Body<'_>,
    effects: &mut Effects,
    arguments: &Arguments,
    to: usize,
) -> Result<AllocSite, String> {
    let returned = values::returned(body, effects, to, Register::RAX);
    let told = candidates(body, to).into_iter().find_map(|index| {
        let cookie = cookie(body, arguments, index, returned[index]?)?;
        Some((index, cookie))
    });
    let (index, cookie) = told.ok_or_else(|| {
        let at = body.offset(to);
        format!("what it returns at +{at:#x} cannot be told on the way")
    })?;
    Ok(AllocSite {
        function: body.function.name.to_owned(),
        return_offset: body.offset(to),
        offset: body.offset(index),
        svma: body.steps[index].instruction.ip(),
        class: body.steps[index].class,
        cookie,
    })
}

/// The instructions that stand for a `ret`, the cheapest first, and of equal ones the last: what is not returned
/// after all is not counted.
pub(super) fn candidates(body: &Body<'_>, to: usize) -> Vec<usize> {
    let indices = (0..body.steps.len()).filter(|index| {
        let step = &body.steps[*index];
        step.depth.is_some()
            && (step.class != CostClass::Stepped || *index == to)
            && stands_for(body, *index, to)
    });
    let mut indices: Vec<usize> = indices.collect();
    indices.sort_by_key(|index| (cost(body.steps[*index].class), std::cmp::Reverse(*index)));
    indices
}

/// How far the return address lies above rsp, with the flag that rbp is the function's own.
pub(super) fn depth_of(step: &Step) -> Option<u16> {
    let above = u16::try_from(step.depth?).ok();
    let above = above.filter(|bytes| *bytes <= depth::BYTES)?;
    Some(match step.frame_is_up {
        true => above | depth::FRAME_IS_UP,
        false => above,
    })
}

fn cost(class: CostClass) -> u8 {
    match class {
        CostClass::Emulated => 0,
        CostClass::Nop5 => 1,
        CostClass::Stepped => 2,
    }
}

/// Whether every way from the entry to the `ret` passes an instruction, exactly once, and every way
/// from it that ends with a return ends with this one.
fn stands_for(body: &Body<'_>, index: usize, to: usize) -> bool {
    if index == to {
        return true;
    }
    if index == 0 || body.after(0, Some(index))[to] {
        return false;
    }
    let after = body.after(index, None);
    let others = body.returns().into_iter().filter(|other| *other != to);
    after[to] && !after[index] && others.into_iter().all(|other| !after[other])
}

/// What the probe is told; `None` where it cannot find what it needs.
fn cookie(
    body: &Body<'_>,
    arguments: &Arguments,
    index: usize,
    block: Place,
) -> Option<AllocCookie> {
    let step = &body.steps[index];
    let above = step.depth?;
    let slot = |place: &Place| match place {
        Place::Slot(slot) => u16::try_from(slot + above)
            .ok()
            .filter(|offset| *offset < shape::TINY),
        Place::Register(_) => None,
    };
    let any_slot = |places: &[Place]| places.iter().find_map(slot);
    let value = match block {
        Place::Register(Register::RAX) => VALUE_IN_RAX,
        Place::Register(_) => return None,
        Place::Slot(_) => slot(&block)?,
    };
    let mut distance = depth_of(step)?;
    if is_slow_path(body.function.name) {
        distance |= depth::CALLER_IS_ALLOCATOR;
    }
    let (size, shape) = match Shape::of(body.function.name) {
        Shape::Tiny => (0, shape::TINY),
        Shape::Slot(bytes) => (bytes, shape::SLOT_BYTES),
        Shape::Any => match any_slot(&arguments.slot_bytes[index]) {
            Some(slot_bytes) => (slot_bytes, shape::SLOT_BYTES_AT),
            None => (
                any_slot(&arguments.size[index])?,
                any_slot(&arguments.kind[index])?,
            ),
        },
    };
    Some(AllocCookie {
        depth: distance,
        value,
        size,
        shape,
    })
}

/// The push of rbp behind the check of the stack's size, up to which only straight-line code leads and
/// no register is changed that holds an argument.
pub fn after_stack_check(body: &Body<'_>) -> Result<u64, String> {
    for index in 0..body.steps.len() {
        let step = &body.steps[index];
        let instruction = &step.instruction;
        if instruction.code() == Code::Push_r64 && instruction.op0_register() == Register::RBP {
            let jumps_in = body.steps.iter().any(|other| {
                let is_jump = other.instruction.flow_control() != FlowControl::Next;
                is_jump
                    && other.instruction.near_branch_target() != 0
                    && other.next.contains(&index)
                    && other.instruction.next_ip() != instruction.ip()
            });
            return match jumps_in {
                true => Err("something jumps to behind its stack check".to_owned()),
                false => Ok(body.offset(index)),
            };
        }
        let is_check = match instruction.code() {
            // `lea r12, [rsp - n]; cmp r12, [r14 + 16]; jbe`, the first where the frame is large.
            Code::Lea_r64_m => instruction.op0_register() == Register::R12,
            Code::Cmp_r64_rm64 | Code::Cmp_rm64_r64 => true,
            _ => instruction.flow_control() == FlowControl::ConditionalBranch,
        };
        if !is_check {
            break;
        }
    }
    Err("it does not begin as Go's functions do".to_owned())
}
