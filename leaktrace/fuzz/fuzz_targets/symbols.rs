//! Owns the claim that any file that is mapped leads to names or to a reason, with whoever's rights it was written.
//! Must not know what is in the file.
#![no_main]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    panic,
    sync::{Arc, Once},
    thread,
};

use leaktrace::{
    modules::Modules,
    symbolize::{Request, Symbolizer},
};
use libfuzzer_sys::fuzz_target;

/// The agent survives what blazesym's parsers panic at, on the thread that asks it; anything else is a find.
fn survive_the_symbolizer() {
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |about| {
        if thread::current().name() != Some("symbolizer") {
            otherwise(about);
        }
    }));
}

fuzz_target!(|bytes: &[u8]| {
    static ONCE: Once = Once::new();
    ONCE.call_once(survive_the_symbolizer);
    // As root's own, and as one that anybody can write, which is copied.
    for mode in [0o755, 0o666] {
        ask(bytes, mode);
    }
});

fn ask(bytes: &[u8], mode: u32) {
    let path = std::env::temp_dir().join(format!("leaktrace-fuzz-{}", std::process::id()));
    fs::write(&path, bytes).expect("a file can be written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its mode can be set");
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
}
