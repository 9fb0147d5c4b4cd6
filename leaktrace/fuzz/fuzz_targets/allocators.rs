//! Owns the claim that any file can be looked at for allocators, in bounded time and memory, and that what is chosen of it
//! lies in its code.
//! Must not know what is in the file.
#![no_main]

use std::{fs::File, io::Write as _};

use leaktrace::{
    allocators::{Outcome, ReturnProbes},
    examine::examine_file,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile();
    file.write_all(bytes).expect("memory");
    let Ok(examined) = examine_file(&file, "/hostile", None, ReturnProbes::Avoided) else {
        return;
    };
    let length = bytes.len() as u64;
    for allocator in &examined.allocators {
        for probe in &allocator.probes {
            assert!(probe.file_offset < length, "a probe lies in the file");
            assert!(probe.file_offset >= probe.entry_file_offset);
            if let Outcome::Instructions(offsets) = &probe.outcome {
                assert!(offsets.iter().all(|offset| *offset < length));
            }
        }
    }
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
