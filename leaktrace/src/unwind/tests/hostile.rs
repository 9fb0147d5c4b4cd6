//! Files made to break the builder: it must end soon, with a sound table.

use std::time::{Duration, Instant};

use leaktrace_common::unwind::{Rule, cfa, rbp};

use super::{Numbers, file, libc_path, sections};
use crate::unwind::{
    FrameSections, Table,
    sections::{Code, Section},
    table::{PALETTE_MAX, ROWS_MAX, Stats},
};

/// Code at 0x1000, 2 GiB of it, with these entries.
fn with_entries(entries: Vec<u8>) -> FrameSections {
    FrameSections {
        eh_frame: Section {
            svma: 0,
            bytes: entries,
        },
        debug_frame: Section::default(),
        code: vec![Code {
            svma: 0x1000,
            file_offset: 0x1000,
            size_bytes: 1 << 31,
        }],
    }
}

/// A CIE with absolute 8-byte pointers; rsp + 8 at first.
fn cie(instructions: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0];
    body.extend([0x0c, 7, 8, 0x90, 1]);
    body.extend(instructions);
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// An FDE of the CIE at the section's start.
fn fde(at: usize, start: u64, size: u64, instructions: &[u8]) -> Vec<u8> {
    let mut body = (at as u32 + 4).to_le_bytes().to_vec();
    body.extend(start.to_le_bytes());
    body.extend(size.to_le_bytes());
    body.push(0);
    body.extend(instructions);
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// Builds, and checks what must hold of any table.
fn build(found: &FrameSections) -> (Table, Stats) {
    let begin = Instant::now();
    let (table, stats) = Table::build(found);
    assert!(begin.elapsed() < Duration::from_secs(30));
    let parts = table.clone().into_parts();
    let again = Table::from_parts(parts.0, parts.1, table.palette().to_vec());
    assert_eq!(again.as_ref(), Some(&table), "a sound table");
    (table, stats)
}

/// A function within another cuts it, as the search of those who throw would see it.
#[test]
fn overlaps_are_cut() {
    let mut entries = cie(&[]);
    let functions: [(u64, u64, &[u8]); 4] = [
        (0x2000, 0x100, &[0x0e, 16]),
        (0x2080, 0x10, &[0x0e, 24]),
        (0x2080, 0x20, &[0x0e, 32]),
        (0x1f00, u64::MAX - 0x1f00, &[0x0e, 40]),
    ];
    for (start, size, instructions) in functions {
        entries.extend(fde(entries.len(), start, size, instructions));
    }
    let (table, stats) = build(&with_entries(entries));
    let offset = |at| table.rule(at).cfa_offset;
    assert_eq!([0x1eff, 0x1f00, 0x1fff].map(offset), [0, 40, 40]);
    assert_eq!(
        [0x2000, 0x207f, 0x2080, 0x208f].map(offset),
        [16, 16, 24, 24]
    );
    assert_eq!(table.rule(0x2090), Rule::NONE);
    assert_eq!((stats.overlaps, stats.functions), (2, 3));
}

/// What lies outside of code, or beyond a wrong length, is left out; a broken function is bad.
#[test]
fn broken_entries_are_counted() {
    let mut entries = cie(&[]);
    entries.extend(fde(entries.len(), 0x800, 0x10, &[]));
    entries.extend(fde(entries.len(), u64::MAX, 0x10, &[]));
    // An instruction that nobody knows, after a row that everybody does.
    entries.extend(fde(entries.len(), 0x2000, 0x10, &[0x44, 0x3f]));
    // A deeper stack of rows than there is.
    entries.extend(fde(entries.len(), 0x3000, 0x10, &[0x0a; 100]));
    // rbp saved where 16 bits do not reach: `DW_CFA_offset_extended`.
    entries.extend(fde(
        entries.len(),
        0x4000,
        0x10,
        &[0x05, 6, 0xff, 0xff, 0x7f],
    ));
    entries.extend([0xf0, 0xff, 0xff, 0x7f, 1, 2, 3]);
    let (table, stats) = build(&with_entries(entries));
    assert_eq!((stats.outside, stats.malformed), (2, 3));
    assert_eq!(table.rule(0x2003), Rule::ENTRY);
    let bad = [0x2004, 0x200f, 0x3000, 0x4000].map(|at| table.rule(at));
    assert_eq!(bad, [Rule::BAD; 4]);
}

/// Padding between functions takes no rows, a gap does.
#[test]
fn padding_takes_no_rows() {
    let mut entries = cie(&[]);
    for start in [0x2000, 0x2020, 0x2040] {
        entries.extend(fde(entries.len(), start, 0x11, &[]));
    }
    entries.extend(fde(entries.len(), 0x2061, 0x11, &[]));
    let (table, _) = build(&with_entries(entries));
    assert_eq!(table.pcs(), [0x2000, 0x2051, 0x2061, 0x2072]);
    assert_eq!(table.rule(0x2018), Rule::ENTRY);
}

/// Work that would not end, out of few bytes, is cut off.
#[test]
fn endless_work_is_cut_off() {
    // A CIE that is run again for each function, and copies rows all the time.
    let mut entries = cie(&[0x0a, 0x0b].repeat(490));
    for number in 0..20_000 {
        entries.extend(fde(entries.len(), 0x2000 + number * 16, 16, &[]));
    }
    let (table, stats) = build(&with_entries(entries));
    assert!(stats.limited && stats.functions < 10_000, "{stats:?}");
    let end = 0x2000 + 16 * (stats.functions as u32 - 1);
    assert_eq!([0x2000, end - 1].map(|at| table.rule(at)), [Rule::ENTRY; 2]);
    assert_eq!(table.rule(end), Rule::NONE);
    // A CIE longer than any is not read.
    let mut entries = cie(&[0; 2000]);
    entries.extend(fde(entries.len(), 0x2000, 16, &[]));
    let (table, stats) = build(&with_entries(entries));
    assert_eq!((table.len(), stats.malformed), (0, 1));
}

/// Rules that no compiler could need so many of become bad; rows without end are refused.
#[test]
fn claims_end_at_limits() {
    let mut instructions = Vec::new();
    for row in 0..6000_u32 {
        // `DW_CFA_def_cfa_offset` in two bytes of LEB128, `DW_CFA_advance_loc` by 1.
        let [low, high] = [(row % 128) as u8 | 0x80, (row / 128) as u8];
        instructions.extend([0x0e, low, high, 0x41]);
    }
    let mut entries = cie(&[]);
    entries.extend(fde(entries.len(), 0x2000, u64::MAX, &instructions));
    let (table, stats) = build(&with_entries(entries));
    assert!(stats.limited);
    assert_eq!(table.palette().len(), PALETTE_MAX);
    assert_eq!(table.rule(0x2000 + 3000).cfa_offset, 3000);
    assert_eq!(table.rule(0x2000 + 5999), Rule::BAD);
    let rows = ROWS_MAX as u32 + 1;
    let endless = Table::from_parts(
        (0..rows).collect(),
        vec![0; rows as usize],
        table.palette().to_vec(),
    );
    assert_eq!(endless, None);
}

/// Cut and changed sections and files give sound tables or none.
#[test]
fn damage_does_no_harm() {
    let whole = sections("/lib64/ld-linux-x86-64.so.2");
    let mut numbers = Numbers(1);
    for length in (0..whole.eh_frame.bytes.len()).step_by(97) {
        let mut cut = whole.clone();
        cut.eh_frame.bytes.truncate(length);
        build(&cut);
    }
    for round in 0..400 {
        let mut changed = whole.clone();
        let bytes = &mut changed.eh_frame.bytes;
        for _ in 0..=round % 50 {
            let at = numbers.below(bytes.len());
            bytes[at] = numbers.next() as u8;
        }
        if round % 3 == 0 {
            std::mem::swap(&mut changed.eh_frame, &mut changed.debug_frame);
        }
        build(&changed);
    }
    let libc = std::fs::read("/lib64/ld-linux-x86-64.so.2").expect("a dynamic loader");
    for round in 0..400 {
        let mut bytes = libc.clone();
        // Headers of the file, of segments, and of sections.
        for _ in 0..=round % 20 {
            let at = numbers.below(0x300);
            bytes[at] = numbers.next() as u8;
            let at = bytes.len() - 1 - numbers.below(0x800);
            bytes[at] = numbers.next() as u8;
        }
        bytes.truncate(bytes.len() - (round % 7) * numbers.below(bytes.len() / 7));
        if let Ok(found) = FrameSections::read(&file(&bytes)) {
            build(&found);
        }
    }
}

/// Tables that break a promise are not made.
#[test]
fn unsound_parts_are_refused() {
    let fixed = || vec![Rule::NONE, Rule::BAD];
    let is_sound = |pcs: &[u32], rules: &[u16], palette| {
        Table::from_parts(pcs.to_vec(), rules.to_vec(), palette).is_some()
    };
    assert!(is_sound(&[], &[], fixed()));
    assert!(is_sound(&[1, 2], &[1, 0], fixed()));
    assert!(!is_sound(&[1, 2], &[0], fixed()));
    assert!(!is_sound(&[2, 2], &[1, 0], fixed()));
    assert!(!is_sound(&[3, 2], &[1, 0], fixed()));
    assert!(!is_sound(&[1, 2], &[2, 0], fixed()));
    assert!(!is_sound(&[1], &[1], fixed()), "rows must end");
    assert!(!is_sound(&[], &[], vec![]));
    assert!(!is_sound(&[], &[], vec![Rule::BAD, Rule::NONE]));
    for (kind, saved) in [
        (cfa::SIGNAL + 1, rbp::SAME),
        (cfa::RSP, rbp::RSP_OFFSET + 1),
    ] {
        let palette = vec![Rule::NONE, Rule::BAD, Rule::new(kind, 0, saved, 0)];
        assert!(!is_sound(&[], &[], palette));
    }
    assert!(libc_path().starts_with('/'));
}
