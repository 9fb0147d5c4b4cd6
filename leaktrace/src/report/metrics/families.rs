//! Owns the metrics that each process has: names, help and where the value comes from.
//! Must not know how they are written.

use crate::report::model::Process;

/// A state: the label that says which holds.
pub(super) struct State {
    pub(super) key: &'static str,
    pub(super) family: Family<&'static str>,
}

/// What holds of a process: one word of a few.
pub(super) const PROCESS_STATES: &[State] = &[
    State {
        key: "verdict",
        family: Family {
            name: "leaktrace_process_verdict",
            help: "1 with the verdict that holds: growing, saturating, stable or young",
            value: |process| process.verdict.word(),
        },
    },
    State {
        key: "coverage",
        family: Family {
            name: "leaktrace_process_coverage",
            help: "1 with how much is seen of it: full, partial or none",
            value: |process| process.coverage.word(),
        },
    },
    State {
        key: "accuracy",
        family: Family {
            name: "leaktrace_process_accuracy",
            help: "1 with how far its figures can be trusted: exact, sampled or lossy",
            value: |process| process.accuracy.kind.word(),
        },
    },
];

/// A metric of processes.
pub(super) struct Family<V> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: fn(&Process) -> V,
}

/// A figure of a process, where it is covered: an unseen process is not zero.
macro_rules! seen {
    ($($field:ident).+) => {
        |process| process.has_figures().then_some(process.counts.$($field).+ as f64)
    };
}

/// What rises and falls; `None` where it is not known.
pub(super) const PROCESS_GAUGES: &[Family<Option<f64>>] = &[
    Family {
        name: "leaktrace_process_resident_bytes",
        help: "Resident memory of the process",
        value: |process| process.rss_bytes.map(|bytes| bytes as f64),
    },
    Family {
        name: "leaktrace_process_live_bytes",
        help: "Bytes allocated and not freed yet",
        value: seen!(live_bytes),
    },
    Family {
        name: "leaktrace_process_live_objects",
        help: "Objects allocated and not freed yet",
        value: seen!(live_count),
    },
    Family {
        name: "leaktrace_process_long_lived_bytes",
        help: "Live bytes that are at least as old as the minimum age",
        value: seen!(long_lived_bytes),
    },
    Family {
        name: "leaktrace_process_long_lived_objects",
        help: "Live objects that are at least as old as the minimum age",
        value: seen!(long_lived_count),
    },
    Family {
        name: "leaktrace_process_growth_bytes_per_second",
        help: "How fast the live bytes rise",
        value: |process| process.growth_bytes_per_second,
    },
    Family {
        name: "leaktrace_process_probe_hits_per_second",
        help: "Traps that tracing causes in the process",
        value: |process| Some(process.overhead.hits_per_second),
    },
    Family {
        name: "leaktrace_process_overhead_cpu_ratio",
        help: "Share of one CPU that those traps take",
        value: |process| process.overhead.cpu_fraction(),
    },
];

/// What only rises.
pub(super) const PROCESS_COUNTERS: &[Family<u64>] = &[
    Family {
        name: "leaktrace_process_allocated_bytes",
        help: "Bytes allocated since tracing began",
        value: |process| process.counts.allocated_bytes,
    },
    Family {
        name: "leaktrace_process_allocated_objects",
        help: "Objects allocated since tracing began",
        value: |process| process.counts.allocated_count,
    },
    Family {
        name: "leaktrace_process_freed_bytes",
        help: "Bytes freed of those",
        value: |process| process.counts.freed_bytes,
    },
    Family {
        name: "leaktrace_process_freed_objects",
        help: "Objects freed of those",
        value: |process| process.counts.freed_count,
    },
];
