//! Owns the tests of what goes into a copy and what does not.
//! Must not know blazesym.

use super::*;

/// A section's bytes: the header that claims a size, and zeros compressed.
fn compressed(zeros: u64, claimed: u64) -> Vec<u8> {
    let mut header =
        *first::<CompressionHeader64<LittleEndian>>(&[0; 24]).expect("as long as a header");
    header.ch_type.set(LittleEndian, elf::ELFCOMPRESS_ZLIB);
    header.ch_size.set(LittleEndian, claimed);
    let mut bytes = pod::bytes_of(&header).to_vec();
    let plain = io::repeat(0).take(zeros);
    flate2::read::ZlibEncoder::new(plain, flate2::Compression::fast())
        .read_to_end(&mut bytes)
        .expect("memory can be read");
    bytes
}

/// A section that unfolds to more than it claims, or claims more than is allowed,
/// is refused before it takes memory.
#[test]
fn sections_that_explode_are_refused() {
    const LIMIT: u64 = 64 * 1024;
    let unfolded = |zeros, claimed| unfold_section(&compressed(zeros, claimed), LIMIT);
    assert_eq!(unfolded(5000, 5000).ok(), Some(5000));
    assert!(unfolded(5000, u64::MAX).is_err());
    // One byte over the limit is told, not the whole.
    assert_eq!(unfolded(100 * LIMIT, 10).ok(), Some(LIMIT + 1));
    assert!(unfold_section(b"short", LIMIT).is_err());
}

/// The same for a symbol table in xz form, also where its header asks for a
/// dictionary of gigabytes.
#[test]
fn symbol_tables_that_explode_are_refused() {
    let xz = |zeros: u64| {
        let mut bytes = Vec::new();
        xz2::read::XzEncoder::new(io::repeat(0).take(zeros), 1)
            .read_to_end(&mut bytes)
            .expect("memory can be read");
        bytes
    };
    assert_eq!(unfold_xz(&xz(5000), 6000).ok(), Some(5000));
    assert_eq!(unfold_xz(&xz(1_000_000), 6000).ok(), Some(6001));
    assert!(unfold_xz(b"no xz", 6000).is_err());
}
