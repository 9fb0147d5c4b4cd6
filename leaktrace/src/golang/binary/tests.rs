//! Tests of what needs no program made by Go.

use super::{GoBinary, GoError, table, version};

/// A table's header with these words, and room for what they promise.
fn header(words: [u64; 8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.resize(len, 0);
    bytes
}

/// Text in, minor version out.
#[test]
fn a_minor_version_is_read_from_all_that_go_writes() {
    for (text, expected) in [
        ("go1.24.11", Some(24)),
        ("go1.27rc1", Some(27)),
        ("devel go1.28-3f6c2a1 Tue Nov 3", Some(28)),
        ("go1.25.5 X:greenteagc", Some(25)),
        ("go1.26", Some(26)),
        ("go1.", None),
        ("go1.99999999999", None),
        ("1.24", None),
    ] {
        assert_eq!(version::minor_of(text), expected, "{text}");
    }
}

/// A program that is not Go's is told from one at once, and bytes that are no program too.
#[test]
fn what_is_not_go_is_said_not_to_be() {
    let own = std::fs::read("/proc/self/exe").unwrap();
    assert!(matches!(GoBinary::parse(&own), Err(GoError::NotGo)));
    assert!(matches!(
        GoBinary::parse(b"#!/bin/sh"),
        Err(GoError::NotElf(_))
    ));
}

/// A header counts only where its tables lie within the file, in the linker's order.
#[test]
fn a_header_must_describe_tables_within_the_file() {
    let sound = [1, 1, 0, 72, 80, 84, 88, 96];
    let find = |words, len| table::find_header(&header(words, len)).is_some();
    assert!(find(sound, 256));
    assert!(!find(sound, 104), "the last entry is cut off");
    assert!(!find([0, 1, 0, 72, 80, 84, 88, 96], 256), "no functions");
    assert!(!find([u64::MAX, 1, 0, 72, 80, 84, 88, 96], 256));
    assert!(!find([1, 1, 0, 72, 80, 84, 88, u64::MAX - 7], 256));
    assert!(!find([1, 1, 0, 96, 80, 84, 88, 72], 256), "another order");
}
