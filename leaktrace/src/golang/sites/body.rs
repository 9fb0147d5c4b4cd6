//! Owns a function's instructions and the ways between them, as Go's compiler makes them.
//! Must not know what is looked for in them.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::{FunctionCode, Names};
use crate::binary::placement::{CostClass, cost_class};

/// Functions of the allocator have up to some hundred instructions, and a few thousand with a profile.
const STEPS_MAX: usize = 32_768;

/// Functions from which no call returns.
const ENDLESS: [&str; 5] = ["throw", "panic", "fatal", "goPanic", "abort"];

/// One instruction.
pub struct Step {
    /// Decoded.
    pub instruction: Instruction,
    /// What a probe on it costs.
    pub class: CostClass,
    /// Which instructions may come next.
    pub next: Vec<usize>,
    /// How far the return address lies above rsp before it; `None` where it is never reached.
    pub depth: Option<i64>,
    /// Whether rbp points at where the caller's is saved, just below the return address.
    pub frame_is_up: bool,
}

/// A function.
pub struct Body<'d> {
    /// Where it is.
    pub function: FunctionCode<'d>,
    /// Its instructions, in the order of their addresses.
    pub steps: Vec<Step>,
}

impl<'d> Body<'d> {
    /// Decodes a function and follows its stack pointer.
    ///
    /// # Errors
    ///
    /// In one clause, when there is something in it that this does not understand.
    pub fn decode(function: FunctionCode<'d>, name_of: Names<'_>) -> Result<Self, String> {
        let mut steps = decode(function)?;
        connect(&mut steps, function, name_of)?;
        let mut body = Self { function, steps };
        body.follow_stack()?;
        Ok(body)
    }

    /// From the function's beginning.
    pub fn offset(&self, index: usize) -> u64 {
        self.steps[index].instruction.ip() - self.function.svma
    }

    /// The `ret` instructions that are reached.
    pub fn returns(&self) -> Vec<usize> {
        let is_return = |step: &Step| {
            step.depth.is_some() && step.instruction.flow_control() == FlowControl::Return
        };
        let indices = 0..self.steps.len();
        indices.filter(|it| is_return(&self.steps[*it])).collect()
    }

    /// Every instruction that may come after this one, itself only where a loop leads back to it; as
    /// flags by index. Ways do not lead on from `but`.
    pub fn after(&self, from: usize, but: Option<usize>) -> Vec<bool> {
        let mut seen = vec![false; self.steps.len()];
        let mut waiting = vec![from];
        while let Some(index) = waiting.pop() {
            for next in &self.steps[index].next {
                if !seen[*next] && Some(*next) != but {
                    seen[*next] = true;
                    waiting.push(*next);
                }
            }
        }
        seen
    }

    /// Gives each instruction its depth, which must be one however it is reached.
    fn follow_stack(&mut self) -> Result<(), String> {
        self.steps[0].depth = Some(0);
        let mut waiting = vec![0];
        while let Some(index) = waiting.pop() {
            let step = &self.steps[index];
            let depth = step.depth.unwrap_or_default();
            let (after, is_up) = stack_effect(&step.instruction, depth, step.frame_is_up)
                .ok_or_else(|| format!("rsp is set at +{:#x}", self.offset(index)))?;
            for next in step.next.clone() {
                let known = &mut self.steps[next];
                match known.depth {
                    None => {
                        (known.depth, known.frame_is_up) = (Some(after), is_up);
                        waiting.push(next);
                    }
                    Some(before) if before != after => {
                        return Err(format!("rsp differs at +{:#x}", self.offset(next)));
                    }
                    Some(_) if known.frame_is_up && !is_up => {
                        known.frame_is_up = false;
                        waiting.push(next);
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn decode(function: FunctionCode<'_>) -> Result<Vec<Step>, String> {
    let bytes = function.bytes;
    let mut decoder = Decoder::with_ip(64, bytes, function.svma, DecoderOptions::NONE);
    let mut steps = Vec::new();
    while decoder.can_decode() {
        let at = decoder.position();
        let instruction = decoder.decode();
        let bytes = bytes.get(at..decoder.position()).unwrap_or_default();
        if instruction.is_invalid() {
            return Err(format!("bytes at +{at:#x} do not decode"));
        }
        if steps.len() == STEPS_MAX {
            return Err(format!("it has more than {STEPS_MAX} instructions"));
        }
        steps.push(Step {
            instruction,
            class: cost_class(bytes, instruction.ip()),
            next: Vec::new(),
            depth: None,
            frame_is_up: false,
        });
    }
    if steps.is_empty() {
        return Err("it has no code".to_owned());
    }
    Ok(steps)
}

fn connect(
    steps: &mut [Step],
    function: FunctionCode<'_>,
    name_of: Names<'_>,
) -> Result<(), String> {
    let addresses: Vec<u64> = steps.iter().map(|step| step.instruction.ip()).collect();
    let count = steps.len();
    for (index, step) in steps.iter_mut().enumerate() {
        let instruction = &step.instruction;
        let at = instruction.ip() - function.svma;
        let flow = instruction.flow_control();
        let mut goes_on = true;
        match flow {
            FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => {
                goes_on = false;
            }
            FlowControl::Call => {
                let callee = name_of(instruction.near_branch_target());
                goes_on = !callee.is_some_and(is_endless);
            }
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let target = instruction.near_branch_target();
                let Ok(target_index) = addresses.binary_search(&target) else {
                    return Err(format!("the jump at +{at:#x} leaves it"));
                };
                // Back to the beginning, once the stack is large enough: a new call.
                if target_index != 0 {
                    step.next.push(target_index);
                }
                goes_on = flow == FlowControl::ConditionalBranch;
            }
            FlowControl::IndirectBranch => {
                return Err(format!("where the jump at +{at:#x} leads is not known"));
            }
            _ => {}
        }
        if goes_on && index + 1 < count {
            step.next.push(index + 1);
        }
    }
    Ok(())
}

/// Whether calls of a function never return.
fn is_endless(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("runtime.") else {
        return false;
    };
    ENDLESS.iter().any(|word| rest.starts_with(word))
}

/// Depth and frame behind an instruction; `None` where it sets rsp in another way than Go does.
fn stack_effect(instruction: &Instruction, depth: i64, is_up: bool) -> Option<(i64, bool)> {
    let writes_rsp = matches!(instruction.op0_kind(), OpKind::Register)
        && instruction.op0_register().full_register() == Register::RSP;
    match instruction.code() {
        Code::Push_r64 => Some((depth + 8, is_up)),
        Code::Pop_r64 if instruction.op0_register() == Register::RBP => Some((depth - 8, false)),
        Code::Pop_r64 if !writes_rsp => Some((depth - 8, is_up)),
        Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 if writes_rsp => {
            Some((depth + instruction.immediate(1) as i64, is_up))
        }
        Code::Add_rm64_imm8 | Code::Add_rm64_imm32 if writes_rsp => {
            Some((depth - instruction.immediate(1) as i64, is_up))
        }
        Code::Mov_rm64_r64 | Code::Mov_r64_rm64
            if is_register(instruction, 0, Register::RBP)
                && is_register(instruction, 1, Register::RSP) =>
        {
            // The caller's rbp was pushed first, so that rsp points at it.
            Some((depth, depth == 8))
        }
        _ if is_call(instruction) => Some((depth, is_up)),
        _ if instruction.flow_control() == FlowControl::Return => Some((depth, is_up)),
        _ if instruction.stack_pointer_increment() != 0 => None,
        _ if writes_rsp && !reads_only(instruction) => None,
        _ if is_register(instruction, 0, Register::RBP) && !reads_only(instruction) => {
            Some((depth, false))
        }
        _ => Some((depth, is_up)),
    }
}

/// Whether an instruction calls a function, which leaves rsp as it found it.
pub fn is_call(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    )
}

fn is_register(instruction: &Instruction, operand: u32, register: Register) -> bool {
    operand < instruction.op_count()
        && instruction.op_kind(operand) == OpKind::Register
        && instruction.op_register(operand) == register
}

/// Whether an instruction leaves its first operand as it is.
fn reads_only(instruction: &Instruction) -> bool {
    use iced_x86::Mnemonic;
    matches!(
        instruction.mnemonic(),
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt | Mnemonic::Nop | Mnemonic::Push
    )
}
