//! Owns how counters of loss are put in words, and what each kind of loss does to trust.
//! Must not know which counters exist: their names say what was lost and why.

use std::collections::BTreeMap;

use crate::report::units;

/// What kind of thing was lost, as far as the counter's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Alloc,
    Free,
    Stack,
    Mapping,
    Other,
}

impl Kind {
    /// By the first word of the name that tells.
    fn of(name: &str) -> Self {
        let kinds = name.split('_').map(|word| match word {
            "alloc" | "allocs" | "allocation" | "allocations" | "malloc" => Self::Alloc,
            "free" | "frees" | "freed" => Self::Free,
            "stack" | "stacks" | "frame" | "frames" | "unwind" => Self::Stack,
            "map" | "mapping" | "mappings" | "mmap" => Self::Mapping,
            _ => Self::Other,
        });
        kinds.into_iter().find(|kind| *kind != Self::Other).unwrap_or(Self::Other)
    }

    /// What it does to the figures: a whole sentence.
    fn consequence(self) -> &'static str {
        match self {
            Self::Alloc => "Lost allocs: their blocks are missing, so live figures are too low.",
            Self::Free => {
                "Lost frees: their blocks still count as live, so live figures are too high \
                 and `growing` may be wrong."
            }
            Self::Stack => {
                "Lost stacks: totals hold, but some blocks are shown at a site that is cut \
                 short or unknown."
            }
            Self::Mapping => "Lost mappings: figures hold, but some frames have no name.",
            Self::Other => "Other losses: figures may be off in either direction.",
        }
    }
}

/// `37 allocs lost (ring full)`, from `alloc_lost_ring_full: 37` and the like.
pub(super) fn counter(name: &str, n: u64, unicode: bool) -> String {
    let mut words = name.split('_').filter(|word| !matches!(*word, "" | "lost" | "dropped"));
    let n = units::count(n, unicode);
    let Some(what) = words.next() else {
        return format!("{n} lost");
    };
    let cause = words.collect::<Vec<_>>().join(" ");
    match (Kind::of(what), cause.as_str()) {
        // The first word is no thing that can be counted: the name stays whole.
        (Kind::Other, "") => format!("{n} lost ({what})"),
        (Kind::Other, _) => format!("{n} lost ({what} {cause})"),
        (_, "") => format!("{n} {} lost", plural(what)),
        (_, _) => format!("{n} {} lost ({cause})", plural(what)),
    }
}

/// A word for a thing, in the plural.
fn plural(word: &str) -> String {
    if word.ends_with('s') { word.to_owned() } else { format!("{word}s") }
}

/// The counters of a map in words, in one clause.
pub(super) fn clause(lost: &BTreeMap<&'static str, u64>, unicode: bool) -> String {
    lost.iter().map(|(name, n)| counter(name, *n, unicode)).collect::<Vec<_>>().join(", ")
}

/// What the losses mean, one sentence for each kind that occurred.
pub(super) fn consequences<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'static str> {
    let mut kinds: Vec<Kind> = names.map(Kind::of).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().map(Kind::consequence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter's name becomes what was lost and why.
    #[test]
    fn names_become_words() {
        let check = |name: &str, want: &str| assert_eq!(counter(name, 1037, false), want);
        check("alloc_ring_full", "1,037 allocs lost (ring full)");
        check("allocs_lost_ring_full", "1,037 allocs lost (ring full)");
        check("frees_lost", "1,037 frees lost");
        check("ring_full", "1,037 lost (ring full)");
        check("lost", "1,037 lost");
        check("decode", "1,037 lost (decode)");
    }

    /// One sentence a kind, the gravest first.
    #[test]
    fn kinds_have_consequences() {
        let names = ["ring_free_full", "alloc_ring_full", "free_map_full"];
        let told = consequences(names.into_iter());
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("Lost allocs") && told[1].starts_with("Lost frees"));
    }
}
