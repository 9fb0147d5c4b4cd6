//! Owns telling an allocator's version from its file.
//! Must not know processes or probes.

use iced_x86::{Code, Decoder, DecoderOptions};
use leaktrace_common::cookie::Family;

use crate::binary::elf::Elf;

/// The longest version that is shown.
const VERSION_BYTES_MAX: usize = 48;

/// The version of an allocator in a file, where the file says it.
#[must_use]
pub fn version(elf: &Elf<'_>, family: Family) -> Option<String> {
    match family {
        Family::Glibc => after(elf, b"GNU C Library (", b"stable release version ", b".\n,"),
        Family::Tcmalloc => after(elf, b"gperftools ", b"", b"\0\n "),
        Family::Jemalloc => jemalloc(elf),
        Family::Mimalloc => mimalloc(elf),
        Family::Musl => musl(elf),
        Family::Cpp | Family::Rust | Family::Other => None,
    }
}

/// The printable text behind `second`, which follows soon after `first`, up to one of `ends`; a dot
/// ends it only before a blank or a line's end.
fn after(elf: &Elf<'_>, first: &[u8], second: &[u8], ends: &[u8]) -> Option<String> {
    let bytes = elf.constants();
    let start = memmem(bytes, first)? + first.len();
    let rest = &bytes[start..bytes.len().min(start + 256)];
    let from = memmem(rest, second)? + second.len();
    let text = &rest[from..rest.len().min(from + VERSION_BYTES_MAX)];
    let end = text.iter().enumerate().position(|(at, byte)| match byte {
        b'.' => text.get(at + 1).is_none_or(|next| !next.is_ascii_digit()),
        byte => ends.contains(byte),
    });
    printable(&text[..end?])
}

/// `5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c`, of which the part before the commit is shown.
fn jemalloc(elf: &Elf<'_>) -> Option<String> {
    let bytes = elf.constants();
    let mut from = 0;
    while let Some(at) = memmem(&bytes[from..], b"-g") {
        let at = from + at;
        from = at + 2;
        let commit = bytes.get(from..from + 40)?;
        if !commit.iter().all(u8::is_ascii_hexdigit) {
            continue;
        }
        let start = bytes[..at].iter().rposition(|byte| *byte == 0)? + 1;
        let text = &bytes[start..at];
        if text.len() <= VERSION_BYTES_MAX && text.first().is_some_and(u8::is_ascii_digit) {
            let text = printable(text)?;
            return Some(text.split('-').next().unwrap_or(&text).to_owned());
        }
    }
    None
}

/// The number that `mi_version` returns: 209 is 2.0.9, and, since there were more minor versions, 30401 is 3.4.1.
fn mimalloc(elf: &Elf<'_>) -> Option<String> {
    let function = elf.functions(&["mi_version"]).first().copied()?;
    let code = elf.code_up_to(function.svma, 32);
    let mut decoder = Decoder::with_ip(64, code, function.svma, DecoderOptions::NONE);
    for instruction in decoder.iter().take(3) {
        if instruction.code() == Code::Mov_r32_imm32 {
            let number = instruction.immediate32();
            let base = if number < 10_000 { 10 } else { 100 };
            return Some(format!(
                "{}.{}.{}",
                number / (base * base),
                number / base % base,
                number % base
            ));
        }
    }
    None
}

/// The text between two zeros that looks like one of musl's versions, where the file is musl.
fn musl(elf: &Elf<'_>) -> Option<String> {
    let bytes = elf.constants();
    memmem(bytes, b"musl libc")?;
    let is_version = |text: &&[u8]| {
        let dots = text.iter().filter(|byte| **byte == b'.').count();
        let digits = text
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.');
        dots == 2 && digits && (5..=8).contains(&text.len()) && text[0].is_ascii_digit()
    };
    printable(bytes.split(|byte| *byte == 0).find(is_version)?)
}

fn printable(text: &[u8]) -> Option<String> {
    let is_plain = !text.is_empty() && text.iter().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| String::from_utf8_lossy(text).into_owned())
}

fn memmem(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
