//! Owns the tests of decoding: every kind of record, cut at every length, and nonsense.
//! Must not know the kernel.

use super::*;

/// A record as the probes lay it out, from its fields.
fn record(kind: u8, call: u8, flags: u16, tgid: u32, words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind, call];
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(tgid.to_ne_bytes());
    for word in words {
        bytes.extend_from_slice(word);
    }
    bytes
}

const COMM: [u8; 16] = *b"worker\0\0\0\0\0\0\0\0\0\0";

const ALLOC: Alloc = Alloc {
    tgid: 7,
    call: Call::Calloc,
    family: None,
    address: 0x5555_0000,
    size: 96,
    stack: 0xabcd,
    time_ns: 123_456_789,
};

/// Words of 8 bytes.
fn eights(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

/// Words of 4 bytes.
fn fours(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

fn samples() -> Vec<(Vec<u8>, Event)> {
    let mut samples = block_samples();
    samples.extend(other_samples());
    samples.extend(go_samples());
    samples
}

fn block_samples() -> Vec<(Vec<u8>, Event)> {
    let alloc = eights(&[ALLOC.address, ALLOC.size, ALLOC.stack, ALLOC.time_ns]);
    let begin = record(3, 3, 0, 7, &[&eights(&[64]), &fours(&[8, 0])]);
    let end = record(
        4,
        2,
        FLAG_NOT_FOLLOWED,
        7,
        &[&eights(&[64]), &alloc, &fours(&[8, 0])],
    );
    let free = Event::Free {
        tgid: 7,
        address: 64,
    };
    let begun = Event::ReallocBegin {
        tgid: 7,
        tid: 8,
        address: 64,
    };
    let ended = Event::ReallocEnd {
        tid: 8,
        old_address: 64,
        is_followed: false,
        new: ALLOC,
    };
    vec![
        (record(1, 2, 0, 7, &[&alloc]), Event::Alloc(ALLOC)),
        (
            record(28, 2, 0, 7, &[&alloc, &eights(&[4_096])]),
            Event::Sample {
                alloc: ALLOC,
                sample_bytes: 4_096,
            },
        ),
        (record(2, 5, 0, 7, &[&eights(&[64])]), free),
        (begin, begun),
        (end, ended),
    ]
}

fn go_samples() -> Vec<(Vec<u8>, Event)> {
    let block = [ALLOC.address, ALLOC.size, ALLOC.stack, ALLOC.time_ns, 512];
    let alloc = record(16, 64, FLAG_GO_TINY, 7, &[&eights(&block)]);
    let span = [0xc0_0000_0000, 8_192, 112, 5];
    let sweep = record(
        17,
        0,
        0,
        7,
        &[&eights(&span), &fours(&[73, 0]), &eights(&[1, 2])],
    );
    vec![
        (
            alloc,
            Event::GoAlloc {
                alloc: Alloc {
                    call: Call::Mallocgc,
                    ..ALLOC
                },
                is_tiny: true,
                sample_bytes: 512,
            },
        ),
        (
            sweep,
            Event::GoSweep(Box::new(GoSweep {
                tgid: 7,
                address: 0xc0_0000_0000,
                span_bytes: 8_192,
                slot_bytes: 112,
                slot_count: 73,
                time_ns: 5,
                marks: vec![1, 2],
            })),
        ),
        (
            record(18, 0, 0, 7, &[&eights(&[5])]),
            Event::GoCycle {
                tgid: 7,
                time_ns: 5,
            },
        ),
    ]
}

fn other_samples() -> Vec<(Vec<u8>, Event)> {
    let image = Image {
        tgid: 7,
        time_ns: 5,
        uid: 1000,
        comm: COMM,
    };
    let words = [eights(&[5]), fours(&[1000, 0]), COMM.to_vec()].concat();
    let stack_words = [eights(&[9, 1]), fours(&[2, 2]), eights(&[10, 11])].concat();
    let end = StackEnd::NoFramePointer;
    let stack = Event::Stack {
        tgid: 7,
        id: 9,
        frames: vec![10, 11],
        end,
        time_ns: 1,
    };
    let fork_words = [fours(&[70, 0]), eights(&[3, 0x4100])].concat();
    let fork = Event::Fork {
        tgid: 7,
        child_tgid: 70,
        uid: 0,
        time_ns: 3,
        shares_memory: true,
    };
    let early_words = [eights(&[9, 1, 64, 80]), fours(&[3, 8]), eights(&[10])].concat();
    let early = EarlyStack {
        tgid: 7,
        id: 9,
        time_ns: 1,
        stack_pointer: 64,
        frame_pointer: 80,
        image: 3,
        slice: eights(&[10]).into(),
    };
    vec![
        (record(5, 0, 0, 7, &[&stack_words]), stack),
        (
            record(25, 0, 0, 7, &[&early_words]),
            Event::EarlyStack(Box::new(early)),
        ),
        (record(6, 0, 0, 7, &[&fork_words]), fork),
        (record(7, 0, 0, 7, &[&words]), Event::Exec(image)),
        (record(8, 0, 0, 7, &[&words]), Event::Exit(image)),
    ]
}

/// Every kind of record decodes to what was encoded.
#[test]
fn every_kind_round_trips() {
    for (bytes, event) in samples() {
        assert_eq!(decode(&bytes), Ok(event));
    }
}

/// A record cut anywhere before its last used field is refused, never misread.
#[test]
fn every_truncation_is_refused() {
    for (bytes, event) in samples() {
        // Some kinds end in reserved bytes, which decoding does not need.
        let unused = if matches!(event, Event::ReallocBegin { .. } | Event::ReallocEnd { .. }) {
            4
        } else {
            0
        };
        for length in 0..bytes.len() - unused {
            assert_eq!(
                decode(&bytes[..length]),
                Err(DecodeError::Short),
                "{event:?} at {length}"
            );
        }
    }
}

/// A span cannot have more slots than the smallest ones fill.
#[test]
fn spans_of_too_many_slots_are_refused() {
    let span = record(17, 0, 0, 7, &[&eights(&[0; 4]), &fours(&[1_025, 0])]);
    assert_eq!(decode(&span), Err(DecodeError::TooManySlots(1_025)));
}

/// Numbers that nobody assigned are refused by name.
#[test]
fn unknown_numbers_are_refused() {
    let words = [0u8; 64];
    assert_eq!(
        decode(&record(99, 0, 0, 1, &[&words])),
        Err(DecodeError::UnknownKind(99))
    );
    assert_eq!(
        decode(&record(1, 77, 0, 1, &[&words])),
        Err(DecodeError::UnknownCall(77))
    );
    let eight = 1u64.to_ne_bytes();
    let deep = record(
        5,
        0,
        0,
        1,
        &[&eight, &eight, &129u32.to_ne_bytes(), &0u32.to_ne_bytes()],
    );
    assert_eq!(decode(&deep), Err(DecodeError::TooManyFrames(129)));
    let odd = record(
        5,
        0,
        0,
        1,
        &[&eight, &eight, &0u32.to_ne_bytes(), &9u32.to_ne_bytes()],
    );
    assert_eq!(decode(&odd), Err(DecodeError::UnknownStackEnd(9)));
}
