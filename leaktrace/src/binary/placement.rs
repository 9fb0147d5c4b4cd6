//! Owns the choice of the instruction of a function that is probed, and the proof behind it.
//! Must not know allocators, files or how a probe is attached.
//!
//! A probe on an emulated instruction costs a third (bare metal) to a tenth (virtual machine) of
//! one on an instruction that the kernel single-steps out of line, and many functions have an
//! emulated one just behind a dear entry. It may be taken instead of the entry when it runs
//! exactly once per call and sees what the entry sees. Proven here, from the bytes:
//!
//! * it lies on an instruction boundary: decoding is linear from the entry;
//! * every call reaches it, once: only straight-line code precedes it, and no branch of the body
//!   leads behind the entry and before its end;
//! * the argument registers, `rsp` and the stack are as the caller left them: nothing before it
//!   writes them.
//!
//! Residual: code outside the symbol (a `.cold` part, a second label in assembler source) could
//! jump in. Nothing in glibc 2.36 does; a call would then be counted twice or not at all,
//! but nothing in the target breaks, because the boundary holds all the same. Indirect jumps are
//! accepted only through one fixed slot (a tail call through the GOT): any other may be a jump
//! table whose targets are unknown, and then the entry is kept.

mod aarch64;
mod cost;

use std::fmt::Write as _;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter as _, Instruction, InstructionInfoFactory,
    IntelFormatter, OpAccess, OpKind, Register,
};

pub use self::cost::CostClass;
pub(crate) use self::cost::cost_class;
use self::cost::hazard;

/// Compilers test at most a handful of conditions before the first push or branch.
const MAX_PREFIX_INSTRUCTIONS: usize = 16;
/// The entry functions of glibc 2.36 stay below 2 KiB; 64 KiB decode in about a millisecond.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How much is searched for jumps back where the symbol states no size.
pub const MAX_UNSIZED_BYTES: usize = 4096;
/// Where the System V calling convention passes integer arguments.
const ARGUMENTS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// A function as its file has it.
#[derive(Clone, Copy, Debug)]
pub struct FunctionCode<'d> {
    /// From the first instruction on; the whole body where `extent` says so.
    pub bytes: &'d [u8],
    /// The address of the first instruction.
    pub svma: u64,
    /// Whether `bytes` ends where the function ends.
    pub extent: Extent,
}

/// What is known of a function's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The bytes are the function.
    Whole,
    /// The bytes may end within the function or go on into the next one.
    Unknown,
}

/// What must be intact when the probe fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The first arguments, and the caller's address at `[rsp]` for the stack walk.
    Registers(u8),
    /// The same, and a return probe may replace the address at `[rsp]`. The proof is the same
    /// one; the need is told apart because here a wrong `rsp` would break the target.
    RegistersAndReturn(u8),
}

impl Need {
    fn arguments(self) -> &'static [Register] {
        let (Need::Registers(count) | Need::RegistersAndReturn(count)) = self;
        &ARGUMENTS[..usize::from(count).min(ARGUMENTS.len())]
    }
}

/// Where to probe a function, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes from the entry; always an instruction boundary.
    pub offset: u64,
    /// The cost of that instruction.
    pub class: CostClass,
    /// The instruction, in Intel syntax.
    pub instruction: String,
    /// The proof, or why the entry was kept, in one clause.
    pub why: String,
    /// Set where a probe must not be placed at all, not even on the entry.
    pub hazard: Option<&'static str>,
}

/// One decoded instruction with its bytes.
struct Step<'d> {
    at: usize,
    bytes: &'d [u8],
    instruction: Instruction,
}

impl Step<'_> {
    fn end(&self) -> usize {
        self.at + self.bytes.len()
    }
}

/// An instruction that may be probed as far as the code before it tells.
struct Candidate {
    offset: usize,
    end: usize,
    class: CostClass,
    instruction: Instruction,
}

/// What the body holds against a probe behind the entry; each is the offset of the culprit.
#[derive(Default)]
struct BodyFacts {
    jumps_in: Option<usize>,
    loops_to_entry: Option<usize>,
    unknown_jump: Option<usize>,
    undecodable: Option<usize>,
}

/// Chooses the cheapest instruction that is proven equal to the entry, else the entry.
///
/// An emulated instruction is preferred to a 5-byte nop: it costs 0.2 µs more on 6.18 and later,
/// but 0.6 µs less (bare metal) on everything older.
pub fn choose(function: FunctionCode<'_>, need: Need) -> Placement {
    if cfg!(target_arch = "aarch64") {
        return aarch64::choose(function);
    }
    let Some(entry) = steps(function)
        .next()
        .filter(|step| !step.instruction.is_invalid())
    else {
        return Placement {
            offset: 0,
            class: CostClass::Stepped,
            instruction: String::from("(bad)"),
            why: String::from("the entry does not decode"),
            hazard: Some("the entry does not decode"),
        };
    };
    let entry_class = cost_class(entry.bytes, function.svma);
    let found = if entry_class == CostClass::Emulated {
        Err(String::from("the entry itself is emulated"))
    } else {
        candidate_behind(function, need)
            .and_then(|candidate| prove(function, need, candidate))
            .map_err(|reason| format!("entry kept: {reason}"))
    };
    let (candidate, why) = match found {
        Ok(proven) => proven,
        Err(why) => (
            Candidate {
                offset: 0,
                end: entry.end(),
                class: entry_class,
                instruction: entry.instruction,
            },
            why,
        ),
    };
    Placement {
        offset: candidate.offset as u64,
        class: candidate.class,
        instruction: intel(&candidate.instruction),
        why,
        hazard: if candidate.offset == 0 {
            hazard(entry.bytes)
        } else {
            None
        },
    }
}

/// Walks the straight line behind the entry, up to the first emulated instruction.
fn candidate_behind(function: FunctionCode<'_>, need: Need) -> Result<Candidate, String> {
    let mut info = InstructionInfoFactory::new();
    let mut nop: Option<Candidate> = None;
    let mut stop = String::from("no emulated instruction near the entry");
    for step in steps(function).take(MAX_PREFIX_INSTRUCTIONS) {
        let at = step.at;
        if step.instruction.is_invalid() {
            stop = format!("bytes at +{at:#x} do not decode");
            break;
        }
        let class = cost_class(step.bytes, function.svma.wrapping_add(at as u64));
        let instruction = step.instruction;
        let candidate = Candidate {
            offset: at,
            end: step.end(),
            class,
            instruction,
        };
        match class {
            CostClass::Emulated => return Ok(candidate),
            CostClass::Nop5 => nop = nop.or(Some(candidate)),
            CostClass::Stepped => {}
        }
        if let Some(harm) = harm(&mut info, &step.instruction, need) {
            stop = format!("{harm} at +{at:#x}, before any emulated instruction");
            break;
        }
    }
    // A nop that is the entry needs no proof and is what the fallback gives.
    nop.filter(|candidate| candidate.offset > 0).ok_or(stop)
}

/// Why nothing behind this instruction sees what the entry sees.
fn harm(
    info: &mut InstructionInfoFactory,
    instruction: &Instruction,
    need: Need,
) -> Option<String> {
    if instruction.flow_control() != FlowControl::Next {
        return Some(String::from("control may leave"));
    }
    let used = info.info(instruction);
    for register in used
        .used_registers()
        .iter()
        .filter(|used| writes(used.access()))
    {
        let full = register.register().full_register();
        if full == Register::RSP {
            return Some(String::from("rsp changes"));
        }
        if need.arguments().contains(&full) {
            return Some(format!(
                "{} is overwritten",
                format!("{full:?}").to_lowercase()
            ));
        }
    }
    // The return address lies there; nothing finer is needed, since compilers move rsp first.
    let writes_stack = used.used_memory().iter().any(|memory| {
        writes(memory.access())
            && (memory.base() == Register::RSP || memory.index() == Register::RSP)
    });
    writes_stack.then(|| String::from("the stack is written"))
}

fn writes(access: OpAccess) -> bool {
    !matches!(
        access,
        OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    )
}

/// Searches the body for what speaks against the candidate.
fn prove(
    function: FunctionCode<'_>,
    need: Need,
    candidate: Candidate,
) -> Result<(Candidate, String), String> {
    if function.bytes.len() > MAX_BODY_BYTES {
        return Err(format!(
            "a body above {} KiB is not searched",
            MAX_BODY_BYTES / 1024
        ));
    }
    let facts = body_facts(function, candidate.end);
    let offset = candidate.offset;
    if let Some(from) = facts.jumps_in {
        return Err(format!(
            "+{from:#x} jumps back to before the end of +{offset:#x}"
        ));
    }
    if let Some(from) = facts.loops_to_entry {
        return Err(format!(
            "+{from:#x} jumps back to the entry, which fires again in any case"
        ));
    }
    let mut why = String::from("straight line from the entry");
    for register in need.arguments() {
        let _ = write!(why, ", {}", format!("{register:?}").to_lowercase());
    }
    why.push_str(" and rsp intact, ");
    if function.extent == Extent::Unknown {
        let _ = write!(
            why,
            "size unknown: no jump back in {} bytes",
            function.bytes.len()
        );
        return Ok((candidate, why));
    }
    if let Some(at) = facts.undecodable {
        return Err(format!(
            "bytes at +{at:#x} do not decode and may hide a jump to +{offset:#x}"
        ));
    }
    if let Some(from) = facts.unknown_jump {
        return Err(format!(
            "the indirect jump at +{from:#x} may lead to +{offset:#x}"
        ));
    }
    why.push_str("no jump back in the body");
    Ok((candidate, why))
}

/// Decodes the whole body once; `window_end` is where the candidate ends.
///
/// Jumps into the middle of the candidate count too: a 5-byte nop is rewritten as a whole. A call
/// to the entry is a new call, so only jumps count as loops.
fn body_facts(function: FunctionCode<'_>, window_end: usize) -> BodyFacts {
    let mut facts = BodyFacts::default();
    for step in steps(function) {
        let instruction = &step.instruction;
        if instruction.is_invalid() {
            facts.undecodable.get_or_insert(step.at);
            continue;
        }
        let flow = instruction.flow_control();
        if flow == FlowControl::IndirectBranch && !instruction.is_ip_rel_memory_operand() {
            facts.unknown_jump.get_or_insert(step.at);
        }
        if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::NearBranch64 {
            continue;
        }
        let target = instruction.near_branch_target().wrapping_sub(function.svma);
        if target == 0 && flow != FlowControl::Call {
            facts.loops_to_entry.get_or_insert(step.at);
        } else if target > 0 && target < window_end as u64 {
            facts.jumps_in.get_or_insert(step.at);
        }
    }
    facts
}

/// The instructions in order from the entry; one that does not decode is passed on as invalid.
fn steps<'d>(function: FunctionCode<'d>) -> impl Iterator<Item = Step<'d>> {
    let bytes = function.bytes;
    let mut decoder = Decoder::with_ip(64, bytes, function.svma, DecoderOptions::NONE);
    std::iter::from_fn(move || {
        if !decoder.can_decode() {
            return None;
        }
        let at = decoder.position();
        let instruction = decoder.decode();
        let bytes = bytes.get(at..decoder.position()).unwrap_or_default();
        Some(Step {
            at,
            bytes,
            instruction,
        })
    })
}

/// The instruction that code begins with, as a disassembler writes it.
pub fn text(code: &[u8], svma: u64) -> String {
    intel(&Decoder::with_ip(64, code, svma, DecoderOptions::NONE).decode())
}

fn intel(instruction: &Instruction) -> String {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    options.set_branch_leading_zeros(false);
    options.set_show_branch_size(false);
    options.set_rip_relative_addresses(true);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

#[cfg(test)]
mod tests;
