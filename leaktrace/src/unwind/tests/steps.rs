//! The step, kind by kind, and the numbers of rules.

use std::collections::BTreeMap;

use leaktrace_common::unwind::{
    RULE_ID_BAD, RULE_ID_NONE, RULES_MAX, Registers, Rule, cfa, outcome, pack_deref, rbp, step,
    unpack_deref,
};

use crate::unwind::{Dictionary, Origin, Table, walk::walk};

/// Steps from rsp 1000 and rbp 2000 (hex) over memory `address=word …`; prints what comes of it.
fn check(rule: Rule, pc: u64, memory: &str, expected: &str) {
    let parse = |text| u64::from_str_radix(text, 16).expect("hex");
    let memory: BTreeMap<u64, u64> = memory
        .split_whitespace()
        .map(|word| word.split_once('=').expect("address=word"))
        .map(|(address, word)| (parse(address), parse(word)))
        .collect();
    let mut registers = Registers {
        rip: pc,
        rsp: 0x1000,
        rbp: 0x2000,
    };
    let before = registers;
    let outcome = step(rule, pc, &mut registers, |at| memory.get(&at).copied());
    let Registers { rip, rsp, rbp } = registers;
    let seen = match outcome {
        outcome::CONTINUE => format!("{rip:x} {rsp:x} {rbp:x}"),
        _ => {
            assert_eq!(registers, before, "a step that fails changes nothing");
            outcome.to_string()
        }
    };
    assert_eq!(seen, expected, "{rule:?}");
}

/// Each kind of CFA and of rbp leads to its caller.
#[test]
fn rules_lead_to_callers() {
    check(Rule::ENTRY, 0, "1000=4444", "4444 1008 2000");
    let pushed = Rule::new(cfa::RSP, 32, rbp::CFA_OFFSET, -16);
    check(pushed, 0, "1018=4444 1010=77", "4444 1020 77");
    let framed = Rule::new(cfa::RBP, 16, rbp::CFA_OFFSET, -16);
    check(framed, 0, "2008=4444 2000=77", "4444 2010 77");
    let plt = Rule::new(cfa::PLT, 11, rbp::SAME, 0);
    check(plt, 0x55a, "1000=4444", "4444 1008 2000");
    check(plt, 0x55b, "1008=4444", "4444 1010 2000");
    let saved = Rule::new(cfa::DEREF_RSP, pack_deref(0x48, 8), rbp::CFA_OFFSET, -24);
    check(saved, 0, "1048=5000 5000=4444 4ff0=77", "4444 5008 77");
    let realigned = Rule::new(cfa::DEREF_RBP, pack_deref(-16, 0), rbp::RBP_OFFSET, 0);
    check(realigned, 0, "1ff0=5000 4ff8=4444 2000=77", "4444 5000 77");
    let context = "1078=77 10a0=6000 10a8=4444";
    check(Rule::SIGNAL, 0, context, "4445 6000 77");
    check(Rule::NONE, 0, "2008=4444 2000=77", "4444 2010 77");
}

/// A walk that cannot go on says why.
#[test]
fn walks_end_with_a_reason() {
    check(Rule::END, 0, "", "1");
    check(Rule::ENTRY, 0, "1000=0", "1");
    check(Rule::NONE, 0, "2008=fff", "1");
    check(Rule::BAD, 0, "", "2");
    check(Rule::new(77, 0, 0, 0), 0, "", "2");
    check(Rule::ENTRY, 0, "", "3");
    check(
        Rule::new(cfa::RSP, 16, rbp::CFA_OFFSET, -16),
        0,
        "1008=4444",
        "3",
    );
    check(Rule::SIGNAL, 0, "10a0=6000 1078=77", "3");
    check(Rule::NONE, 0, "", "4");
    check(Rule::NONE, 0, "2008=4444 2000=2000", "4");
}

/// Without a row, rbp 0 is the root and an odd one no frame pointer; around the end of the address
/// space nothing breaks.
#[test]
fn odd_registers_do_no_harm() {
    let outcome = |rule, value| {
        let mut registers = Registers {
            rip: value,
            rsp: value,
            rbp: value,
        };
        step(rule, value, &mut registers, |_| Some(u64::MAX))
    };
    assert_eq!(outcome(Rule::NONE, 0), outcome::ROOT);
    assert_eq!(outcome(Rule::NONE, 0x1001), outcome::NO_FRAME_POINTER);
    for kind in cfa::NONE..=cfa::SIGNAL {
        for saved in rbp::SAME..=rbp::RSP_OFFSET {
            outcome(Rule::new(kind, i32::MIN, saved, i16::MIN), u64::MAX);
            outcome(Rule::new(kind, i32::MAX, saved, i16::MAX), !7);
        }
    }
    for offsets in [(0, 0), (-1, 1), (i16::MIN, i16::MAX), (i16::MAX, i16::MIN)] {
        assert_eq!(unpack_deref(pack_deref(offsets.0, offsets.1)), offsets);
    }
}

/// A stack that never ends is cut.
#[test]
fn walks_are_bounded() {
    let registers = Registers::default();
    let walked = walk(registers, 128, |_| Rule::ENTRY, |_| Some(0x5000));
    assert_eq!(
        (walked.frames.len(), walked.outcome),
        (128, outcome::CONTINUE)
    );
}

/// A table of one row for each of these offsets.
fn table(offsets: std::ops::Range<i32>) -> Table {
    let mut palette = vec![Rule::NONE, Rule::BAD];
    palette.extend(offsets.map(|it| Rule::new(cfa::RSP, it, rbp::SAME, 0)));
    let rows = palette.len() as u32 - 1;
    let rules = (2..palette.len() as u16).chain([0]).collect();
    Table::from_parts((0..rows).collect(), rules, palette).expect("a sound table")
}

/// Rules keep their numbers; those of strangers leave room for the system's.
#[test]
fn dictionaries_fill_up_fairly() {
    let mut dictionary = Dictionary::default();
    let first = dictionary.number(table(0..2), Origin::Untrusted);
    assert_eq!(first.rules, [2, 3, RULE_ID_NONE]);
    let mut next = 0;
    while dictionary.refused() == 0 {
        dictionary.number(table(next..next + 4000), Origin::Untrusted);
        next += 4000;
    }
    assert_eq!(dictionary.rules().len(), RULES_MAX / 2);
    let strange = dictionary.number(table(-1..0), Origin::Untrusted);
    assert_eq!(strange.rules, [RULE_ID_BAD, RULE_ID_NONE]);
    let trusted = dictionary.number(table(-1..1), Origin::Trusted);
    assert_eq!(trusted.rules, [(RULES_MAX / 2) as u16, 2, RULE_ID_NONE]);
    while dictionary.rules().len() < RULES_MAX {
        dictionary.number(table(next..next + 4000), Origin::Trusted);
        next += 4000;
    }
    let late = dictionary.number(table(-2..1), Origin::Trusted);
    assert_eq!(
        late.rules,
        [RULE_ID_BAD, (RULES_MAX / 2) as u16, 2, RULE_ID_NONE]
    );
}
