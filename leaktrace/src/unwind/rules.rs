//! Owns what a row of call frame information means as a `Rule`.
//! Must not know how rows are found or stored.

use gimli::{
    CfaRule, EndianSlice, LittleEndian, Reader as _, Register, RegisterRule, UnwindContextStorage,
    UnwindExpression, UnwindSection, UnwindTableRow, X86_64,
};
use leaktrace_common::unwind::{Rule, SIGNAL_RBP, SIGNAL_RIP, SIGNAL_RSP, cfa, pack_deref, rbp};

/// How bytes are read: in place.
pub(super) type Bytes<'d> = EndianSlice<'d, LittleEndian>;

/// The size of a row while it is worked out: a file cannot make it grow. Files of this distribution
/// name up to 19 registers, of 17 and the vector registers that there are.
pub(super) struct Storage;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(Register, RegisterRule<usize>); 32];
    type Stack = [UnwindTableRow<usize, Self>; 8];
}

/// The rule that a row states; `Rule::BAD` where `Rule` cannot.
///
/// What stays bad in practice is a CFA by another register than rsp and rbp. Compilers and
/// assembler use rax, r10 or r11 so in prologues, before anything is called: such a frame can be
/// interrupted but has no callee. And r8, rcx and the like in code that switches stacks.
pub(super) fn rule<'d, S: UnwindSection<Bytes<'d>>>(
    section: &S,
    row: &UnwindTableRow<usize, Storage>,
) -> Rule {
    let returns = row.register(X86_64::RA);
    if matches!(returns, None | Some(RegisterRule::Undefined)) {
        return Rule::END;
    }
    let mut rule = cfa_rule(section, row.cfa()).unwrap_or(Rule::BAD);
    let Some((kind, offset)) = rbp_rule(section, row.register(X86_64::RBP)) else {
        return Rule::BAD;
    };
    (rule.rbp, rule.rbp_offset) = (kind, offset);
    let plain_stack = row.register(X86_64::RSP).is_none();
    match returns {
        _ if rule.cfa == cfa::BAD => Rule::BAD,
        Some(RegisterRule::Offset(-8)) if plain_stack => rule,
        Some(RegisterRule::Expression(saved))
            if base_and_offset(section, saved) == Some((X86_64::RSP, SIGNAL_RIP))
                && rule == SIGNAL_SPELLED_OUT =>
        {
            Rule::SIGNAL
        }
        _ => Rule::BAD,
    }
}

/// What libc says of the frame that the kernel made to run a signal handler, but for the address
/// to return to.
const SIGNAL_SPELLED_OUT: Rule = Rule::new(
    cfa::DEREF_RSP,
    pack_deref(SIGNAL_RSP, 0),
    rbp::RSP_OFFSET,
    SIGNAL_RBP,
);

/// The CFA's half of a rule.
fn cfa_rule<'d, S: UnwindSection<Bytes<'d>>>(section: &S, rule: &CfaRule<usize>) -> Option<Rule> {
    match rule {
        CfaRule::RegisterAndOffset { register, offset } => {
            let kind = match *register {
                X86_64::RSP => cfa::RSP,
                X86_64::RBP => cfa::RBP,
                _ => return None,
            };
            Some(Rule::new(kind, i32::try_from(*offset).ok()?, rbp::SAME, 0))
        }
        CfaRule::Expression(expression) => {
            let bytes = expression.get(section).ok()?.0;
            plt(&bytes).or_else(|| saved_stack_pointer(bytes))
        }
    }
}

/// The rule of a PLT, which linkers write byte for byte like this: rsp + 8 + ((rip & 15) >= n) * 8,
/// where n is 11, or 10 in a PLT for indirect branch tracking.
/// <https://sourceware.org/git/?p=binutils-gdb.git;a=blob;f=bfd/elfxx-x86.h;hb=binutils-2_42>
fn plt(bytes: &Bytes<'_>) -> Option<Rule> {
    const LIT0: u8 = 0x30;
    let [
        0x77,
        8,
        0x80,
        0,
        0x3f,
        0x1a,
        threshold,
        0x2a,
        0x33,
        0x24,
        0x22,
    ] = *bytes.slice()
    else {
        return None;
    };
    let threshold = threshold.checked_sub(LIT0).filter(|it| *it < 16)?;
    Some(Rule::new(cfa::PLT, i32::from(threshold), rbp::SAME, 0))
}

/// A CFA that was saved on the stack: `breg off; deref` with or without `plus_uconst n`.
fn saved_stack_pointer(mut bytes: Bytes<'_>) -> Option<Rule> {
    const DEREF: u8 = 0x06;
    const PLUS_UCONST: u8 = 0x23;
    let (register, inner) = read_base_and_offset(&mut bytes)?;
    let kind = match register {
        X86_64::RSP => cfa::DEREF_RSP,
        X86_64::RBP => cfa::DEREF_RBP,
        _ => return None,
    };
    if bytes.read_u8().ok()? != DEREF {
        return None;
    }
    let mut added = 0;
    if !bytes.is_empty() {
        if bytes.read_u8().ok()? != PLUS_UCONST {
            return None;
        }
        added = i16::try_from(bytes.read_uleb128().ok()?).ok()?;
    }
    let offsets = pack_deref(i16::try_from(inner).ok()?, added);
    bytes
        .is_empty()
        .then(|| Rule::new(kind, offsets, rbp::SAME, 0))
}

/// The frame pointer's half of a rule.
///
/// Where it is not recoverable it is taken to be the same: what needs it then fails or ends, as it
/// would without.
fn rbp_rule<'d, S: UnwindSection<Bytes<'d>>>(
    section: &S,
    rule: Option<RegisterRule<usize>>,
) -> Option<(u8, i16)> {
    match rule {
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some((rbp::SAME, 0)),
        Some(RegisterRule::Offset(offset)) => Some((rbp::CFA_OFFSET, i16::try_from(offset).ok()?)),
        Some(RegisterRule::Expression(saved)) => {
            let (register, offset) = base_and_offset(section, saved)?;
            let kind = match register {
                X86_64::RSP => rbp::RSP_OFFSET,
                X86_64::RBP => rbp::RBP_OFFSET,
                _ => return None,
            };
            Some((kind, i16::try_from(offset).ok()?))
        }
        Some(_) => None,
    }
}

/// An expression that is an offset from a register and nothing else.
fn base_and_offset<'d, S: UnwindSection<Bytes<'d>>>(
    section: &S,
    expression: UnwindExpression<usize>,
) -> Option<(Register, i64)> {
    let mut bytes = expression.get(section).ok()?.0;
    let found = read_base_and_offset(&mut bytes)?;
    bytes.is_empty().then_some(found)
}

/// Reads `DW_OP_breg0` to `DW_OP_breg31`.
fn read_base_and_offset(bytes: &mut Bytes<'_>) -> Option<(Register, i64)> {
    const BREG0: u8 = 0x70;
    const BREG31: u8 = 0x8f;
    let operation = bytes.read_u8().ok()?;
    if !(BREG0..=BREG31).contains(&operation) {
        return None;
    }
    let offset = bytes.read_sleb128().ok()?;
    Some((Register(u16::from(operation - BREG0)), offset))
}
