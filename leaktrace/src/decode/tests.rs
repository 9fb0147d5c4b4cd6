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

fn samples() -> Vec<(Vec<u8>, Event)> {
    let eight = |value: u64| value.to_ne_bytes();
    let four = |value: u32| value.to_ne_bytes();
    let alloc = Alloc {
        tgid: 7,
        call: Call::Calloc,
        address: 0x5555_0000,
        size: 96,
        stack: 0xabcd,
        time_ns: 123_456_789,
    };
    let alloc_words = [
        eight(0x5555_0000),
        eight(96),
        eight(0xabcd),
        eight(123_456_789),
    ]
    .concat();
    let image = Image {
        tgid: 7,
        time_ns: 5,
        uid: 1000,
        comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
    };
    let image_words = [
        &eight(5)[..],
        &four(1000),
        &four(0),
        b"worker\0\0\0\0\0\0\0\0\0\0",
    ]
    .concat();
    vec![
        (record(1, 2, 0, 7, &[&alloc_words]), Event::Alloc(alloc)),
        (
            record(2, 5, 0, 7, &[&eight(64)]),
            Event::Free {
                tgid: 7,
                address: 64,
            },
        ),
        (
            record(3, 3, 0, 7, &[&eight(64), &four(8), &four(0)]),
            Event::ReallocBegin {
                tgid: 7,
                tid: 8,
                address: 64,
            },
        ),
        (
            record(
                4,
                2,
                FLAG_NOT_FOLLOWED,
                7,
                &[&eight(64), &alloc_words, &four(8), &four(0)],
            ),
            Event::ReallocEnd {
                tid: 8,
                old_address: 64,
                is_followed: false,
                new: alloc,
            },
        ),
        (
            record(
                5,
                0,
                0,
                7,
                &[
                    &eight(9),
                    &eight(1),
                    &four(2),
                    &four(2),
                    &eight(10),
                    &eight(11),
                ],
            ),
            Event::Stack {
                tgid: 7,
                id: 9,
                frames: vec![10, 11],
                end: StackEnd::NoFramePointer,
                time_ns: 1,
            },
        ),
        (
            record(
                6,
                0,
                0,
                7,
                &[&four(70), &four(0), &eight(3), &eight(0x4100)],
            ),
            Event::Fork {
                tgid: 7,
                child_tgid: 70,
                uid: 0,
                time_ns: 3,
                shares_memory: true,
            },
        ),
        (record(7, 0, 0, 7, &[&image_words]), Event::Exec(image)),
        (record(8, 0, 0, 7, &[&image_words]), Event::Exit(image)),
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
