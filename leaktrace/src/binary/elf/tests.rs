//! Owns the tests of the ELF reader, on the machine's own files and on damaged copies of them.
//! Must not know other modules.

use super::*;

const NAMES: [&str; 4] = ["malloc", "free", "no_such_function", "posix_memalign"];

/// The libc that this test runs on, as the loader mapped it.
fn libc() -> Vec<u8> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.rsplit('/').next()?.starts_with("libc").then_some(path)
    });
    std::fs::read(path.expect("the test is linked dynamically")).unwrap()
}

/// A pure generator, so that a failure can be repeated (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Calls everything that reads the bytes.
fn read_all(bytes: &[u8]) {
    let Ok(elf) = Elf::parse(bytes) else { return };
    let _ = (elf.build_id(), elf.interpreter(), elf.needed());
    for function in elf.functions(&NAMES) {
        let _ = elf.code(function.svma, function.size);
        let _ = elf.code_up_to(function.svma, u64::MAX);
        // Damaged loads may overlap, so the way back may differ; it must only exist.
        assert!(elf.file_offset_to_svma(function.file_offset).is_some());
    }
}

/// The damaged header of a good file, and what is said of it.
#[test]
fn each_mismatch_has_its_error() {
    let good = libc();
    let error = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        Elf::parse(&bytes).err()
    };
    assert!(Elf::parse(&good).is_ok());
    assert_eq!(Elf::parse(b"").err(), Some(ElfError::NotElf));
    assert_eq!(Elf::parse(&good[..63]).err(), Some(ElfError::NotElf));
    assert_eq!(error(0, b"MZ"), Some(ElfError::NotElf));
    assert_eq!(error(4, &[1]), Some(ElfError::Not64Bit));
    assert_eq!(error(5, &[2]), Some(ElfError::NotLittleEndian));
    assert_eq!(error(16, &[1, 0]), Some(ElfError::Kind(1)));
    assert_eq!(error(18, &[183, 0]), Some(ElfError::Machine(183)));
    assert_eq!(
        error(56, &[0xe8, 0x80]),
        Some(ElfError::TooManySegments(0x80e8))
    );
    assert_eq!(error(32, &[0xff; 8]), Some(ElfError::BadSegments));
    assert_eq!(error(56, &[0, 0]), Some(ElfError::NoCode));
    assert_eq!(
        ElfError::Machine(183).to_string(),
        "an ELF file for machine 183; only x86-64 (62) is supported"
    );
}

/// Functions are found with their bytes, and offsets and addresses translate both ways.
#[test]
fn finds_functions_of_libc() {
    let bytes = libc();
    let elf = Elf::parse(&bytes).unwrap();
    let functions = elf.functions(&NAMES);
    let names: Vec<_> = functions.iter().map(|function| function.name).collect();
    assert_eq!(names, ["malloc", "free", "posix_memalign"]);
    for function in functions {
        assert!(function.size > 0 && !function.ifunc);
        assert_eq!(
            elf.svma_to_file_offset(function.svma),
            Some(function.file_offset)
        );
        assert_eq!(
            elf.file_offset_to_svma(function.file_offset),
            Some(function.svma)
        );
        let code = elf.code(function.svma, function.size).unwrap();
        let start = function.file_offset as usize;
        assert_eq!(code, &bytes[start..start + code.len()]);
    }
    // glibc chooses strlen when it is loaded.
    assert!(
        elf.functions(&["strlen"])
            .iter()
            .any(|function| function.ifunc)
    );
    assert_eq!(elf.code(0, 0), None);
    assert_eq!(elf.code(u64::MAX, 16), None);
    assert!(elf.needed().iter().any(|name| name.starts_with("ld-linux")));
    assert!((1..=64).contains(&elf.build_id().unwrap().len()));
}

/// Names that are not exported are found in the full symbol table.
#[test]
fn finds_local_functions_of_a_program() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let elf = Elf::parse(&bytes).unwrap();
    assert_eq!(elf.functions(&["main"]).len(), 1);
    assert!(
        elf.functions(&["malloc"]).is_empty(),
        "an import is no definition"
    );
    assert!(elf.interpreter().unwrap().contains("ld-linux"));
    assert!(elf.needed().contains(&"libc.so.6"));
}

/// Stripped section headers change nothing: the dynamic segment says the same.
#[test]
fn reads_without_section_headers() {
    let whole = libc();
    let mut stripped = whole.clone();
    stripped[40..48].fill(0);
    stripped[58..64].fill(0);
    stripped[58] = 64;
    let (whole, stripped) = (Elf::parse(&whole).unwrap(), Elf::parse(&stripped).unwrap());
    assert!(whole.sections.is_some() && stripped.sections.is_none());
    assert_eq!(whole.functions(&NAMES), stripped.functions(&NAMES));
    assert_eq!(whole.build_id(), stripped.build_id());
    assert_eq!(whole.needed(), stripped.needed());
}

/// A file that gives one name to every symbol yields a capped list without repeats.
#[test]
fn one_name_has_few_addresses() {
    let mut bytes = libc();
    let elf = Elf::parse(&bytes).unwrap();
    let symbols = elf.section_symbols(elf::SHT_DYNSYM).unwrap().symbols;
    let table = symbols.as_ptr().addr() - bytes.as_ptr().addr();
    let count = symbols.len();
    let wanted = elf.functions(&["malloc"])[0].svma;
    let name = symbols
        .iter()
        .find(|symbol| symbol.st_value(LE) == wanted)
        .map(|s| s.st_name(LE));
    let kept = elf.functions(&["malloc", "__libc_malloc"]).len();
    assert_eq!(kept, 2);
    for index in 0..count {
        let at = table + index * size_of::<Symbol>();
        bytes[at..at + 4].copy_from_slice(&name.unwrap().to_le_bytes());
    }
    let elf = Elf::parse(&bytes).unwrap();
    let mut found: Vec<_> = ["malloc", "__libc_malloc"]
        .iter()
        .flat_map(|name| elf.functions(&[name]))
        .map(|function| function.svma)
        .collect();
    assert_eq!(found.len(), MAX_ADDRESSES_PER_NAME);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), MAX_ADDRESSES_PER_NAME);
}

/// Files cut short and files with random bytes in their tables never panic.
#[test]
fn survives_damage() {
    let good = libc();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..300 {
        read_all(&good[..random.below(good.len())]);
        read_all(&good[..random.below(2048)]);
    }
    // Headers and notes at the front, hash and symbols behind them, dynamic and section headers
    // at the back.
    let zones = [
        0..64,
        64..0x400,
        0x400..0x2_5000,
        good.len() - 0x2_0000..good.len(),
    ];
    let mut bytes = good.clone();
    for _ in 0..2000 {
        let mut undo = Vec::new();
        for _ in 0..1 + random.below(8) {
            let zone = &zones[random.below(zones.len())];
            let at = zone.start + random.below(zone.len());
            undo.push((at, bytes[at]));
            bytes[at] = if random.below(2) == 0 {
                0xff
            } else {
                random.next() as u8
            };
        }
        read_all(&bytes);
        for (at, byte) in undo.into_iter().rev() {
            bytes[at] = byte;
        }
    }
    assert_eq!(bytes, good);
}
