//! Tables and steps against gimli's own search and its own evaluator of expressions.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult,
    Expression, LittleEndian, Location, Reader as _, RegisterRule, UnwindContext,
    UnwindSection as _, UnwindTableRow, Value, X86_64,
};
use leaktrace_common::unwind::{Registers, Rule, cfa, outcome, step};
use object::{
    LittleEndian as LE,
    elf::FileHeader64,
    read::elf::{FileHeader as _, SectionHeader as _},
};

use super::{libc_path, sections};
use crate::unwind::Table;

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// Memory in which each word is known and none is a small number.
fn read(address: u64) -> Option<u64> {
    Some(address.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x1_0000)
}

/// What an expression comes to, by gimli.
fn evaluate(
    expression: Expression<Slice<'_>>,
    encoding: gimli::Encoding,
    registers: &Registers,
    initial: Option<u64>,
) -> Option<u64> {
    let mut evaluation = expression.evaluation(encoding);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut state = evaluation.evaluate().ok()?;
    loop {
        state = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = match register {
                    X86_64::RSP => registers.rsp,
                    X86_64::RBP => registers.rbp,
                    X86_64::RA => registers.rip,
                    _ => return None,
                };
                evaluation
                    .resume_with_register(Value::Generic(value))
                    .ok()?
            }
            EvaluationResult::RequiresMemory {
                address, size: 8, ..
            } => evaluation
                .resume_with_memory(Value::Generic(read(address)?))
                .ok()?,
            _ => return None,
        };
    }
    match evaluation.as_result().first()?.location {
        Location::Address { address } => Some(address),
        _ => None,
    }
}

/// The caller's registers, by gimli; `Ok(None)` at the root, `Err` where other registers count.
fn caller(
    section: &EhFrame<Slice<'_>>,
    row: &UnwindTableRow<usize>,
    encoding: gimli::Encoding,
    registers: &Registers,
) -> Result<Option<Registers>, ()> {
    if matches!(
        row.register(X86_64::RA),
        None | Some(RegisterRule::Undefined)
    ) {
        return Ok(None);
    }
    let get = |it: &gimli::UnwindExpression<usize>| it.get(section).map_err(|_| ());
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset {
            register: X86_64::RSP,
            offset,
        } => registers.rsp.wrapping_add_signed(*offset),
        CfaRule::RegisterAndOffset {
            register: X86_64::RBP,
            offset,
        } => registers.rbp.wrapping_add_signed(*offset),
        CfaRule::RegisterAndOffset { .. } => return Err(()),
        CfaRule::Expression(it) => evaluate(get(it)?, encoding, registers, None).ok_or(())?,
    };
    let value = |register, same| match row.register(register) {
        None | Some(RegisterRule::SameValue) => Ok(same),
        Some(RegisterRule::Offset(offset)) => read(cfa.wrapping_add_signed(offset)).ok_or(()),
        Some(RegisterRule::Expression(it)) => {
            let address = evaluate(get(&it)?, encoding, registers, Some(cfa)).ok_or(())?;
            read(address).ok_or(())
        }
        Some(_) => Err(()),
    };
    Ok(Some(Registers {
        rip: value(X86_64::RA, 0)?,
        rsp: value(X86_64::RSP, cfa)?,
        rbp: value(X86_64::RBP, registers.rbp)?,
    }))
}

/// Compares each function of a file at its ends, at each stated row and between; returns how many
/// addresses were compared.
fn check(path: &str) -> usize {
    let found = sections(path);
    let (table, stats) = Table::build(&found);
    assert_eq!(
        (stats.outside, stats.overlaps, stats.limited),
        (0, 0, false),
        "{path}"
    );
    let bytes = std::fs::read(path).expect(path);
    let header = FileHeader64::<LE>::parse(&bytes[..]).expect(path);
    let names = header.sections(LE, &bytes[..]).expect(path);
    let (_, section) = names.section_by_name(LE, b".eh_frame_hdr").expect(path);
    let bases = BaseAddresses::default()
        .set_eh_frame(found.eh_frame.svma)
        .set_eh_frame_hdr(section.sh_addr(LE));
    let index = EhFrameHdr::new(section.data(LE, &bytes[..]).expect(path), LittleEndian);
    let index = index.parse(&bases, 8).expect(path);
    let index = index.table().expect(path);
    let frames = EhFrame::new(&found.eh_frame.bytes, LittleEndian);
    let mut context = UnwindContext::new();
    let mut compared = 0;
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().expect(path) {
        let CieOrFde::Fde(entry) = entry else {
            continue;
        };
        let fde = entry.parse(EhFrame::cie_from_offset).expect(path);
        let (first, end) = (fde.initial_address(), fde.end_address());
        // What the linker dropped.
        if first == 0 || first == end {
            continue;
        }
        let mut pcs = vec![first, first + (end - first) / 2, end - 1];
        if let Ok(mut rows) = fde.rows(&frames, &bases, &mut context) {
            while let Ok(Some(row)) = rows.next_row() {
                // A row may begin where the function ends.
                if row.start_address() < end {
                    pcs.extend([row.start_address(), row.end_address().min(end) - 1]);
                }
            }
        }
        for pc in pcs {
            let fde = index
                .fde_for_address(&frames, &bases, pc, EhFrame::cie_from_offset)
                .expect("the FDE is in the index");
            let Ok(row) = fde.unwind_info_for_address(&frames, &bases, &mut context, pc) else {
                continue;
            };
            check_row(&found, &table, &frames, row, fde.cie().encoding(), pc);
            compared += 1;
        }
    }
    assert!(compared > 0, "{path}");
    compared
}

fn check_row(
    found: &crate::unwind::FrameSections,
    table: &Table,
    frames: &EhFrame<Slice<'_>>,
    row: &UnwindTableRow<usize>,
    encoding: gimli::Encoding,
    pc: u64,
) {
    let code = |it: &&crate::unwind::sections::Code| {
        pc >= it.svma && pc - it.svma < u64::from(it.size_bytes)
    };
    let code = found.code.iter().find(code).expect("code is in a segment");
    let rule = table.rule((pc - code.svma + u64::from(code.file_offset)) as u32);
    let mut registers = Registers {
        rip: pc,
        rsp: 0x7ffd_0000_1230,
        rbp: 0x7ffd_0000_5670,
    };
    let expected = caller(frames, row, encoding, &registers);
    let outcome = step(rule, pc, &mut registers, read);
    match expected {
        Err(()) => assert_eq!(rule, Rule::BAD, "{pc:x}"),
        Ok(None) => assert_eq!(outcome, outcome::ROOT, "{pc:x}"),
        Ok(Some(mut expected)) => {
            assert_eq!(outcome, outcome::CONTINUE, "{pc:x} {rule:?}");
            expected.rip += u64::from(rule.cfa == cfa::SIGNAL);
            assert_eq!(registers, expected, "{pc:x} {rule:?}");
        }
    }
}

/// The C library's table is as large as it should be, and knows all but a few rows of code that
/// switches stacks.
#[test]
fn libc_is_known() {
    let (table, stats) = Table::build(&sections(&libc_path()));
    assert!((15_000..40_000).contains(&table.len()), "{}", table.len());
    assert!(stats.bad_rows <= 10, "{stats:?}");
    assert!(table.rules().len() == table.pcs().len());
    assert!(table.palette().contains(&Rule::SIGNAL) && table.palette().contains(&Rule::END));
}

/// Whatever gimli says of any row of these files, a step by our table does.
#[test]
fn steps_equal_gimli() {
    const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
    let mut compared = check(&libc_path());
    // Linked by lld: two segments share a page of the file.
    compared += check(&std::env::current_exe().expect("we run").to_string_lossy());
    for name in [
        "libcrypto.so.3",
        "libstdc++.so.6",
        "ld-linux-x86-64.so.2",
        "libitm.so.1",
    ] {
        let path = format!("{LIBRARIES}/{name}");
        if std::path::Path::new(&path).exists() {
            compared += check(&path);
        }
    }
    assert!(compared > 50_000, "{compared}");
}

/// Section headers are not needed.
#[test]
fn stripped_headers_do_not_matter() {
    let whole = sections(&libc_path());
    let mut bytes = std::fs::read(libc_path()).expect("libc");
    // e_shoff, e_shnum and e_shstrndx
    for at in (0x28..0x30).chain(0x3c..0x40) {
        bytes[at] = 0;
    }
    let stripped = crate::unwind::FrameSections::read(&super::file(&bytes)).expect("an ELF file");
    assert_eq!(Table::build(&whole).0, Table::build(&stripped).0);
    let mut end = Slice::new(&whole.eh_frame.bytes, LittleEndian);
    end.skip(stripped.eh_frame.bytes.len())
        .expect("no longer than the section");
    assert!(end.slice().iter().all(|byte| *byte == 0));
}
