//! Owns the tests that a profile holds together and says what the report says.
//! Must not know how it is built; Go's own tool reads one in the tests of the agent.

use std::{collections::BTreeSet, io::Read as _};

use flate2::read::GzDecoder;

use super::*;
use crate::report::samples::{self, Random};

fn of(report: Report) -> Profile {
    profile(&Snapshot::of(&samples::host(), report), None)
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[usize::try_from(index).unwrap()]
}

/// Ids are 1, 2, 3, and so on.
fn assert_sequence(ids: impl Iterator<Item = u64>) {
    for (at, id) in ids.enumerate() {
        assert_eq!(id, at as u64 + 1);
    }
}

/// What pprof's own `CheckValid` asks of a profile, and what Parca does
/// (<https://github.com/parca-dev/parca/blob/v0.24.0/pkg/normalizer/validate.go>).
fn assert_valid(profile: &Profile) {
    assert_eq!(profile.string_table[0], "");
    let strings = profile.string_table.len() as i64;
    let is_string = |index: i64| assert!((0..strings).contains(&index));
    let locations: BTreeSet<u64> = profile.location.iter().map(|it| it.id).collect();
    let functions: BTreeSet<u64> = profile.function.iter().map(|it| it.id).collect();
    assert_eq!(locations.len(), profile.location.len());
    assert_eq!(functions.len(), profile.function.len());
    assert_sequence(profile.location.iter().map(|it| it.id));
    assert_sequence(profile.function.iter().map(|it| it.id));
    assert_sequence(profile.mapping.iter().map(|it| it.id));
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), profile.sample_type.len());
        assert!(!sample.location_id.is_empty());
        assert!(sample.location_id.iter().all(|id| locations.contains(id)));
        assert!(sample.value.iter().all(|value| *value >= 0));
        for label in &sample.label {
            is_string(label.key);
            is_string(label.str);
            assert_ne!(label.key, 0);
        }
    }
    for location in &profile.location {
        assert!(!location.line.is_empty());
        assert!(
            location
                .line
                .iter()
                .all(|it| functions.contains(&it.function_id))
        );
        if location.mapping_id != 0 {
            let mapping = &profile.mapping[location.mapping_id as usize - 1];
            assert_eq!(mapping.id, location.mapping_id);
            let range = mapping.memory_start..mapping.memory_limit;
            assert!(
                range.contains(&location.address),
                "{mapping:?} {location:?}"
            );
        }
    }
    for pair in profile.mapping.windows(2) {
        assert!(pair[0].memory_limit <= pair[1].memory_start);
    }
}

/// Live bytes of a process are the sum of its samples, and each sample says whose it is.
#[test]
fn samples_sum_to_the_report() {
    let report = samples::rich();
    let profile = of(report.clone());
    assert_valid(&profile);
    for process in &report.processes {
        let pid = i64::from(process.identity.pid);
        let is_its = |sample: &&Sample| {
            let mut labels = sample.label.iter();
            labels.any(|it| text(&profile, it.key) == "pid" && it.num == pid)
        };
        let sum = |index: usize| -> u64 {
            let its = profile.sample.iter().filter(is_its);
            its.map(|sample| sample.value[index] as u64).sum()
        };
        let hidden: u64 = process.suppressed.iter().map(|it| it.live_bytes).sum();
        assert_eq!(sum(3), process.counts.live_bytes - hidden, "{pid}");
        assert_eq!(sum(1), process.counts.allocated_bytes, "{pid}");
        assert_eq!(sum(0), process.counts.allocated_count, "{pid}");
    }
    let names: Vec<_> = profile
        .sample_type
        .iter()
        .map(|it| text(&profile, it.r#type))
        .collect();
    assert_eq!(
        names,
        [
            "alloc_objects",
            "alloc_space",
            "inuse_objects",
            "inuse_space"
        ]
    );
    assert_eq!(text(&profile, profile.default_sample_type), "inuse_space");
}

/// Inlined functions are lines of one location, in a file that is named with its build id.
#[test]
fn inlined_frames_share_a_location() {
    let profile = of(samples::rich());
    let leak = &profile.sample[0];
    let location = &profile.location[leak.location_id[0] as usize - 1];
    let names: Vec<_> = location
        .line
        .iter()
        .map(|it| {
            let function = &profile.function[it.function_id as usize - 1];
            (text(&profile, function.name), it.line)
        })
        .collect();
    assert_eq!(
        names,
        [("AllocSetAllocFromNewBlock", 1034), ("AllocSetAlloc", 1012)]
    );
    let mapping = &profile.mapping[location.mapping_id as usize - 1];
    assert_eq!(text(&profile, mapping.filename), "postgres");
    assert!(text(&profile, mapping.build_id).starts_with("5f1d3c"));
    assert_eq!(location.address - mapping.memory_start, 0x6a1f48);
}

/// What makes figures doubtful is told, and nothing in the profile deceives a terminal.
#[test]
fn doubts_are_told() {
    let profile = of(samples::rich());
    let said: Vec<_> = profile
        .comment
        .iter()
        .map(|it| text(&profile, *it))
        .collect();
    for word in [
        "lossy",
        "partly covered",
        "not covered",
        "sampled",
        "leak:libcrypto.so",
    ] {
        assert!(
            said.iter().any(|it| it.contains(word)),
            "no {word} in {said:?}"
        );
    }
    let deceives = |text: &&String| text.chars().any(crate::report::escape::is_deceptive);
    assert_eq!(profile.string_table.iter().find(deceives), None);
}

/// One process can be asked for, and of one that is not there nothing is told.
#[test]
fn one_process_alone() {
    let snapshot = Snapshot::of(&samples::host(), samples::rich());
    let one = profile(&snapshot, Some(4312));
    assert_eq!(one.sample.len(), 3);
    let comms = one.sample.iter().flat_map(|it| &it.label);
    let comms: BTreeSet<_> = comms
        .filter(|it| text(&one, it.key) == "comm")
        .map(|it| text(&one, it.str))
        .collect();
    assert_eq!(comms, BTreeSet::from(["postgres"]));
    assert!(profile(&snapshot, Some(1_000_000)).sample.is_empty());
}

/// Any report makes a valid profile, which survives being compressed.
#[test]
fn any_report_makes_a_valid_profile() {
    for seed in 0..100 {
        let report = Random::new(seed).report();
        let snapshot = Snapshot::of(&samples::host(), report);
        let made = profile(&snapshot, None);
        assert_valid(&made);
        let mut bytes = Vec::new();
        GzDecoder::new(&render(&snapshot, None)[..])
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(Profile::decode(&bytes[..]).unwrap(), made);
    }
}
