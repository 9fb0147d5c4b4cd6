//! Owns the claim that any function table of a Go program can be asked for names, lines and inlined calls, in bounded
//! time and memory.
//! Must not know files: a header that is sound is made of what comes, so that the rest gets further than the magic.
#![no_main]

use leaktrace::golang::binary::PcTable;
use libfuzzer_sys::fuzz_target;

/// Where the code begins.
const TEXT: u64 = 0x40_1000;

/// The header: the magic and eight words.
const HEADER_BYTES: usize = 72;

/// More functions only repeat what these do.
const FUNCTIONS_MAX: usize = 256;

fuzz_target!(|input: (u8, [u16; 4], u16, &[u8])| {
    let (nfunc, mut starts, trees, body) = input;
    let mut bytes = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    starts.sort_unstable();
    let start = |at: u16| (HEADER_BYTES + usize::from(at) % (body.len() + 1)) as u64;
    let mut starts = starts.map(start);
    starts.sort_unstable();
    let [names, units, files, steps] = starts;
    // The functions begin in the middle of what is left.
    let functions = steps + (HEADER_BYTES as u64 + body.len() as u64 - steps) / 2;
    let words = [
        u64::from(nfunc),
        1,
        TEXT,
        names,
        units,
        files,
        steps,
        functions,
    ];
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(body);
    let trees = &body[usize::from(trees) % (body.len() + 1)..];
    let Ok(table) = PcTable::of_bytes(&bytes, trees, TEXT) else {
        return;
    };
    ask(&table);
    let owned = table.into_owned();
    assert!(owned.size_bytes() <= bytes.len() + trees.len());
    ask(&owned);
});

/// Asks for everything that is asked for.
fn ask(table: &PcTable<'_>) {
    for function in table.functions().take(FUNCTIONS_MAX) {
        assert!(function.end_svma >= function.entry_svma);
        for svma in [
            function.entry_svma,
            function.entry_svma.midpoint(function.end_svma),
            function.end_svma.wrapping_sub(1),
        ] {
            assert!(
                table.frames(svma).len() <= 65,
                "as many as calls can be inlined"
            );
            let _ = (table.frame_bytes(svma), table.function_at(svma));
        }
    }
    assert!(
        table
            .inlined_functions(&|name| name.len() > 3)
            .take(4096)
            .count()
            <= 4096
    );
}
