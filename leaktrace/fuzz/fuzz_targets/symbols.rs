//! Owns the claim that any file that is mapped leads to names or to a reason, with whoever's rights it was written.
//! Must not know what is in the file.
#![no_main]

use std::{fs, sync::Arc};

use leaktrace::{
    modules::Modules,
    symbolize::{Request, Symbolizer},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("leaktrace-fuzz-{}", std::process::id()));
    fs::write(&path, bytes).expect("a file can be written");
    let mut modules = Modules::default();
    let id = modules.adopt(&path);
    let _ = fs::remove_file(&path);
    let symbolizer = Symbolizer::spawn().expect("the thread starts");
    let requests: Vec<Request> = [0, 0x1000, 0x1010, 0x1100, u64::MAX]
        .map(|file_offset| Request {
            module: Arc::clone(modules.get(id)),
            file_offset,
            is_return_address: file_offset % 3 == 0,
        })
        .to_vec();
    let answers = symbolizer.symbolize_blocking(requests);
    assert!(answers.iter().all(|frames| !frames.is_empty()));
    let told = |frame: &leaktrace::report::model::Frame| {
        frame.function.is_some() || frame.unresolved.is_some()
    };
    assert!(answers.iter().flatten().all(told));
});
