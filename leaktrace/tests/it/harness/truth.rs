//! Owns the comparison of a report with what the program itself knows: exact, never about.
//! Must not know how either came about.

use std::collections::BTreeMap;

use super::{
    stream::{Live, Process},
    workload::Truth,
};

/// Sites whose calls reach malloc through functions of libc, which keep no frame pointers: their
/// own frames are found by unwind tables only.
const BEHIND_LIBC: &[&str] = &[
    "site_strdup",
    "site_strndup",
    "site_getline",
    "site_asprintf",
    "site_open_memstream",
];

/// The process holds what it says, site by site, nothing else, and the report says it is exact.
#[track_caller]
pub fn assert_exact(process: &Process, truths: &[Truth]) {
    assert_is_exact(process);
    assert_live(process, truths);
}

/// The same of a process of a host, in the first moments of the trace or of its life: until its
/// unwind tables are in place, sites behind libc are not told apart and are compared in one sum.
#[track_caller]
pub fn assert_exact_at_once(process: &Process, truths: &[Truth]) {
    assert_is_exact(process);
    assert_live_at_once(process, truths);
}

/// The process holds what it says, site by site and nothing else, whatever the report's accuracy.
#[track_caller]
pub fn assert_live(process: &Process, truths: &[Truth]) {
    assert_live_but(&[], process, truths);
}

/// The same in the first moments, as above.
#[track_caller]
pub fn assert_live_at_once(process: &Process, truths: &[Truth]) {
    assert_live_but(BEHIND_LIBC, process, truths);
}

#[track_caller]
fn assert_is_exact(process: &Process) {
    assert_eq!(process.accuracy(), "exact", "{:#}", process.line);
    assert_eq!(process.line["coverage"], "full", "{:#}", process.line);
}

#[track_caller]
fn assert_live_but(hidden: &[&str], process: &Process, truths: &[Truth]) {
    assert!(
        !truths.is_empty(),
        "a process without truths proves nothing"
    );
    let of_truths = truths
        .iter()
        .map(|it| (it.function.clone(), (it.live_count, it.live_bytes)));
    let expected = sums(hidden, of_truths);
    let reported = sums(hidden, process.by_function().into_iter());
    assert_eq!(reported, expected, "{}\n{:#?}", process.line, process.sites);
    let total = expected
        .values()
        .fold((0, 0), |sum, live| (sum.0 + live.0, sum.1 + live.1));
    assert_eq!(process.live(), total, "{:#}", process.line);
}

/// What is live by function; what is hidden stands under the empty name, as what has no site.
fn sums(hidden: &[&str], lives: impl Iterator<Item = (String, Live)>) -> BTreeMap<String, Live> {
    let mut sums: BTreeMap<String, Live> = BTreeMap::new();
    for (function, live) in lives.filter(|(_, live)| live.0 > 0) {
        let is_hidden = hidden.contains(&function.as_str());
        let name = if is_hidden { String::new() } else { function };
        let sum = sums.entry(name).or_default();
        *sum = (sum.0 + live.0, sum.1 + live.1);
    }
    sums
}
