//! Owns the house rules that no compiler checks: it reads the tree and judges it.
//! Must not know the rules for a single file.

mod rules;
mod sources;
mod uses;

use anyhow::{Result, bail};

use self::sources::Source;
use crate::toolchain;

/// Judges every text file of the workspace.
///
/// # Errors
/// Fails where a file cannot be read, or breaks a rule: each finding is printed.
pub fn run() -> Result<()> {
    let sources = sources::read(&toolchain::workspace_dir())?;
    let findings = judge(&sources);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("tidy: 1 finding"),
        count => bail!("tidy: {count} findings"),
    }
}

/// Texts in, findings out.
fn judge(sources: &[Source]) -> Vec<String> {
    let test_files = sources::test_only_files(sources);
    let mut findings = Vec::new();
    for source in sources {
        rules::blanks(source, &mut findings);
        if source.path.ends_with(".rs") {
            let is_test = test_files.contains(&source.path);
            rules::header(source, &mut findings);
            rules::placeholders(source, &mut findings);
            rules::length(source, is_test, &mut findings);
            rules::stdout(source, is_test, &mut findings);
            rules::purity(source, is_test, &mut findings);
        }
    }
    rules::documents(sources, &mut findings);
    rules::dependencies(sources, &mut findings);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges one file beside documents that are in order; gives what is found.
    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        let mut sources = vec![Source::new(path, text)];
        for document in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
            sources.push(Source::new(document, "words\n"));
        }
        sources.push(Source::new(
            "ARCHITECTURE.md",
            "`decode.rs`, `ledger/`, `sites.rs`\n",
        ));
        assert_eq!(judge(&sources), expected, "{path}");
    }

    /// A file that keeps every rule has no finding.
    #[test]
    fn clean_files_pass() {
        check(
            "leaktrace/src/sites.rs",
            "//! Owns.\n\nuse std::time::Duration;\n",
            &[],
        );
        check(
            "xtask/src/main.rs",
            "//! Owns.\nfn main() { println!(\"hi\"); }\n",
            &[],
        );
    }

    /// Each file says what it owns before anything else.
    #[test]
    fn a_header_is_wanted() {
        let finding = "leaktrace-common/src/a.rs:1: does not begin with `//!`: say what it owns";
        check(
            "leaktrace-common/src/a.rs",
            "// Hello.\n//! Owns.\n",
            &[finding],
        );
    }

    /// Blanks at a line's end are found in every kind of text.
    #[test]
    fn trailing_blanks_are_found() {
        check("docs/a.md", "one\ntwo \n", &["docs/a.md:2: trailing blank"]);
        check("a.toml", "one\t\n", &["a.toml:1: trailing blank"]);
    }

    /// Unfinished code and switched-off tests do not get in; words about them do.
    #[test]
    fn placeholders_are_found() {
        let text = concat!(
            "//! Owns.\nfn a() { to",
            "do!() }\n#[ig",
            "nore = \"slow\"]\n"
        );
        let found = [
            concat!("a/b.rs:2: `to", "do!(` does not belong into the tree"),
            concat!("a/b.rs:3: `#[ig", "nore` does not belong into the tree"),
        ];
        check("a/b.rs", text, &found);
        check("a/b.rs", concat!("//! No to", "do!() here.\n"), &[]);
    }

    /// The ceiling holds for the program, not for the tests behind it.
    #[test]
    fn tests_do_not_count_as_length() {
        let program = format!("//! Owns.\n{}", "const A: u8 = 1;\n".repeat(399));
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "// Line.\n".repeat(100)
        );
        check("xtask/src/a.rs", &format!("{program}{tests}"), &[]);
        let finding = "xtask/src/a.rs:401: 401 lines, the ceiling is 400 without tests: split it";
        check(
            "xtask/src/a.rs",
            &format!("{program}// One more.\n{tests}"),
            &[finding],
        );
    }

    /// Only the report's sinks and the command line write to standard output.
    #[test]
    fn stdout_belongs_to_the_report() {
        let text = "//! Owns.\nfn a() { println!(\"a\"); eprintln!(\"b\"); }\n";
        let finding = "leaktrace/src/sites.rs:2: only report/, cli and main.rs write to stdout";
        check("leaktrace/src/sites.rs", text, &[finding]);
        check("leaktrace/src/main.rs", text, &[]);
        check(
            "leaktrace/src/sites.rs",
            "//! Owns.\nfn a() { eprintln!(\"b\"); }\n",
            &[],
        );
    }

    /// A pure module names neither kernel, files, clocks nor processes, however the
    /// path is written.
    #[test]
    fn pure_modules_stay_pure() {
        let impure = |line: &str, what: &str| {
            let finding = format!("leaktrace/src/ledger/a.rs:2: a pure module uses {what}");
            check(
                "leaktrace/src/ledger/a.rs",
                &format!("//! Owns.\n{line}\n"),
                &[&finding],
            );
        };
        impure("use aya::maps::RingBuf;", "aya");
        impure("use std::{collections::HashMap, fs};", "std::fs");
        impure("use std::time::{Duration, Instant};", "std::time::Instant");
        impure(
            "pub(super) use std::{\n    time::{self, SystemTime},\n};",
            "std::time::SystemTime",
        );
        impure("fn a() { std::process::exit(1) }", "std::process");
        check(
            "leaktrace/src/ledger/a.rs",
            "//! No aya::maps.\nuse std::time::Duration;\n",
            &[],
        );
        check(
            "leaktrace/src/session.rs",
            "//! Owns.\nuse aya::Ebpf;\n",
            &["ARCHITECTURE.md:1: does not name leaktrace/src/session.rs"],
        );
    }

    /// What is compiled for tests only may read files, whatever it is called.
    #[test]
    fn test_files_may_do_as_they_like() {
        let mut sources = vec![
            Source::new(
                "leaktrace/src/ledger/mod.rs",
                "//! Owns.\n#[cfg(test)]\nmod golden;\n",
            ),
            Source::new(
                "leaktrace/src/ledger/golden.rs",
                "//! Owns.\nuse std::fs;\n",
            ),
            Source::new("leaktrace/src/ledger/tests.rs", "//! Owns.\nuse std::fs;\n"),
        ];
        for document in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
            sources.push(Source::new(document, ""));
        }
        sources.push(Source::new("ARCHITECTURE.md", "- `ledger/`: live blocks\n"));
        assert_eq!(judge(&sources), Vec::<String>::new());
    }

    /// A dependency without a reason is found; the project's own crates need none.
    #[test]
    fn dependencies_have_reasons() {
        let manifest =
            "[workspace.dependencies]\nleaktrace-common = 1\nserde = 1\n\n[lints]\na = 1\n";
        let finding = "Cargo.toml:3: CONTRIBUTING.md does not say why serde is needed";
        check("Cargo.toml", manifest, &[finding]);
    }

    /// The documents exist, and the code map names every module.
    #[test]
    fn documents_are_complete() {
        let sources = [
            Source::new("ARCHITECTURE.md", "`ledger/`\n"),
            Source::new("README.md", ""),
            Source::new("CHANGELOG.md", ""),
            Source::new("leaktrace/src/ledger/native.rs", "//! Owns.\n"),
            Source::new("leaktrace/src/sites.rs", "//! Owns.\n"),
        ];
        let expected = [
            "CONTRIBUTING.md:1: missing",
            "ARCHITECTURE.md:1: does not name leaktrace/src/sites.rs",
        ];
        assert_eq!(judge(&sources), expected);
    }
}
