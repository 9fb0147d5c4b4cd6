//! Owns following a function's control flow: where it jumps to, what it calls, where it returns.
//! Must not know allocators, files or how a probe is attached.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::elf::Elf;

/// The functions of interest stay below 2 KiB, with what they jump to below 16.
const MAX_INSTRUCTIONS: usize = 8192;
/// The longest instruction of x86.
const INSTRUCTION_BYTES: u64 = 15;
/// A function that returns at more places is not followed.
const MAX_RETURNS: usize = 64;
/// Rust's function for an allocation calls that of a type, and this that of the system's.
const MAX_CALLS: u32 = 2;
/// A jump leads through a table of links and at most one more.
const MAX_HOPS: usize = 4;

/// Where a jump or a call leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'d> {
    /// The address in this file, where it lies in this file.
    pub svma: Option<u64>,
    /// The name by which the loader binds it, where it does.
    pub name: Option<&'d str>,
}

/// Where a function leads that does nothing but jump: its arguments and its return address are the
/// target's.
pub fn forwards_to<'d>(elf: &Elf<'d>, svma: u64) -> Option<Target<'d>> {
    let first = first_instruction(elf, svma)?;
    let target = jump_target(elf, &first)?;
    Some(resolved(elf, target))
}

/// The same of a function that may change all arguments but the first before it jumps.
pub fn passes_first_to<'d>(elf: &Elf<'d>, svma: u64) -> Option<Target<'d>> {
    /// As many other arguments there are.
    const CHANGES_MAX: usize = 5;
    let code = elf.code_up_to(svma, (CHANGES_MAX as u64 + 2) * INSTRUCTION_BYTES);
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    for instruction in decoder.iter().take(CHANGES_MAX + 2) {
        if is_jump(&instruction) {
            return direct_target(elf, &instruction).map(|target| resolved(elf, target));
        }
        let sets_other = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Xor)
            && instruction.op0_kind() == OpKind::Register
            && OTHER_ARGUMENTS.contains(&instruction.op0_register().full_register());
        let is_nothing = matches!(instruction.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Nop);
        if !sets_other && !is_nothing {
            return None;
        }
    }
    None
}

/// Where the System V calling convention passes integer arguments but the first.
const OTHER_ARGUMENTS: [Register; 5] = [
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// What a function calls or jumps to, as far as its own code tells.
pub fn calls<'d>(elf: &Elf<'d>, svma: u64, size: u64) -> Vec<Target<'d>> {
    let code = elf.code_up_to(svma, size.min(64 * 1024));
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    let mut targets = Vec::new();
    while decoder.can_decode() && targets.len() < MAX_INSTRUCTIONS {
        let instruction = decoder.decode();
        let leaves = matches!(
            instruction.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        );
        let target = if leaves || is_jump(&instruction) {
            direct_target(elf, &instruction)
        } else {
            None
        };
        if let Some(target) = target {
            let is_inside = target
                .svma
                .is_some_and(|it| (svma..svma.saturating_add(size)).contains(&it));
            if !is_inside {
                targets.push(resolved(elf, target));
            }
        }
    }
    targets
}

/// Whether a function leads to a wanted one, or to one that is not known: by jumps, by its own calls, or by those of what
/// it calls.
///
/// No further: far enough behind every function are those that tell of a failure, and they call everything.
pub fn leads_to(elf: &Elf<'_>, svma: u64, is_wanted: impl Fn(Target<'_>) -> bool) -> bool {
    let mut visited = BTreeSet::new();
    let mut waiting = vec![(svma, 0)];
    while let Some((start, depth)) = waiting.pop() {
        let mut at = start;
        while visited.len() < MAX_INSTRUCTIONS && visited.insert(at) {
            let code = elf.code_up_to(at, INSTRUCTION_BYTES);
            let mut decoder = Decoder::with_ip(64, code, at, DecoderOptions::NONE);
            if !decoder.can_decode() {
                break;
            }
            let instruction = decoder.decode();
            let flow = instruction.flow_control();
            let is_call = matches!(flow, FlowControl::Call | FlowControl::IndirectCall);
            if is_call || is_jump(&instruction) {
                let Some(target) = direct_target(elf, &instruction) else {
                    return true;
                };
                let target = resolved(elf, target);
                if is_wanted(target) {
                    return true;
                }
                let depth = depth + u32::from(is_call);
                let next = target.svma.filter(|_| depth <= MAX_CALLS);
                waiting.extend(next.map(|it| (it, depth)));
            }
            match flow {
                FlowControl::ConditionalBranch => {
                    waiting.push((instruction.near_branch_target(), depth));
                }
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                _ => break,
            }
            at = instruction.next_ip();
        }
    }
    false
}

/// What a function calls or jumps to first, where every path from its entry leads there.
pub fn first_call<'d>(elf: &Elf<'d>, svma: u64) -> Option<Target<'d>> {
    let code = elf.code_up_to(svma, 256);
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::Call | FlowControl::IndirectCall => {
                return direct_target(elf, &instruction).map(|target| resolved(elf, target));
            }
            _ => return None,
        }
    }
    None
}

/// The addresses of every instruction by which a function returns, those of the functions that it
/// ends in by a jump among them.
///
/// # Errors
///
/// Where the code cannot be followed to its ends, in one clause.
pub fn returns(elf: &Elf<'_>, svma: u64) -> Result<Vec<u64>, String> {
    let mut ends = BTreeSet::new();
    let mut visited = BTreeSet::new();
    let mut waiting = vec![svma];
    let mut count = 0;
    while let Some(start) = waiting.pop() {
        let mut at = start;
        while visited.insert(at) {
            count += 1;
            if count > MAX_INSTRUCTIONS {
                return Err(format!("more than {MAX_INSTRUCTIONS} instructions"));
            }
            let code = elf.code_up_to(at, INSTRUCTION_BYTES);
            let mut decoder = Decoder::with_ip(64, code, at, DecoderOptions::NONE);
            if !decoder.can_decode() {
                return Err(format!("there is no code at {at:#x}"));
            }
            let instruction = decoder.decode();
            match instruction.flow_control() {
                FlowControl::Return => {
                    ends.insert(at);
                    break;
                }
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                    waiting.extend(jump_inside(elf, &instruction, at)?);
                    break;
                }
                FlowControl::ConditionalBranch => {
                    waiting.push(instruction.near_branch_target());
                }
                FlowControl::Call | FlowControl::IndirectCall if is_end(elf, &instruction) => {
                    break;
                }
                FlowControl::Exception => {
                    if instruction.is_invalid() {
                        return Err(format!("bytes at {at:#x} do not decode"));
                    }
                    break;
                }
                // Padding: nothing comes here.
                FlowControl::Interrupt => break,
                _ => {}
            }
            at = instruction.next_ip();
        }
        if ends.len() > MAX_RETURNS {
            return Err(format!("it returns at more than {MAX_RETURNS} places"));
        }
    }
    if ends.is_empty() {
        return Err(String::from("no instruction returns"));
    }
    Ok(ends.into_iter().collect())
}

/// Where a jump goes on, if it goes on in this file.
fn jump_inside(elf: &Elf<'_>, instruction: &Instruction, at: u64) -> Result<Option<u64>, String> {
    let target = direct_target(elf, instruction)
        .ok_or_else(|| format!("the jump at {at:#x} may lead anywhere"))?;
    let target = resolved(elf, target);
    match (target.svma, target.name) {
        (Some(svma), _) => Ok(Some(svma)),
        // What does not come back ends the function too.
        (None, Some(name)) if NO_RETURN.contains(&name) => Ok(None),
        (None, name) => Err(format!(
            "the jump at {at:#x} leads to another file{}",
            name.map_or(String::new(), |name| format!(", to {name}"))
        )),
    }
}

/// Functions that never come back: what stands behind a call of one is other code.
const NO_RETURN: &[&str] = &[
    "abort",
    "exit",
    "_exit",
    "__assert_fail",
    "__stack_chk_fail",
    "__cxa_throw",
    "__cxa_rethrow",
    "__cxa_bad_cast",
    "__cxa_call_unexpected",
    "__cxa_throw_bad_array_new_length",
    "_Unwind_Resume",
    "_ZSt9terminatev",
    "_ZSt17__throw_bad_allocv",
    "_ZSt28__throw_bad_array_new_lengthv",
];

fn is_end(elf: &Elf<'_>, call: &Instruction) -> bool {
    let target = direct_target(elf, call).map(|target| resolved(elf, target));
    target
        .and_then(|target| target.name)
        .is_some_and(|name| NO_RETURN.contains(&name))
}

/// Goes through tables of links and functions that only jump.
fn resolved<'d>(elf: &Elf<'d>, target: Target<'d>) -> Target<'d> {
    let mut target = target;
    for _ in 0..MAX_HOPS {
        if target.name.is_some() {
            return target;
        }
        let next = target
            .svma
            .and_then(|svma| first_instruction(elf, svma))
            // Only what leads through a slot is a link; a plain jump has a place of its own.
            .filter(Instruction::is_ip_rel_memory_operand)
            .and_then(|first| jump_target(elf, &first));
        match next {
            Some(next) => target = next,
            None => return target,
        }
    }
    target
}

/// The first instruction that does something.
fn first_instruction(elf: &Elf<'_>, svma: u64) -> Option<Instruction> {
    let code = elf.code_up_to(svma, 3 * INSTRUCTION_BYTES);
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.mnemonic() != Mnemonic::Endbr64 && instruction.mnemonic() != Mnemonic::Nop {
            return Some(instruction);
        }
    }
    None
}

fn is_jump(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
    )
}

fn jump_target<'d>(elf: &Elf<'d>, instruction: &Instruction) -> Option<Target<'d>> {
    is_jump(instruction).then(|| direct_target(elf, instruction))?
}

/// Where a jump or a call leads by its own bytes, or by a slot that the loader fills.
fn direct_target<'d>(elf: &Elf<'d>, instruction: &Instruction) -> Option<Target<'d>> {
    if instruction.is_ip_rel_memory_operand() {
        let bound = elf.bound_at(instruction.ip_rel_memory_address())?;
        return Some(Target {
            svma: bound.svma,
            name: Some(bound.name),
        });
    }
    (instruction.op_count() == 1 && instruction.op0_kind() == OpKind::NearBranch64).then(|| {
        Target {
            svma: Some(instruction.near_branch_target()),
            name: None,
        }
    })
}
