//! Owns how counters of loss are put in words, and what each kind of loss does to trust.
//! Must not know who counts them: a name that is not in the table is shown as it is.

use std::collections::BTreeMap;

use crate::report::units;

/// What a loss does to the figures, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    TooLow,
    TooHigh,
    Unknown,
    Stacks,
    None,
}

impl Effect {
    /// What to make of the figures: whole sentences.
    fn meaning(self) -> &'static str {
        match self {
            Self::TooLow => {
                "Lost allocations are missing from the figures of their process: what it shows as \
                 live is a lower bound."
            }
            Self::TooHigh => {
                "Blocks whose free was lost still count as live: live figures may be too high, \
                 and a verdict of growing may be wrong."
            }
            Self::Unknown => {
                "Where other events were lost, live figures may be off in either direction."
            }
            Self::Stacks => {
                "Totals hold, but some blocks are counted at a site without a stack or with a \
                 wrong one."
            }
            Self::None => "What was deferred came later: no figure is wrong for it.",
        }
    }
}

/// A counter in words: what it counts (in the singular), what became of those,
/// and what that does.
struct Wording {
    name: &'static str,
    noun: &'static str,
    fate: &'static str,
    effect: Effect,
}

const fn wording(
    name: &'static str,
    noun: &'static str,
    fate: &'static str,
    effect: Effect,
) -> Wording {
    Wording {
        name,
        noun,
        fate,
        effect,
    }
}

/// The counters of the probes, by the names that `leaktrace-common` gives them, and the agent's own.
const WORDINGS: [Wording; 39] = [
    wording(
        "goroutine_looks_failed",
        "goroutine look",
        "failed",
        Effect::None,
    ),
    wording(
        "allocations_lost",
        "allocation",
        "lost (ring full)",
        Effect::TooLow,
    ),
    wording(
        "frees_deferred",
        "free",
        "deferred (ring full)",
        Effect::None,
    ),
    wording(
        "frees_lost",
        "free",
        "lost (ring and side table full)",
        Effect::TooHigh,
    ),
    wording(
        "stacks_deferred",
        "stack",
        "deferred (ring full)",
        Effect::None,
    ),
    wording(
        "stacks_without_scratch",
        "stack",
        "not taken (no buffer free)",
        Effect::Stacks,
    ),
    wording(
        "stack_collisions",
        "stack",
        "dropped (two with one id)",
        Effect::Stacks,
    ),
    wording(
        "stack_table_full",
        "stack",
        "sent again (stack table full)",
        Effect::None,
    ),
    wording(
        "early_stacks_refused",
        "stack",
        "cut (new processes had more than are walked)",
        Effect::Stacks,
    ),
    wording(
        "thread_table_full",
        "allocation",
        "lost (thread table full)",
        Effect::TooLow,
    ),
    wording(
        "results_unreadable",
        "allocation",
        "lost (result unreadable)",
        Effect::TooLow,
    ),
    wording(
        "calls_abandoned",
        "allocation",
        "given up (call never returned)",
        Effect::TooLow,
    ),
    wording(
        "lifecycle_lost",
        "fork/exec/exit event",
        "lost (ring full)",
        Effect::Unknown,
    ),
    wording(
        "loss_table_full",
        "loss",
        "of unknown processes (loss table full)",
        Effect::Unknown,
    ),
    wording(
        "go_sweeps_lost",
        "sweep",
        "of Go's heap lost (ring full)",
        Effect::TooHigh,
    ),
    wording(
        "go_sweeps_unreadable",
        "sweep",
        "of Go's heap that could not be read",
        Effect::TooHigh,
    ),
    wording(
        "go_blocks_unreadable",
        "block",
        "of Go's heap that could not be read",
        Effect::TooLow,
    ),
    wording(
        "go_cycles_lost",
        "beginning",
        "of a collection lost (ring full)",
        Effect::None,
    ),
    wording(
        "go_marks_absent",
        "sweep",
        "of Go's heap without a page of marks (nothing was marked)",
        Effect::None,
    ),
    wording(
        "go_blocks_told_twice",
        "block",
        "of Go's heap told of twice and counted once",
        Effect::None,
    ),
    wording(
        "go_spans_unsound",
        "span",
        "of Go's heap that makes no sense",
        Effect::TooHigh,
    ),
    wording(
        "policy_table_full",
        "child",
        "recorded like the rest of the host (policy table full)",
        Effect::Unknown,
    ),
    wording(
        "kept_table_full",
        "sample",
        "not taken (table of samples full)",
        Effect::TooLow,
    ),
    wording(
        "records_refused",
        "record",
        "of a process that had filled its part of the ring (what that lost or deferred is counted beside it)",
        Effect::None,
    ),
    wording(
        "frees_implied",
        "free",
        "missed (made good when its address was given out again)",
        Effect::None,
    ),
    wording(
        "sites_merged",
        "allocation",
        "counted at a common site (too many sites)",
        Effect::Stacks,
    ),
    wording(
        "blocks_refused",
        "allocation",
        "not followed (the agent's memory is limited: see --max-memory and --sample-bytes)",
        Effect::TooLow,
    ),
    wording(
        "attached_late",
        "process",
        "begun before its probes were in place",
        Effect::Unknown,
    ),
    wording(
        "ended_processes_dropped",
        "ended process",
        "not kept (too many ended)",
        Effect::TooLow,
    ),
    wording(
        "records_undecoded",
        "record",
        "not understood (agent and probes differ)",
        Effect::Unknown,
    ),
    wording(
        "site_courses_refused",
        "site",
        "not judged (too many of one process)",
        Effect::None,
    ),
    wording(
        "map_records_lost",
        "mapping record",
        "lost (looked up instead)",
        Effect::None,
    ),
    wording(
        "modules_refused",
        "file",
        "not told apart (too many files)",
        Effect::Stacks,
    ),
    wording(
        "files_refused",
        "file",
        "not kept open (too many files)",
        Effect::Stacks,
    ),
    wording(
        "stacks_refused",
        "stack",
        "not kept (too many)",
        Effect::Stacks,
    ),
    wording(
        "reports_cut",
        "report",
        "made before all events were read (too many)",
        Effect::TooHigh,
    ),
    wording(
        "unwind_rows_refused",
        "unwind row",
        "without room (walked by frame pointers)",
        Effect::Stacks,
    ),
    wording(
        "unwind_spaces_refused",
        "process",
        "without room for its code (walked by frame pointers)",
        Effect::Stacks,
    ),
    wording(
        "unwind_pieces_refused",
        "piece of code",
        "without room (walked by frame pointers)",
        Effect::Stacks,
    ),
];

fn find(name: &str) -> Option<&'static Wording> {
    WORDINGS.iter().find(|wording| wording.name == name)
}

/// `37 allocations lost (ring full)`.
fn counter(name: &str, n: u64, unicode: bool) -> String {
    match find(name) {
        Some(Wording { noun, fate, .. }) => {
            format!("{} {fate}", units::counted(n, noun, unicode))
        }
        None => format!("{} {}", units::count(n, unicode), name.replace('_', " ")),
    }
}

/// What a counter of this name does to the figures.
fn effect(name: &str) -> Effect {
    find(name).map_or(Effect::Unknown, |wording| wording.effect)
}

/// The counters that make some figure wrong and those that do not, each in one
/// clause that is empty where there are none.
pub(super) fn clauses(lost: &BTreeMap<&'static str, u64>, unicode: bool) -> (String, String) {
    let clause = |harmless: bool| {
        let of_kind = lost
            .iter()
            .filter(|(name, _)| (effect(name) == Effect::None) == harmless);
        of_kind
            .map(|(name, n)| counter(name, *n, unicode))
            .collect::<Vec<_>>()
            .join(", ")
    };
    (clause(false), clause(true))
}

/// What the losses mean, a sentence for each effect that any of them has.
pub(super) fn meanings<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'static str> {
    let mut effects: Vec<Effect> = names.map(effect).collect();
    effects.sort_unstable();
    effects.dedup();
    effects.into_iter().map(Effect::meaning).collect()
}

#[cfg(test)]
mod tests {
    use leaktrace_common::counter::Counter;

    use super::*;

    /// A counter becomes words that agree in number; an unknown one its name.
    #[test]
    fn counters_become_words() {
        let check = |name: &str, n, want: &str| assert_eq!(counter(name, n, false), want);
        check("allocations_lost", 1, "1 allocation lost (ring full)");
        check(
            "frees_lost",
            1037,
            "1,037 frees lost (ring and side table full)",
        );
        check(
            "loss_table_full",
            2,
            "2 losses of unknown processes (loss table full)",
        );
        check("undecodable_records", 3, "3 undecodable records");
    }

    /// What is harmless does not stand beside what is not.
    #[test]
    fn harmless_losses_stand_apart() {
        let lost = BTreeMap::from([("frees_deferred", 2), ("frees_lost", 1)]);
        let (grave, harmless) = clauses(&lost, false);
        assert_eq!(grave, "1 free lost (ring and side table full)");
        assert_eq!(harmless, "2 frees deferred (ring full)");
    }

    /// One sentence an effect, the gravest first.
    #[test]
    fn effects_have_meanings() {
        let told = meanings(["frees_lost", "thread_table_full", "allocations_lost"].into_iter());
        assert_eq!(told, [Effect::TooLow.meaning(), Effect::TooHigh.meaning()]);
    }

    /// Every counter of the probes has its words, and they agree with it on what is wrong.
    #[test]
    fn every_counter_has_words() {
        for counter in Counter::ALL {
            let wording = find(counter.name()).unwrap_or_else(|| panic!("{}", counter.name()));
            let harms_totals = matches!(
                wording.effect,
                Effect::TooLow | Effect::TooHigh | Effect::Unknown
            );
            assert_eq!(
                harms_totals,
                counter.makes_totals_wrong(),
                "{}",
                counter.name()
            );
        }
    }
}
