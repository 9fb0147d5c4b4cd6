//! Owns the claim that any file has an unwind table, an empty one at worst, and that the table is sound.
//! Must not know what is in the file.
#![no_main]

use std::{fs::File, io::Write as _};

use leaktrace::unwind::{FrameSections, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile();
    file.write_all(bytes).expect("memory");
    let Ok(sections) = FrameSections::read(&file) else {
        return;
    };
    let functions = Table::functions(&sections);
    assert!(functions.is_sorted());
    let (table, _) = Table::build(&sections);
    let again = Table::from_parts(
        table.pcs().to_vec(),
        table.rules().to_vec(),
        table.palette().to_vec(),
    );
    assert_eq!(
        again.as_ref(),
        Some(&table),
        "it keeps what a table promises"
    );
});

/// A file that nobody else has.
fn tempfile() -> File {
    let path = std::env::temp_dir().join(format!("leaktrace-fuzz-{}", std::process::id()));
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true);
    let file = file.open(&path).expect("a file can be made");
    let _ = std::fs::remove_file(&path);
    file
}
