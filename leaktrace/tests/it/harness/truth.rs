//! Owns the comparison of a report with what the program itself knows: exact, never about.
//! Must not know how either came about.

use std::collections::BTreeMap;

use super::{
    stream::{Live, Process},
    workload::Truth,
};

/// Sites whose calls reach malloc through functions of libc, which keep no frame pointers: a walk
/// by frame pointers leaves out the site itself. They are compared in one sum. Empty this list
/// once stacks are unwound by .eh_frame.
const HIDDEN_BY_LIBC: &[&str] = &[];

/// The process holds what it says, site by site, nothing else, and the report says it is exact.
#[track_caller]
pub fn assert_exact(process: &Process, truths: &[Truth]) {
    assert_eq!(process.accuracy(), "exact", "{:#}", process.line);
    assert_eq!(process.line["coverage"], "full", "{:#}", process.line);
    assert_live(process, truths);
}

/// The process holds what it says, site by site and nothing else, whatever the report's accuracy.
#[track_caller]
pub fn assert_live(process: &Process, truths: &[Truth]) {
    assert!(
        !truths.is_empty(),
        "a process without truths proves nothing"
    );
    let mut expected: BTreeMap<String, Live> = BTreeMap::new();
    for truth in truths.iter().filter(|truth| truth.live_count > 0) {
        let name = if HIDDEN_BY_LIBC.contains(&truth.function.as_str()) {
            String::new()
        } else {
            truth.function.clone()
        };
        let live = expected.entry(name).or_default();
        live.0 += truth.live_count;
        live.1 += truth.live_bytes;
    }
    let total = expected
        .values()
        .fold((0, 0), |sum, live| (sum.0 + live.0, sum.1 + live.1));
    assert_eq!(process.by_function(), expected, "{}", process.line);
    assert_eq!(process.live(), total, "{:#}", process.line);
}
