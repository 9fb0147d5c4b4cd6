//! Owns the claim that debug information of a Go program leads to a layout or to a reason, in bounded time and memory.
//! Must not know files' headers: a sound one is made around what comes, so that the entries are what is fuzzed.
#![no_main]

use leaktrace::golang::debug_info;
use leaktrace_common::go::SLOT_BYTES;
use libfuzzer_sys::fuzz_target;
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk() else {
        return;
    };
    // The table of forms first, as long as it says.
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (forms, entries) = rest.split_at(length);
    let file = aligned(&file(forms, entries));
    let Ok(layout) = debug_info::layout(bytes_of(&file), 28, true) else {
        return;
    };
    // What the probes read of a span, and the agent of a goroutine, is bounded.
    assert!(layout.span.elemsize < 248 && layout.span.state < 248);
    assert!(layout.goroutine.read_bytes <= 3 << 10);
});

/// A file with this debug information and the table of slots' sizes as every version has it.
fn file(forms: &[u8], entries: &[u8]) -> Vec<u8> {
    let mut file = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    for (name, bytes) in [(".debug_abbrev", forms), (".debug_info", entries)] {
        let section = file.add_section(vec![], name.into(), SectionKind::Debug);
        file.append_section_data(section, bytes, 1);
    }
    let section = file.add_section(vec![], b".rodata".to_vec(), SectionKind::ReadOnlyData);
    let slots: Vec<u8> = SLOT_BYTES.iter().flat_map(|it| it.to_le_bytes()).collect();
    file.append_section_data(section, &slots, 8);
    file.add_symbol(Symbol {
        name: b"runtime.class_to_size".to_vec(),
        value: 0,
        size: slots.len() as u64,
        kind: SymbolKind::Data,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    let mut bytes = file.write().expect("it is sound");
    place_sections(&mut bytes);
    bytes
}

/// Sections of an object file have no addresses, which the table is looked for by: each gets its offset.
fn place_sections(bytes: &mut [u8]) {
    let word = |bytes: &[u8], at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    let headers = word(bytes, 40) as usize;
    let count = usize::from(u16::from_le_bytes([bytes[60], bytes[61]]));
    let mut symbols = None;
    let mut slots_at = 0;
    for at in (0..count).map(|index| headers + 64 * index) {
        let offset = word(bytes, at + 24);
        let kind = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes"));
        let is_loaded = word(bytes, at + 8) & 2 != 0;
        if kind == 2 {
            symbols = Some((offset as usize, word(bytes, at + 32) as usize));
        } else if is_loaded && word(bytes, at + 32) >= 2 * SLOT_BYTES.len() as u64 {
            bytes[at + 16..at + 24].copy_from_slice(&offset.to_le_bytes());
            slots_at = offset;
        }
    }
    // The only symbol with a size is the table's.
    let (start, length) = symbols.expect("a symbol was added");
    for at in (start..start + length).step_by(24) {
        if word(bytes, at + 16) > 0 {
            bytes[at + 8..at + 16].copy_from_slice(&slots_at.to_le_bytes());
        }
    }
}

/// A mapping begins at a page, a vector anywhere.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let chunks = bytes.chunks(8);
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    };
    chunks.map(word).collect()
}

fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: every byte of the words is initialized, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}
