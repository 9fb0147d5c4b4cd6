//! Tests of the choice on code written by hand, small enough to be followed.

use leaktrace_common::go::{VALUE_IN_RAX, depth, shape};

use super::*;

/// `push rbp; mov rbp, rsp; sub rsp, 0x20; mov [rsp+0x30], rax; mov [rsp+0x38], rbx`: 18 bytes.
const PROLOGUE: &[u8] = &[
    0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0x48, 0x89, 0x44, 0x24, 0x30, 0x48, 0x89, 0x5c,
    0x24, 0x38,
];
/// `add rsp, 0x20; pop rbp; ret`: 6 bytes.
const EPILOGUE: &[u8] = &[0x48, 0x83, 0xc4, 0x20, 0x5d, 0xc3];
/// `jmp` to the next instruction: emulated.
const JUMP: &[u8] = &[0xeb, 0x00];
/// `mov [rsp+0x18], rax` and back.
const STORE: &[u8] = &[0x48, 0x89, 0x44, 0x24, 0x18];
const LOAD: &[u8] = &[0x48, 0x8b, 0x44, 0x24, 0x18];

const BASE: u64 = 0x1000;

/// `call` of a function at this address, as the instruction at `at` of the body.
fn call(at: usize, target: u64) -> Vec<u8> {
    let next = BASE + at as u64 + 5;
    let distance = target.wrapping_sub(next) as u32;
    [&[0xe8], distance.to_le_bytes().as_slice()].concat()
}

/// The names of the functions that are called here.
fn name_of(svma: u64) -> Option<&'static str> {
    match svma {
        0x2000 => Some("runtime.mallocgcSmallNoscan"),
        0x3000 => Some("runtime.mallocgcTinySC2"),
        0x4000 => Some("runtime.persistentalloc"),
        0x5000 => Some("runtime.throw"),
        _ => None,
    }
}

/// Offset and cookie of each site of a `runtime.mallocgc` with this body.
fn check(body: &[&[u8]]) -> Result<Vec<(u64, AllocCookie)>, String> {
    check_as("runtime.mallocgc", body)
}

fn check_as(name: &str, body: &[&[u8]]) -> Result<Vec<(u64, AllocCookie)>, String> {
    let bytes = body.concat();
    let function = FunctionCode {
        name,
        svma: BASE,
        bytes: &bytes,
    };
    let body = Body::decode(function, &name_of)?;
    let sites = choice::choose(&body, &name_of)?;
    Ok(sites.iter().map(|it| (it.offset, it.cookie)).collect())
}

const IN_RAX: AllocCookie = AllocCookie {
    depth: 0x28 | depth::FRAME_IS_UP,
    value: VALUE_IN_RAX,
    size: 0x30,
    shape: 0x38,
};

/// The cheap instruction behind the call is taken, with the frame still up and the arguments where
/// they were put.
#[test]
fn a_cheap_instruction_stands_for_the_return() {
    let made = check(&[PROLOGUE, &call(18, 0x2000), JUMP, EPILOGUE]);
    assert_eq!(made, Ok(vec![(23, IN_RAX)]));
}

/// What another of these functions, a variable or another heap gives is passed over.
#[test]
fn what_others_hand_out_is_passed_over() {
    for target in [0x3000, 0x4000] {
        let made = check(&[PROLOGUE, &call(18, target), JUMP, EPILOGUE]);
        assert_eq!(made, Ok(vec![]), "{target:#x}");
    }
    let zero_base = [0x48, 0x8d, 0x05, 0, 1, 0, 0];
    assert_eq!(check(&[PROLOGUE, &zero_base, JUMP, EPILOGUE]), Ok(vec![]));
    let call_by_table = [0xff, 0xd6];
    let made = check(&[PROLOGUE, &call_by_table, JUMP, EPILOGUE]);
    assert_eq!(made, Ok(vec![]));
}

/// Where two returns share a way, what stands before it stands for neither.
#[test]
fn an_instruction_before_a_fork_is_not_taken() {
    // test rax, rax; je +6, over the first epilogue
    let fork = [0x48, 0x85, 0xc0, 0x74, 0x06];
    let made = check(&[PROLOGUE, &call(18, 0x2000), &fork, EPILOGUE, EPILOGUE]);
    let at_return = AllocCookie {
        depth: 0,
        size: 8,
        shape: 16,
        ..IN_RAX
    };
    assert_eq!(made, Ok(vec![(33, at_return), (39, at_return)]));
}

/// A block that waits in a slot is found there, unless something else comes into it.
#[test]
fn a_block_is_followed_into_its_slot() {
    let in_slot = AllocCookie {
        value: 0x18,
        ..IN_RAX
    };
    let first = call(18, 0x2000);
    // The second call is itself emulated, and the last such instruction.
    let made = check(&[PROLOGUE, &first, STORE, &call(28, 0x9000), LOAD, EPILOGUE]);
    assert_eq!(made, Ok(vec![(28, in_slot)]));
    // mov dword [rsp+0x1c], ecx: half of the slot.
    let half = [0x89, 0x4c, 0x24, 0x1c];
    let made = check(&[PROLOGUE, &first, STORE, JUMP, &half, LOAD, EPILOGUE]);
    let found: Vec<u64> = made.unwrap().into_iter().map(|it| it.0).collect();
    assert_eq!(found, [44], "the return itself");
}

/// Without size or type no instruction will do, but where the name tells the size.
#[test]
fn a_size_that_is_lost_is_refused() {
    // mov [rsp+0x30], rcx: the size's slot.
    let lost = [0x48, 0x89, 0x4c, 0x24, 0x30];
    let body = [PROLOGUE, &lost, &call(23, 0x2000), JUMP, EPILOGUE];
    let made = check(&body);
    assert!(made.is_err_and(|why| why.contains("cannot be told")));
    let made = check_as("runtime.mallocgcSmallNoScanSC4", &body).unwrap();
    assert_eq!((made[0].1.size, made[0].1.shape), (32, shape::SLOT_BYTES));
    let made = check_as("runtime.mallocgcTinySC2", &body).unwrap();
    assert_eq!(made[0].1.shape, shape::TINY);
}

/// A loop around an instruction, or a way past it, rules it out.
#[test]
fn an_instruction_is_passed_exactly_once() {
    // dec rcx; jne back to the call's next instruction: the loop may fire more often.
    let repeated = [0x48, 0xff, 0xc9, 0x75, 0xfb];
    let made = check(&[PROLOGUE, &call(18, 0x2000), &repeated, EPILOGUE]);
    let found: Vec<u64> = made.unwrap().into_iter().map(|it| it.0).collect();
    assert_eq!(found, [33]);
}

/// Ways that end in a crash do not count.
#[test]
fn a_crash_is_no_return() {
    // test rax, rax; jne over the call that never returns
    let check_null = [0x48, 0x85, 0xc0, 0x75, 0x05];
    let crash = call(28, 0x5000);
    let first = call(18, 0x2000);
    let made = check(&[PROLOGUE, &first, &check_null, &crash, JUMP, EPILOGUE]);
    let found: Vec<u64> = made.unwrap().into_iter().map(|it| it.0).collect();
    assert_eq!(found, [33]);
}

/// Code that is not understood is refused, not guessed at.
#[test]
fn what_is_not_understood_is_refused() {
    for (body, why) in [
        (&[0xff, 0xe0][..], "where the jump at +0x12 leads"),
        (&[0x06], "do not decode"),
        (&[0x48, 0x89, 0xc4], "rsp is set"),
        (&[0xeb, 0x70], "leaves it"),
    ] {
        let made = check(&[PROLOGUE, body, EPILOGUE]);
        assert!(made.clone().is_err_and(|it| it.contains(why)), "{made:?}");
    }
    let made = alloc_sites(&[], &name_of);
    assert_eq!(made, Err(SitesError::Missing("runtime.mallocgc")));
}

/// Which functions hand out blocks to others, by their names in every version.
#[test]
fn functions_are_known_by_their_names() {
    for (name, expected) in [
        ("runtime.mallocgc", true),
        ("runtime.mallocgcSmallScanNoHeaderSC12", true),
        ("runtime.mallocgcTinySC2", true),
        ("runtime.mallocgcTinySize7", true),
        ("runtime.mallocgcTinySlowPath", true),
        ("runtime.mallocgcTiny", false),
        ("runtime.mallocgcSmallScanNoHeader", false),
        ("runtime.mallocgcLarge", false),
        ("runtime.mallocinit", false),
    ] {
        assert_eq!(hands_out(name), expected, "{name}");
    }
}

/// The beginning of a function is probed behind the check that may begin it anew.
#[test]
fn the_stack_check_is_passed() {
    let entry = |bytes: &[u8]| {
        let function = FunctionCode {
            name: SWEEP,
            svma: BASE,
            bytes,
        };
        entry_site(function, &name_of).map_err(|it| it.to_string())
    };
    // cmp rsp, [r14+16]; jbe +6, to the call of morestack behind the epilogue
    let check = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x06];
    let body = [&check[..], &[0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3]].concat();
    let more = [call(12, 0x9000).as_slice(), &[0xeb, 0xed]].concat();
    assert_eq!(entry(&[body.as_slice(), &more].concat()), Ok(6));
    // mov rax, rcx before it: the argument is gone.
    let changed = [&[0x48, 0x89, 0xc8][..], &[0x55, 0x5d, 0xc3]].concat();
    assert!(entry(&changed).is_err());
}
