//! Owns suppressions: which sites are known and accepted, in LeakSanitizer's words.
//! Must not know files; their text comes in.
//!
//! A line is `leak:PATTERN`, or a comment (`#`). A pattern is found anywhere in the name of a function,
//! of its source file or of its module, of any frame; `*` stands for anything, `^` for the beginning
//! and `$` for the end.

use std::fmt;

use super::model::{Frame, Report, Site, Suppressed, Verdict};

/// The most patterns that are taken; matching takes time for each of them.
const PATTERNS_MAX: usize = 10_000;

/// What is not to be shown, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions {
    patterns: Vec<Pattern>,
}

/// Why a file of suppressions was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionError {
    line: usize,
    why: &'static str,
}

impl fmt::Display for SuppressionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, why } = self;
        write!(
            out,
            "line {line} {why}; remedy: write `leak:` and a pattern, such as leak:libfoo.so or leak:^cache_*$"
        )
    }
}

impl std::error::Error for SuppressionError {}

impl Suppressions {
    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// When a line is neither empty nor a comment nor a suppression of leaks.
    pub fn parse(text: &str) -> Result<Self, SuppressionError> {
        let mut patterns = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let refuse = |why| SuppressionError { line: i + 1, why };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(pattern) = line.strip_prefix("leak:") else {
                return Err(refuse(match line.split_once(':') {
                    Some(_) => "suppresses something else than leaks",
                    None => "is no suppression",
                }));
            };
            if pattern.trim_matches(['*', '^', '$']).is_empty() {
                return Err(refuse("has a pattern that matches everything"));
            }
            if patterns.len() >= PATTERNS_MAX {
                return Err(refuse("is one pattern more than the 10000 that are taken"));
            }
            patterns.push(Pattern::new(pattern));
        }
        Ok(Self { patterns })
    }

    /// Whether nothing is suppressed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Takes out of a report what is suppressed, and notes it by pattern.
    pub fn apply(&self, report: &mut Report) {
        if self.is_empty() {
            return;
        }
        for process in &mut report.processes {
            let mut hidden: Vec<Suppressed> = std::mem::take(&mut process.suppressed);
            process.sites.retain(|site| match self.hides(site) {
                None => true,
                Some(pattern) => {
                    note(&mut hidden, pattern, site);
                    false
                }
            });
            process.suppressed = hidden;
        }
    }

    /// The pattern that hides a site, if one does.
    fn hides(&self, site: &Site) -> Option<&str> {
        let found = |pattern: &&Pattern| site.stack.iter().any(|frame| pattern.is_of(frame));
        let pattern = self.patterns.iter().find(found)?;
        Some(&pattern.text)
    }
}

fn note(hidden: &mut Vec<Suppressed>, pattern: &str, site: &Site) {
    let at = hidden.iter().position(|it| it.pattern == pattern);
    let at = at.unwrap_or_else(|| {
        hidden.push(Suppressed {
            pattern: pattern.to_owned(),
            ..Suppressed::default()
        });
        hidden.len() - 1
    });
    let entry = &mut hidden[at];
    entry.site_count = entry.site_count.saturating_add(1);
    entry.live_bytes = entry.live_bytes.saturating_add(site.counts.live_bytes);
    entry.live_count = entry.live_count.saturating_add(site.counts.live_count);
}

/// Whether any site of a report is judged to be growing; what is suppressed does not count.
#[must_use]
pub fn has_leak(report: &Report) -> bool {
    let mut sites = report.processes.iter().flat_map(|process| &process.sites);
    sites.any(|site| site.verdict == Verdict::Growing)
}

/// Leaves at most so many sites of each process, the first ones.
pub fn keep_top(report: &mut Report, top: usize) {
    for process in &mut report.processes {
        process.sites.truncate(top);
    }
}

/// One pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// As it stands in the file.
    text: String,
    is_from_start: bool,
    is_to_end: bool,
    /// What must be there, in this order.
    pieces: Vec<String>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let rest = text.strip_prefix('^');
        let is_from_start = rest.is_some_and(|rest| !rest.starts_with('*'));
        // As in LeakSanitizer, what follows a `$` does not count.
        let (rest, end) = match rest.unwrap_or(text).split_once('$') {
            Some((before, _)) => (before, true),
            None => (rest.unwrap_or(text), false),
        };
        let pieces = rest.split('*').filter(|piece| !piece.is_empty());
        Self {
            text: text.to_owned(),
            is_from_start,
            is_to_end: end && !rest.ends_with('*'),
            pieces: pieces.map(str::to_owned).collect(),
        }
    }

    fn is_of(&self, frame: &Frame) -> bool {
        let names = [&frame.function, &frame.file, &frame.module];
        names.into_iter().flatten().any(|name| self.is_in(name))
    }

    /// Each piece is taken as early as possible, and the last one at the end where it must be there.
    fn is_in(&self, name: &str) -> bool {
        let mut rest = name;
        for (i, piece) in self.pieces.iter().enumerate() {
            let is_first = i == 0 && self.is_from_start;
            let is_last = i + 1 == self.pieces.len() && self.is_to_end;
            if is_first && is_last {
                return rest == piece;
            }
            let found = if is_first {
                rest.starts_with(piece.as_str()).then_some(0)
            } else if is_last {
                return rest.ends_with(piece.as_str());
            } else {
                rest.find(piece.as_str())
            };
            let Some(at) = found else { return false };
            rest = &rest[at + piece.len()..];
        }
        !name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    /// Patterns mean what they mean to LeakSanitizer.
    #[test]
    fn patterns_match() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(
                Pattern::new(pattern).is_in(name),
                expected,
                "{pattern} {name}"
            );
        };
        check("cache", "lru_cache_put", true);
        check("cache", "lru_CACHE", false);
        check("^lru", "lru_cache", true);
        check("^cache", "lru_cache", false);
        check("put$", "lru_put", true);
        check("put$", "put_lru", false);
        check("^lru_put$", "lru_put", true);
        check("^lru_put$", "lru_put2", false);
        check("lru*put", "x_lru_a_put_b", true);
        check("put*lru", "lru_put", false);
        check("^lru*put$", "lru__put", true);
        check("^lru*put$", "lru__put_", false);
        check("^*put", "lru_put", true);
        check("put*$", "put_lru", true);
        check("^foo*foo$", "foo", false);
        check("a$", "aba", true);
        check("std::vector<int*>", "std::vector<int*>::push", true);
        check("cache", "", false);
    }

    /// Comments and empty lines are none; a line that is nothing is named.
    #[test]
    fn files_are_read() {
        let parsed = Suppressions::parse("# known\n\n  leak:libfoo.so\r\nleak:^main$\n").unwrap();
        let texts: Vec<_> = parsed.patterns.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(texts, ["libfoo.so", "^main$"]);
        assert!(Suppressions::parse("").unwrap().is_empty());
        let check = |text: &str, words: &[&str]| {
            let said = Suppressions::parse(text).unwrap_err().to_string();
            for word in words {
                assert!(said.contains(word), "no {word:?} in {said}");
            }
            assert!(said.contains("remedy: "), "{said}");
        };
        check("leak:a\nrace:b", &["line 2", "something else"]);
        check("\nmain", &["line 2", "no suppression"]);
        check("leak:", &["line 1", "everything"]);
        check("leak:*", &["line 1", "everything"]);
    }

    /// Sites go, by a name of any frame; what they held is told by pattern, and figures of the process
    /// stay as they are.
    #[test]
    fn sites_are_hidden_and_told() {
        let suppressions = Suppressions::parse(
            "leak:mmgr/aset.c\nleak:^copyObject*\nleak:PostgresMain\nleak:^libc.so.6$",
        )
        .unwrap();
        let mut report = samples::rich();
        let before = report.processes[0].clone();
        assert!(has_leak(&report));
        suppressions.apply(&mut report);
        assert!(!has_leak(&report));
        let process = &report.processes[0];
        assert!(process.sites.is_empty());
        assert_eq!(process.counts, before.counts);
        let told: Vec<_> = process
            .suppressed
            .iter()
            .map(|it| {
                (
                    it.pattern.as_str(),
                    it.site_count,
                    it.live_bytes,
                    it.live_count,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("libcrypto.so", 2, 48_128, 96),
                ("mmgr/aset.c", 1, 276_824_064, 126_976),
                ("^copyObject*", 1, 151_100_000, 1_076_544),
            ]
        );
        assert_eq!(report.processes[1].sites.len(), 1);
    }

    /// Hidden sites do not take the places of others.
    #[test]
    fn others_move_up() {
        let mut report = samples::rich();
        Suppressions::parse("leak:aset").unwrap().apply(&mut report);
        keep_top(&mut report, 1);
        assert_eq!(report.processes[0].sites[0].id, 0xfeed);
        let mut report = samples::rich();
        Suppressions::default().apply(&mut report);
        assert_eq!(report, samples::rich());
    }
}
