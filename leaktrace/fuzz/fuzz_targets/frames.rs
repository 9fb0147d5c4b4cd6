//! Owns the claim that any call frame information becomes a sound table, and that any walk by it ends.
//! Must not know files: it gets further into the instructions than a file with headers would.
#![no_main]

use leaktrace::unwind::{
    FrameSections, Table,
    sections::{Code, Section},
    walk::walk,
};
use leaktrace_common::unwind::Registers;
use libfuzzer_sys::fuzz_target;

/// Where the code begins, in the file and in memory.
const CODE: u32 = 0x1000;

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (is_debug, distance, bytes) = input;
    let section = Section {
        svma: u64::from(CODE) + 0x10000 + u64::from(distance),
        bytes: bytes.to_vec(),
    };
    let mut sections = FrameSections {
        code: vec![Code {
            svma: u64::from(CODE),
            file_offset: CODE,
            size_bytes: 0x10000,
        }],
        ..FrameSections::default()
    };
    if is_debug {
        sections.debug_frame = section;
    } else {
        sections.eh_frame = section;
    }
    let (table, stats) = Table::build(&sections);
    let again = Table::from_parts(
        table.pcs().to_vec(),
        table.rules().to_vec(),
        table.palette().to_vec(),
    );
    assert_eq!(
        again.as_ref(),
        Some(&table),
        "it keeps what a table promises"
    );
    assert!(table.is_empty() || stats.functions > 0 || stats.limited);
    // The stack is the section itself, repeated.
    let word = |address: u64| {
        let at = (address as usize).checked_rem(bytes.len().max(8))?;
        let word = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(word))
    };
    let registers = Registers {
        rip: table.pcs().first().map_or(0, |pc| u64::from(*pc)),
        rsp: 8,
        rbp: 16,
    };
    let walked = walk(registers, 128, |pc| table.rule(pc as u32), word);
    assert!(walked.frames.len() <= 128);
});
