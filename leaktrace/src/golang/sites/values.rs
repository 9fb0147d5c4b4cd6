//! Owns where a value is: the block on its way to the `ret`, and the arguments behind the entry.
//! Must not know which of its places is good for a probe.

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, MemorySize, OpAccess, OpKind, Register,
};

use super::body::{Body, is_call};

/// A place that holds 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A register, whole.
    Register(Register),
    /// Memory on the stack, by its distance from the return address.
    Slot(i64),
}

/// What made a value that a function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A call of the function at this address.
    Call(u64),
    /// A call of a function that is not known before it runs.
    CallOfUnknown,
    /// The address of a variable.
    Variable,
    /// Arithmetic, or a read of memory.
    Computed,
}

/// Where the value that a `ret` returns is before each instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// No way from here leads to it.
    Elsewhere,
    /// Here.
    At(Place),
    /// Nowhere yet, or not at one place.
    Nowhere,
}

/// Reads and writes of instructions.
pub struct Effects {
    factory: InstructionInfoFactory,
}

impl Effects {
    pub fn new() -> Self {
        Self {
            factory: InstructionInfoFactory::new(),
        }
    }

    /// Whether an instruction may change a place. `depth` is that before it. Writes through pointers
    /// are none to the stack: Go's compiler keeps no address of a slot that it keeps a register in.
    fn changes(&mut self, instruction: &Instruction, depth: i64, place: Place) -> bool {
        if is_call(instruction) {
            // Go's functions keep no register but rsp, rbp and r14, the goroutine.
            return matches!(place, Place::Register(_));
        }
        let info = self.factory.info(instruction);
        match place {
            Place::Register(register) => info
                .used_registers()
                .iter()
                .any(|it| writes(it.access()) && it.register().full_register() == register),
            Place::Slot(slot) => info.used_memory().iter().any(|it| {
                let Some(begin) = on_stack(it.base(), it.index(), it.displacement(), depth) else {
                    return false;
                };
                let length = it.memory_size().size().max(1) as i64;
                // What has no size of its own, as a string instruction, may write any number.
                let is_endless = it.memory_size() == MemorySize::Unknown;
                writes(it.access()) && begin < slot + 8 && (is_endless || begin + length > slot)
            }),
        }
    }
}

fn writes(access: OpAccess) -> bool {
    !matches!(
        access,
        OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    )
}

/// The slot that an address means, where it is on the stack.
fn on_stack(base: Register, index: Register, displacement: u64, depth: i64) -> Option<i64> {
    (base == Register::RSP && index == Register::None).then(|| displacement as i64 - depth)
}

/// A copy of 8 bytes from one place to another: from, to.
fn copied(instruction: &Instruction, depth: i64) -> Option<(Place, Place)> {
    if !matches!(instruction.code(), Code::Mov_r64_rm64 | Code::Mov_rm64_r64) {
        return None;
    }
    let place = |operand: u32| match instruction.op_kind(operand) {
        OpKind::Register => Some(Place::Register(instruction.op_register(operand))),
        OpKind::Memory => on_stack(
            instruction.memory_base(),
            instruction.memory_index(),
            instruction.memory_displacement64(),
            depth,
        )
        .map(Place::Slot),
        _ => None,
    };
    Some((place(1)?, place(0)?))
}

/// The place of the value that `to`, a `ret`, returns in a register, before each instruction from which all ways
/// lead there; `None` where it is not at one place.
pub fn returned(
    body: &Body<'_>,
    effects: &mut Effects,
    to: usize,
    register: Register,
) -> Vec<Option<Place>> {
    let mut courses = vec![Course::Elsewhere; body.steps.len()];
    courses[to] = Course::At(Place::Register(register));
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        for index in (0..body.steps.len()).rev().filter(|index| *index != to) {
            let step = &body.steps[index];
            let Some(depth) = step.depth else {
                continue;
            };
            let nexts = step.next.iter().map(|next| courses[*next]);
            let next = nexts.fold(Course::Elsewhere, joined);
            let course = before(&step.instruction, depth, next, effects);
            if course != courses[index] {
                courses[index] = joined(courses[index], course);
                is_settled = false;
            }
        }
    }
    let place = |course: &Course| match course {
        Course::At(place) => Some(*place),
        Course::Elsewhere | Course::Nowhere => None,
    };
    courses.iter().map(place).collect()
}

fn joined(one: Course, other: Course) -> Course {
    match (one, other) {
        (Course::Elsewhere, course) | (course, Course::Elsewhere) => course,
        (Course::At(a), Course::At(b)) if a == b => one,
        _ => Course::Nowhere,
    }
}

/// Where the value is before an instruction, from where it is behind it.
fn before(instruction: &Instruction, depth: i64, next: Course, effects: &mut Effects) -> Course {
    let Course::At(place) = next else {
        return next;
    };
    match copied(instruction, depth) {
        Some((from, to)) if to == place => Course::At(from),
        _ if effects.changes(instruction, depth, place) => Course::Nowhere,
        _ => next,
    }
}

/// What made the values that a `ret` returns, by every way to it.
pub fn origins(body: &Body<'_>, effects: &mut Effects, to: usize) -> Vec<Origin> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); body.steps.len()];
    for (index, step) in body.steps.iter().enumerate() {
        if step.depth.is_some() {
            step.next.iter().for_each(|next| before[*next].push(index));
        }
    }
    let mut origins = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut waiting = vec![(to, Place::Register(Register::RAX))];
    while let Some((index, place)) = waiting.pop() {
        if index == 0 && !origins.contains(&Origin::Computed) {
            // What the function was given.
            origins.push(Origin::Computed);
        }
        for &previous in &before[index] {
            let step = &body.steps[previous];
            let depth = step.depth.unwrap_or_default();
            let place = match copied(&step.instruction, depth) {
                Some((from, to)) if to == place => Some(from),
                _ if effects.changes(&step.instruction, depth, place) => None,
                _ => Some(place),
            };
            match place {
                Some(place) if seen.insert((previous, place)) => waiting.push((previous, place)),
                Some(_) => {}
                None => {
                    let origin = origin(&step.instruction);
                    if !origins.contains(&origin) {
                        origins.push(origin);
                    }
                }
            }
        }
    }
    origins
}

fn origin(instruction: &Instruction) -> Origin {
    match instruction.flow_control() {
        FlowControl::Call => Origin::Call(instruction.near_branch_target()),
        FlowControl::IndirectCall => Origin::CallOfUnknown,
        _ if instruction.code() == Code::Lea_r64_m && instruction.is_ip_rel_memory_operand() => {
            Origin::Variable
        }
        _ => Origin::Computed,
    }
}

/// The places that hold what `argument` held at the entry, before each instruction, by every way.
pub fn kept(body: &Body<'_>, effects: &mut Effects, argument: Register) -> Vec<Vec<Place>> {
    let mut places: Vec<Option<Vec<Place>>> = vec![None; body.steps.len()];
    places[0] = Some(vec![Place::Register(argument)]);
    let mut waiting = vec![0];
    while let Some(index) = waiting.pop() {
        let step = &body.steps[index];
        let depth = step.depth.unwrap_or_default();
        let mut held = places[index].clone().unwrap_or_default();
        let copied = copied(&step.instruction, depth).filter(|(from, _)| held.contains(from));
        held.retain(|place| !effects.changes(&step.instruction, depth, *place));
        if let Some((_, to)) = copied {
            held.push(to);
            held.sort_unstable();
            held.dedup();
        }
        for next in &step.next {
            let merged = match &places[*next] {
                None => held.clone(),
                Some(known) => known
                    .iter()
                    .filter(|it| held.contains(it))
                    .copied()
                    .collect(),
            };
            if places[*next].as_ref() != Some(&merged) {
                places[*next] = Some(merged);
                waiting.push(*next);
            }
        }
    }
    places.into_iter().map(Option::unwrap_or_default).collect()
}
