//! Owns what this machine allows: every need is tried, and every refusal comes with its remedy.
//! Must not know how a trace is made, or print anything itself.

mod kernel;
mod powers;
mod rights;
mod surroundings;

use std::fmt::Write as _;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok(String),
    /// Tracing works, but less well.
    Degraded {
        /// What is missing and what that costs.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// Tracing does not work.
    Refused {
        /// What is missing.
        what: String,
        /// What to do about it.
        remedy: String,
    },
}

/// One need and whether it is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One or two words.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            outcome: Outcome::Ok(detail.into()),
        }
    }

    fn degraded(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let outcome = Outcome::Degraded {
            what: what.into(),
            remedy: remedy.into(),
        };
        Self { name, outcome }
    }

    fn refused(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let outcome = Outcome::Refused {
            what: what.into(),
            remedy: remedy.into(),
        };
        Self { name, outcome }
    }

    /// Whether tracing fails for it.
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refused { .. })
    }
}

/// Makes all checks, the most basic first. Nothing that is tried stays.
pub fn examine() -> Vec<Check> {
    let status = rights::OwnStatus::read();
    let mut checks = vec![
        kernel::release(),
        kernel::architecture(),
        rights::capabilities(&status),
    ];
    checks.extend(powers::each(status.capabilities, kernel::has_multi()));
    checks.extend(kernel::features(&status.capabilities));
    checks.extend(rights::settings(&status));
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    checks.push(surroundings::control_groups(&own));
    checks.push(surroundings::runtime());
    checks
}

/// `leaktrace doctor`'s exit code: 2 where something needed is refused.
pub fn exit_code(checks: &[Check]) -> u8 {
    if checks.iter().any(Check::is_refused) {
        2
    } else {
        0
    }
}

/// The report: a line a check, and a last line that sums them up.
pub fn render_text(checks: &[Check], colour: bool) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (word, code, line) = match &check.outcome {
            Outcome::Ok(detail) => ("ok", 32, detail.clone()),
            Outcome::Degraded { what, remedy } => {
                ("degraded", 33, format!("{what}; remedy: {remedy}"))
            }
            Outcome::Refused { what, remedy } => {
                ("refused", 31, format!("{what}; remedy: {remedy}"))
            }
        };
        let (begin, end) = if colour {
            (format!("\x1b[{code}m"), "\x1b[0m")
        } else {
            (String::new(), "")
        };
        let name = check.name;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{begin}{word:8}{end}  {name:width$}  {line}");
    }
    let refused = checks.iter().filter(|check| check.is_refused()).count();
    text.push_str(&match refused {
        0 => "leaktrace can trace on this host\n".to_owned(),
        1 => "leaktrace cannot trace on this host: 1 need is refused\n".to_owned(),
        more => format!("leaktrace cannot trace on this host: {more} needs are refused\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Check> {
        vec![
            Check::ok("kernel", "Linux 6.18.44"),
            Check::degraded("JIT", "off", "turn it on"),
            Check::refused("ring buffer", "missing", "Linux 5.8"),
        ]
    }

    /// A line a check with its remedy, aligned, and a verdict.
    #[test]
    fn text() {
        let expected = "ok        kernel       Linux 6.18.44\n\
                        degraded  JIT          off; remedy: turn it on\n\
                        refused   ring buffer  missing; remedy: Linux 5.8\n\
                        leaktrace cannot trace on this host: 1 need is refused\n";
        assert_eq!(render_text(&samples(), false), expected);
        let last = render_text(&samples()[..2], false);
        assert!(last.ends_with("\nleaktrace can trace on this host\n"));
    }

    /// Colour is put on the word alone, and only when asked for.
    #[test]
    fn colour() {
        let text = render_text(&samples(), true);
        assert!(text.starts_with("\x1b[32mok      \x1b[0m  kernel "));
        assert!(text.contains("\x1b[33mdegraded\x1b[0m"));
        assert!(text.contains("\x1b[31mrefused \x1b[0m"));
        assert!(!render_text(&samples(), false).contains('\x1b'));
    }

    /// Only what is refused fails the command.
    #[test]
    fn codes() {
        assert_eq!(exit_code(&samples()), 2);
        assert_eq!(exit_code(&samples()[..2]), 0);
    }

    /// Every check comes to a result on whatever machine this is, each name once
    /// and each result in one line.
    #[test]
    fn this_machine() {
        let checks = examine();
        let text = render_text(&checks, false);
        assert_eq!(text.lines().count(), checks.len() + 1, "{text}");
        let mut names: Vec<&str> = checks.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), checks.len());
        println!("{text}");
    }
}
