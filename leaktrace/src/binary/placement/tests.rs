//! Owns the tests of the placement proof, on code assembled by hand and on random bytes.
//! Must not know ELF files or allocators.

use super::*;

const FREE: Need = Need::Registers(1);

fn choose_at(svma: u64, bytes: &[u8], extent: Extent, need: Need) -> Placement {
    choose(
        FunctionCode {
            bytes,
            svma,
            extent,
        },
        need,
    )
}

/// The one check: the code, and the offset, class and reason that must come out.
#[track_caller]
fn check(bytes: &[u8], need: Need, offset: u64, class: CostClass, why: &str) {
    let placement = choose_at(0x9000, bytes, Extent::Whole, need);
    assert_eq!(
        (placement.offset, placement.class),
        (offset, class),
        "{placement:?}"
    );
    assert!(placement.why.contains(why), "{placement:?}");
    assert_eq!(placement.hazard, None);
}

/// What glibc's free begins with: test, then a conditional jump, which every call runs once.
#[test]
fn takes_the_branch_behind_a_dear_entry() {
    let code = [0x48, 0x85, 0xff, 0x74, 0x02, 0x53, 0x5b, 0xc3];
    check(
        &code,
        FREE,
        3,
        CostClass::Emulated,
        "straight line from the entry, rdi and rsp intact",
    );
    let placement = choose_at(0x9000, &code, Extent::Whole, FREE);
    assert_eq!(placement.instruction, "je 0x9007");
}

/// What glibc's malloc begins with.
#[test]
fn takes_an_emulated_entry() {
    for code in [
        &[0x55, 0xc3][..],
        &[0x41, 0x54, 0xc3],
        &[0xe9, 0, 0, 0, 0],
        &[0x90, 0xc3],
    ] {
        check(
            code,
            Need::RegistersAndReturn(3),
            0,
            CostClass::Emulated,
            "itself is emulated",
        );
    }
}

/// endbr64 is single-stepped; the push behind it is the place.
#[test]
fn passes_endbr64() {
    let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0xc3];
    check(
        &code,
        Need::RegistersAndReturn(6),
        4,
        CostClass::Emulated,
        "no jump back",
    );
}

/// A loop into the straight line would fire the probe twice for one call.
#[test]
fn rejects_a_jump_back_in() {
    let code = [0x48, 0x85, 0xff, 0x74, 0x02, 0xff, 0xc8, 0x75, 0xfa, 0xc3];
    check(
        &code,
        FREE,
        0,
        CostClass::Stepped,
        "+0x7 jumps back to before the end of +0x3",
    );
    // Into the middle of the candidate itself.
    let code = [0x48, 0x85, 0xff, 0x74, 0x02, 0xff, 0xc8, 0x75, 0xfb, 0xc3];
    check(&code, FREE, 0, CostClass::Stepped, "+0x7 jumps back");
    // The candidate's own target counts.
    let code = [0x48, 0x85, 0xff, 0x74, 0xfe, 0xc3];
    check(&code, FREE, 0, CostClass::Stepped, "+0x3 jumps back");
}

/// A loop to the entry fires any probe twice; the entry is kept and the reason says so.
#[test]
fn rejects_a_loop_to_the_entry() {
    let code = [0x48, 0x85, 0xff, 0x74, 0x02, 0xff, 0xc8, 0x75, 0xf7, 0xc3];
    check(
        &code,
        FREE,
        0,
        CostClass::Stepped,
        "+0x7 jumps back to the entry",
    );
    // A call to the entry is a call.
    let code = [
        0x48, 0x85, 0xff, 0x74, 0x05, 0xe8, 0xf6, 0xff, 0xff, 0xff, 0xc3,
    ];
    check(&code, FREE, 3, CostClass::Emulated, "no jump back");
}

/// Only the needed argument registers count, in each of their widths.
#[test]
fn rejects_an_overwritten_argument() {
    for code in [
        &[0x48, 0x89, 0xf7, 0x55, 0xc3][..],
        &[0x31, 0xff, 0x55, 0xc3],
        &[0x40, 0xb7, 0x01, 0x55, 0xc3],
        // cmove rdi, rsi: perhaps is enough.
        &[0x48, 0x0f, 0x44, 0xfe, 0x55, 0xc3],
        // rep stosb.
        &[0xf3, 0xaa, 0x55, 0xc3],
    ] {
        check(
            code,
            FREE,
            0,
            CostClass::Stepped,
            "entry kept: rdi is overwritten at +0x0",
        );
    }
    check(
        &[0x48, 0x89, 0xf7, 0x55, 0xc3],
        Need::Registers(0),
        3,
        CostClass::Emulated,
        "",
    );
    // mul writes rdx, as in glibc's reallocarray.
    let code = [0x48, 0x89, 0xf0, 0x48, 0xf7, 0xe2, 0x70, 0x00, 0xc3];
    check(
        &code,
        Need::RegistersAndReturn(3),
        0,
        CostClass::Stepped,
        "rdx is overwritten at +0x3",
    );
    check(
        &code,
        Need::RegistersAndReturn(2),
        6,
        CostClass::Emulated,
        "",
    );
}

/// The walker and the return probe need the return address at [rsp].
#[test]
fn rejects_a_changed_stack() {
    let sub = [0x48, 0x83, 0xec, 0x18, 0x53, 0xc3];
    check(&sub, FREE, 0, CostClass::Stepped, "rsp changes at +0x0");
    let push_immediate = [0x6a, 0x01, 0x53, 0xc3];
    check(
        &push_immediate,
        FREE,
        0,
        CostClass::Stepped,
        "rsp changes at +0x0",
    );
    let store = [0x48, 0x89, 0x3c, 0x24, 0x53, 0xc3];
    check(
        &store,
        FREE,
        0,
        CostClass::Stepped,
        "the stack is written at +0x0",
    );
}

/// Behind a call, return, interrupt or system call nothing is proven.
#[test]
fn rejects_what_may_not_be_reached() {
    for code in [
        &[0xff, 0xd0, 0x53, 0xc3][..],
        &[0xc3, 0x53],
        &[0xcd, 0x80, 0x53],
        &[0x0f, 0x05, 0x53],
        &[0x0f, 0x0b, 0x53],
        &[0xff, 0xe0, 0x53],
        // loop and jrcxz are stepped.
        &[0xe3, 0x00, 0x53],
    ] {
        let code = [&[0x31, 0xc0], code].concat();
        check(
            &code,
            FREE,
            0,
            CostClass::Stepped,
            "control may leave at +0x2",
        );
    }
}

/// Bytes that do not decode may hide a jump.
#[test]
fn rejects_undecodable_bytes() {
    let code = [0x48, 0x85, 0xff, 0x74, 0x01, 0xc3, 0x06];
    check(
        &code,
        FREE,
        0,
        CostClass::Stepped,
        "bytes at +0x6 do not decode",
    );
    check(
        &[0x31, 0xc0, 0x06, 0x53],
        FREE,
        0,
        CostClass::Stepped,
        "bytes at +0x2 do not decode",
    );
    let cut = [0x31, 0xc0, 0x48, 0x85];
    check(
        &cut,
        FREE,
        0,
        CostClass::Stepped,
        "bytes at +0x2 do not decode",
    );
}

/// A jump table could lead anywhere; a jump through one slot is a tail call.
#[test]
fn tells_jump_tables_from_tail_calls() {
    let through_register = [0x48, 0x85, 0xff, 0x74, 0x02, 0xff, 0xe0, 0xc3];
    check(
        &through_register,
        FREE,
        0,
        CostClass::Stepped,
        "the indirect jump at +0x5 may lead",
    );
    let through_slot = [0x48, 0x85, 0xff, 0x74, 0x06, 0xff, 0x25, 0, 0, 0, 0, 0xc3];
    check(&through_slot, FREE, 3, CostClass::Emulated, "no jump back");
}

/// Without a size the straight line is proven, the rest only searched, and the text says so.
#[test]
fn says_when_the_size_is_unknown() {
    let code = [0x48, 0x85, 0xff, 0x74, 0x01, 0xc3, 0x06];
    let placement = choose_at(0x9000, &code, Extent::Unknown, FREE);
    assert_eq!(placement.offset, 3);
    assert!(
        placement
            .why
            .contains("size unknown: no jump back in 7 bytes"),
        "{placement:?}"
    );
    let back = [0x48, 0x85, 0xff, 0x74, 0x02, 0xff, 0xc8, 0x75, 0xfa, 0xc3];
    assert_eq!(choose_at(0x9000, &back, Extent::Unknown, FREE).offset, 0);
}

/// The 5-byte nop is taken where nothing emulated follows, unless it crosses a page.
#[test]
fn ranks_the_five_byte_nop() {
    let code = [0x48, 0x89, 0xf8, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];
    check(&code, FREE, 3, CostClass::Nop5, "no jump back");
    let at_page_end = choose_at(0x9000 - 3 - 5, &code, Extent::Whole, FREE);
    assert_eq!(at_page_end.class, CostClass::Nop5);
    let across = choose_at(0x9000 - 3 - 4, &code, Extent::Whole, FREE);
    assert_eq!((across.offset, across.class), (0, CostClass::Stepped));
    let push_follows = [0x0f, 0x1f, 0x44, 0x00, 0x00, 0x53, 0xc3];
    check(&push_follows, FREE, 5, CostClass::Emulated, "no jump back");
    check(&push_follows[..5], FREE, 0, CostClass::Nop5, "entry kept");
}

/// Forms with prefixes are emulated, stepped or refused depending on the kernel's version.
#[test]
fn does_not_count_on_prefixed_forms() {
    let code = [0x66, 0x90, 0xf2, 0xe9, 0, 0, 0, 0, 0x53, 0xc3];
    check(
        &code,
        FREE,
        0,
        CostClass::Stepped,
        "control may leave at +0x2",
    );
    check(&[0x66, 0x90, 0x53, 0xc3], FREE, 2, CostClass::Emulated, "");
}

/// The search is bounded, near the entry and over the body.
#[test]
fn gives_up_within_limits() {
    let mut far = [0x31, 0xc0].repeat(MAX_PREFIX_INSTRUCTIONS);
    far.extend([0x53, 0xc3]);
    check(
        &far,
        FREE,
        0,
        CostClass::Stepped,
        "no emulated instruction near the entry",
    );
    check(&far[2..], FREE, 30, CostClass::Emulated, "no jump back");
    let mut large = vec![0x48, 0x85, 0xff, 0x74, 0x02];
    large.resize(MAX_BODY_BYTES + 1, 0x90);
    check(
        &large,
        FREE,
        0,
        CostClass::Stepped,
        "a body above 64 KiB is not searched",
    );
}

/// Some entries must not be probed at all.
#[test]
fn names_hazards() {
    for code in [
        &[][..],
        &[0x06],
        &[0x48],
        &[0xcc, 0xc3],
        &[0x49, 0x90, 0xc3],
    ] {
        let placement = choose_at(0x9000, code, Extent::Whole, FREE);
        assert_eq!(placement.offset, 0);
        assert!(placement.hazard.is_some(), "{placement:?}");
    }
}

/// Whatever the bytes, the place is an instruction boundary within them, and what was proven
/// holds when checked the other way round: by walking, not by searching.
#[test]
fn survives_random_bytes() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Common opcodes, so that longer straight lines and jumps come up.
    let common = [
        0x48, 0x85, 0xff, 0x74, 0x53, 0x31, 0xc0, 0x0f, 0x1f, 0x44, 0x00, 0xeb, 0xfb, 0x41,
    ];
    let mut behind = 0;
    for round in 0..20_000u64 {
        let len = random() % 48;
        let mixed = |value: u64| match round % 2 {
            0 => value as u8,
            _ => common[(value >> 8) as usize % common.len()],
        };
        let code: Vec<u8> = (0..len).map(|_| mixed(random())).collect();
        let extent = if random() % 2 == 0 {
            Extent::Whole
        } else {
            Extent::Unknown
        };
        let need = Need::RegistersAndReturn((random() % 8) as u8);
        let svma = random();
        let placement = choose_at(svma, &code, extent, need);
        if placement.offset == 0 {
            continue;
        }
        behind += 1;
        let mut decoder = Decoder::with_ip(64, &code, svma, DecoderOptions::NONE);
        while (decoder.position() as u64) < placement.offset {
            let instruction = decoder.decode();
            assert!(!instruction.is_invalid());
            assert_eq!(instruction.flow_control(), FlowControl::Next);
        }
        assert_eq!(decoder.position() as u64, placement.offset, "{code:02x?}");
        assert_ne!(placement.class, CostClass::Stepped);
        assert!(!decoder.decode().is_invalid());
    }
    assert!(
        behind > 100,
        "only {behind} rounds chose a place behind the entry"
    );
}
