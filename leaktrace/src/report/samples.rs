//! Owns the reports that the tests of all sinks share: some fixed, any number of random ones.
//! Must not know what a sink makes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::*;

mod random;
pub use self::random::Random;

/// 2026-03-04 10:15:00 UTC, with odd nanoseconds.
const NOW: u64 = 1_772_619_300_000_000_042;
const SECOND: u64 = 1_000_000_000;

/// The host of all samples.
pub fn host() -> Host {
    Host {
        name: "node-7".into(),
        id: "8f2c6d1be0a94c6f9d1c6a5d30f1b2a7".into(),
    }
}

/// The first line of a stream.
pub fn start() -> Start {
    Start {
        time_unix_ns: NOW - 133 * SECOND,
        version: "0.1.0".into(),
        kernel: "6.18.44".into(),
        mode: "trace".into(),
        options: BTreeMap::from([("duration", "30s".into()), ("min_age", "10s".into())]),
    }
}

/// The last line of a stream.
pub fn end() -> End {
    End {
        time_unix_ns: NOW + SECOND,
        elapsed: Duration::from_secs(134),
        reports: 3,
        processes: 217,
        events: 12_345_678,
        lost: BTreeMap::from([("allocations_lost", 37)]),
        reason: "signal".into(),
    }
}

/// A report with one of everything.
pub fn rich() -> Report {
    Report {
        cgroups: Vec::new(),
        number: 3,
        time_unix_ns: NOW,
        elapsed: Duration::from_millis(133_250),
        min_age: Duration::from_secs(10),
        processes: vec![postgres(), renderer(), hostile(), worker(), young(), java()],
        quiet_process_count: 212,
        lost: BTreeMap::from([("lifecycle_lost", 2)]),
    }
}

/// A report of processes that hold nothing long-lived.
pub fn calm() -> Report {
    Report {
        processes: vec![young()],
        lost: BTreeMap::new(),
        ..rich()
    }
}

/// A report in which every age counts.
pub fn ageless() -> Report {
    let mut process = young();
    process.counts.long_lived_bytes = process.counts.live_bytes;
    process.counts.long_lived_count = process.counts.live_count;
    process.runtime = Runtime::Go;
    process.sites = vec![Site {
        counts: process.counts,
        ..Site::default()
    }];
    Report {
        min_age: Duration::ZERO,
        processes: vec![process],
        ..calm()
    }
}

/// A report of nothing at all.
pub fn empty() -> Report {
    Report {
        processes: Vec::new(),
        quiet_process_count: 0,
        lost: BTreeMap::new(),
        ..rich()
    }
}

fn counts(live: (u64, u64), long_lived: (u64, u64), allocated: (u64, u64)) -> Counts {
    Counts {
        live_bytes: live.0,
        live_count: live.1,
        long_lived_bytes: long_lived.0,
        long_lived_count: long_lived.1,
        allocated_bytes: allocated.0,
        allocated_count: allocated.1,
        freed_bytes: allocated.0 - live.0,
        freed_count: allocated.1 - live.1,
    }
}

fn frame(function: &str, location: Option<(&str, u32)>, module: &str, address: u64) -> Frame {
    Frame {
        function: Some(function.into()),
        file: location.map(|(file, _)| file.into()),
        line: location.map(|(_, line)| line),
        module: Some(module.into()),
        build_id: Some("5f1d3c2b7a9e4d6080112233445566778899aabb".into()),
        address,
        ..Frame::default()
    }
}

fn unresolved(module: Option<&str>, address: u64, why: &str) -> Frame {
    Frame {
        module: module.map(Into::into),
        address,
        unresolved: Some(why.into()),
        ..Frame::default()
    }
}

fn process(pid: u32, name: &str, owner: &str) -> Process {
    Process {
        identity: ProcessIdentity {
            pid,
            start_time_unix_ns: NOW - 86_400 * SECOND,
        },
        executable: Executable {
            name: name.into(),
            path: format!("/usr/bin/{name}"),
            build_id: Some("c0ffee5f1d3c2b7a9e4d60801122334455667788".into()),
        },
        command_line: format!("/usr/bin/{name} --serve"),
        owner: owner.into(),
        allocators: vec![Allocator {
            name: "glibc".into(),
            path: "/usr/lib/x86_64-linux-gnu/libc.so.6".into(),
            entry_points: ["malloc", "free", "calloc", "realloc"]
                .map(Into::into)
                .to_vec(),
            not_covered: Vec::new(),
        }],
        coverage: Coverage::Full,
        ..Process::default()
    }
}

/// Grows in one site and fills a cache in another.
fn postgres() -> Process {
    Process {
        container: Some(Container {
            id: "4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899a".into(),
            name: Some("billing-db".into()),
            runtime: Some("docker".into()),
        }),
        k8s: Some(K8s {
            namespace: Some("billing".into()),
            pod: Some("billing-db-0".into()),
            uid: Some("0f3f2ad1-3f4d-4a3b-9e2c-4d5e6f708192".into()),
            labels: BTreeMap::from([("app".into(), "billing".into())]),
            container: Some("db".into()),
            node: Some("node-7".into()),
        }),
        rss_bytes: Some(536_870_912),
        counts: counts(
            (432_013_312, 1_234_567),
            (419_535_456, 1_200_000),
            (452_200_000, 1_250_000),
        ),
        freed_untraced_count: 815,
        verdict: Verdict::Growing,
        growth_bytes_per_second: Some(2_077_204.48),
        overhead: Overhead {
            hits_per_second: 9_400.5,
            ns_per_hit: Some(850.0),
        },
        sites: vec![leak(), cache()],
        site_count: 14,
        suppressed: vec![Suppressed {
            pattern: "libcrypto.so".into(),
            site_count: 2,
            live_bytes: 48_128,
            live_count: 96,
        }],
        ..process(4312, "postgres", "postgres")
    }
}

/// A site that grows, with an inlined frame and long paths.
fn leak() -> Site {
    let source = "/build/postgresql-17/src/backend/utils/mmgr/aset.c";
    let mut inlined = frame(
        "AllocSetAllocFromNewBlock",
        Some((source, 1034)),
        "postgres",
        0x6a1f30,
    );
    inlined.inlined = true;
    Site {
        id: 0x0123_4567_89ab_cdef,
        allocator: "glibc".into(),
        counts: counts(
            (276_824_064, 126_976),
            (268_435_456, 123_456),
            (300_000_000, 140_000),
        ),
        collected: None,
        oldest_age: Duration::from_secs(130),
        age_histogram: vec![
            AgeBucket {
                below_seconds: Some(10),
                count: 3_520,
                bytes: 8_388_608,
            },
            AgeBucket {
                below_seconds: Some(100),
                count: 100_000,
                bytes: 218_435_456,
            },
            AgeBucket {
                below_seconds: None,
                count: 23_456,
                bytes: 50_000_000,
            },
        ],
        verdict: Verdict::Growing,
        growth_bytes_per_second: Some(2_076_180.48),
        evidence: evidence(),
        course: Some(Course {
            seconds: (0..=13).map(|i| f64::from(i) * 10.0).collect(),
            bytes: (0..=13).map(|i| i * 20_762_000).collect(),
        }),
        stack: vec![
            inlined,
            frame("AllocSetAlloc", Some((source, 1012)), "postgres", 0x6a1f48),
            frame(
                "palloc",
                Some(("/build/postgresql-17/src/backend/utils/mmgr/mcxt.c", 1317)),
                "postgres",
                0x6a8020,
            ),
            frame(
                "exec_simple_query",
                Some(("postgres.c", 1278)),
                "postgres",
                0x55aa10,
            ),
            frame(
                "PostgresMain",
                Some(("postgres.c", 4767)),
                "postgres",
                0x55cc90,
            ),
            frame("main", Some(("main.c", 197)), "postgres", 0x1f2e30),
            frame("__libc_start_call_main", None, "libc.so.6", 0x27249),
        ],
        stack_truncated: None,
    }
}

/// The figures behind a verdict of growing.
fn evidence() -> BTreeMap<&'static str, f64> {
    BTreeMap::from([
        ("observed_seconds", 130.0),
        ("survivor_bytes", 268_435_456.0),
        ("growth_bytes", 269_903_462.0),
        ("trend_confidence", 0.9999),
        ("bytes_per_second", 2_076_180.48),
        ("early_bytes_per_second", 2_080_000.0),
        ("late_bytes_per_second", 2_070_000.0),
        ("releases", 0.0),
        ("untraced_frees_per_second", 6.1),
        ("memory_left_bytes", 1_610_612_736.0),
        ("seconds_to_exhaustion", 775.8),
    ])
}

/// A site that levels off, with a stack too deep to be shown whole.
fn cache() -> Site {
    let recursion = (0..30).map(|i| {
        let line = 100 + i;
        frame(
            "copyObjectImpl",
            Some(("copyfuncs.c", line)),
            "postgres",
            0x7a0000 + u64::from(line),
        )
    });
    Site {
        id: 0xfeed,
        allocator: "glibc".into(),
        counts: counts(
            (151_100_000, 1_076_544),
            (151_000_000, 1_076_000),
            (151_200_000, 1_077_000),
        ),
        oldest_age: Duration::from_secs(131),
        verdict: Verdict::Saturating,
        growth_bytes_per_second: Some(1_024.0),
        stack: recursion
            .chain([frame("main", Some(("main.c", 197)), "postgres", 0x1f2e30)])
            .collect(),
        ..Site::default()
    }
}

/// Long C++ names, lost events, an allocator of which a part is not covered.
fn renderer() -> Process {
    let long = "std::__detail::_Map_base<std::basic_string<char, std::char_traits<char>, \
                std::allocator<char>>, std::pair<const std::basic_string<char>, \
                std::vector<render::Glyph, std::allocator<render::Glyph>>>, \
                std::__detail::_Hashtable_traits<true, false, true>, true>::operator[](\
                std::basic_string<char> const&)";
    let site = Site {
        id: 0xabc_def0,
        allocator: "jemalloc".into(),
        counts: counts((73_400_320, 70), (73_400_320, 70), (80_000_000, 90)),
        oldest_age: Duration::from_secs(97),
        verdict: Verdict::Stable,
        growth_bytes_per_second: Some(-12.5),
        stack: vec![
            frame(
                long,
                Some(("/usr/include/c++/14/bits/hashtable_policy.h", 871)),
                "renderer",
                0x44_1200,
            ),
            frame(
                "render::Atlas::glyph(char32_t)",
                Some(("src/atlas.cpp", 88)),
                "renderer",
                0x44_2200,
            ),
            unresolved(Some("libvendor.so.3"), 0x1_2345, "no symbols"),
            unresolved(None, 0x7f12_3456_7890, "no mapping"),
        ],
        stack_truncated: Some("no unwind table for libvendor.so.3".into()),
        ..Site::default()
    };
    let mut from = process(70_777, "renderer", "1001");
    from.allocators.push(Allocator {
        name: "jemalloc".into(),
        path: "/opt/render/renderer".into(),
        entry_points: vec!["je_malloc".into(), "je_free".into()],
        not_covered: vec![NotCovered {
            name: "je_rallocx".into(),
            reason: "its first instruction cannot be probed".into(),
        }],
    });
    Process {
        container: Some(Container {
            id: "aa5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899a".into(),
            ..Container::default()
        }),
        coverage: Coverage::Partial,
        accuracy: Accuracy {
            kind: AccuracyKind::Lossy,
            sample_bytes: 0,
            lost: BTreeMap::from([("allocations_lost", 37), ("stacks_deferred", 1204)]),
            ..Accuracy::default()
        },
        rss_bytes: Some(104_857_600),
        counts: counts((73_400_320, 70), (73_400_320, 70), (80_000_000, 90)),
        verdict: Verdict::Stable,
        growth_bytes_per_second: Some(-12.5),
        overhead: Overhead {
            hits_per_second: 1.5,
            ns_per_hit: None,
        },
        sites: vec![site],
        site_count: 1,
        ..from
    }
}

/// A process that tries to write on the reader's terminal, sampled.
fn hostile() -> Process {
    let site = Site {
        id: 7,
        allocator: "glibc".into(),
        counts: counts((4096, 1), (4096, 1), (4096, 1)),
        oldest_age: Duration::from_secs(60),
        stack: vec![frame(
            "\u{202e}niam\u{1b}[2J",
            Some(("内存/größe.c", 3)),
            "evil\n",
            0x10,
        )],
        ..Site::default()
    };
    Process {
        accuracy: Accuracy {
            kind: AccuracyKind::Sampled,
            sample_bytes: 524_288,
            live_bytes_error: Some(2_048),
            windows: None,
            lost: BTreeMap::new(),
        },
        command_line: "./evil \u{1b}]0;owned\u{7} \u{9b}31m \"quoted\" back\\slash".into(),
        rss_bytes: Some(1_048_576),
        counts: counts((4096, 1), (4096, 1), (4096, 1)),
        sites: vec![site],
        site_count: 1,
        ..process(666, "evil\u{1b}[31m\u{9b}m\u{2067}", "nobody\n")
    }
}

/// A process that left memory behind when it exited.
fn worker() -> Process {
    let site = Site {
        id: 0x99,
        allocator: "glibc".into(),
        counts: counts((3_355_443, 12), (0, 0), (5_000_000, 30)),
        oldest_age: Duration::from_millis(4_250),
        stack: vec![
            frame("load", Some(("batch/load.c", 41)), "worker", 0x1140),
            frame("main", Some(("batch/main.c", 12)), "worker", 0x1080),
        ],
        ..Site::default()
    };
    let mut from = process(9_120, "worker", "root");
    from.identity.start_time_unix_ns = NOW - 65 * SECOND;
    Process {
        exited: Some(Exited {
            time_unix_ns: NOW - 60 * SECOND,
        }),
        counts: counts((3_355_443, 12), (0, 0), (5_000_000, 30)),
        sites: vec![site],
        site_count: 1,
        ..from
    }
}

/// A process whose blocks are all young.
fn young() -> Process {
    Process {
        rss_bytes: Some(9_437_184),
        counts: counts((20_480, 5), (0, 0), (99_000_000, 1_000_000)),
        site_count: 2,
        ..process(1, "systemd", "root")
    }
}

/// A process of which nothing is seen.
fn java() -> Process {
    Process {
        allocators: Vec::new(),
        coverage: Coverage::None,
        coverage_reason: Some("no allocator found: the heap of a JVM is not malloc's".into()),
        rss_bytes: Some(2_147_483_648),
        ..process(2_001, "java", "app")
    }
}
