//! Owns the rules, one function each: a text in, findings out.
//! Must not know where texts come from.

use std::collections::BTreeSet;

use super::sources::Source;
use super::uses;

/// The most lines that a file may have without its tests.
const CEILING_LINES: usize = 400;

/// What has no place in the tree, each cut in two so that this file may stay.
const PLACEHOLDERS: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
];

/// The modules of the agent that are functions of their arguments alone.
const PURE: &[&str] = &[
    "decode", "judge", "ledger", "report", "sites", "stacks", "summary",
];

/// What a pure module must not name: kernel, runtime, files, processes and clocks.
const IMPURE: &[&str] = &[
    "aya",
    "nix",
    "procfs",
    "std::fs",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

/// The modules of the agent that may write to standard output.
const WRITERS: &[&str] = &["cli", "main", "report"];

/// Notes one finding the way compilers do, so that editors can jump to it.
fn find(findings: &mut Vec<String>, source: &Source, line: usize, what: &str) {
    findings.push(format!("{}:{line}: {what}", source.path));
}

/// No line ends in a blank.
pub fn blanks(source: &Source, findings: &mut Vec<String>) {
    for (number, line) in source.text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            find(findings, source, number + 1, "trailing blank");
        }
    }
}

/// Each file begins with what it owns.
pub fn header(source: &Source, findings: &mut Vec<String>) {
    if !source.text.starts_with("//!") {
        find(
            findings,
            source,
            1,
            "does not begin with `//!`: say what it owns",
        );
    }
}

/// Nothing unfinished, nothing switched off.
pub fn placeholders(source: &Source, findings: &mut Vec<String>) {
    for (number, line) in code_lines(&source.text) {
        for placeholder in PLACEHOLDERS.iter().filter(|needle| line.contains(**needle)) {
            let what = format!("`{placeholder}` does not belong into the tree");
            find(findings, source, number, &what);
        }
    }
}

/// Files stay short enough to be read in one go.
pub fn length(source: &Source, is_test: bool, findings: &mut Vec<String>) {
    let count = before_tests(&source.text).lines().count();
    if !is_test && count > CEILING_LINES {
        let what = format!("{count} lines, the ceiling is {CEILING_LINES} without tests: split it");
        find(findings, source, count, &what);
    }
}

/// In the agent, standard output belongs to the report.
pub fn stdout(source: &Source, is_test: bool, findings: &mut Vec<String>) {
    if is_test || module_of(source).is_none_or(|module| WRITERS.contains(&module)) {
        return;
    }
    for (number, line) in code_lines(before_tests(&source.text)) {
        let without_stderr = line.replace("eprint", "");
        if without_stderr.contains("println!(") || without_stderr.contains("print!(") {
            find(
                findings,
                source,
                number,
                "only report/, cli and main.rs write to stdout",
            );
        }
    }
}

/// The pure modules of the agent name nothing of the outside world.
pub fn purity(source: &Source, is_test: bool, findings: &mut Vec<String>) {
    if is_test || module_of(source).is_none_or(|module| !PURE.contains(&module)) {
        return;
    }
    for (line, path) in uses::paths(before_tests(&source.text)) {
        let is_below = |root: &&&str| {
            path.strip_prefix(**root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        if let Some(root) = IMPURE.iter().find(is_below) {
            find(
                findings,
                source,
                line,
                &format!("a pure module uses {root}"),
            );
        }
    }
}

/// The documents are there, and the code map names every module of the agent.
pub fn documents(sources: &[Source], findings: &mut Vec<String>) {
    let text_of = |path: &str| sources.iter().find(|source| source.path == path);
    for document in [
        "ARCHITECTURE.md",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        if text_of(document).is_none() {
            findings.push(format!("{document}:1: missing"));
        }
    }
    let Some(architecture) = text_of("ARCHITECTURE.md") else {
        return;
    };
    let modules: BTreeSet<&str> = sources.iter().filter_map(module_of).collect();
    for module in modules
        .iter()
        .filter(|module| !["lib", "main"].contains(module))
    {
        let names = [
            format!("`{module}`"),
            format!("`{module}.rs`"),
            format!("`{module}/`"),
        ];
        if !names.iter().any(|name| architecture.text.contains(name)) {
            let path = format!("leaktrace/src/{module}.rs");
            let exists = sources.iter().any(|source| source.path == path);
            let path = if exists {
                path
            } else {
                format!("leaktrace/src/{module}/")
            };
            findings.push(format!("ARCHITECTURE.md:1: does not name {path}"));
        }
    }
}

/// Each shared dependency has its line, with its reason, in CONTRIBUTING.md.
pub fn dependencies(sources: &[Source], findings: &mut Vec<String>) {
    let text_of = |path: &str| sources.iter().find(|source| source.path == path);
    let (Some(manifest), Some(reasons)) = (text_of("Cargo.toml"), text_of("CONTRIBUTING.md"))
    else {
        return;
    };
    let mut is_dependency = false;
    for (number, line) in manifest.text.lines().enumerate() {
        if line.starts_with('[') {
            is_dependency = line == "[workspace.dependencies]";
        } else if let Some((name, _)) = line.split_once(" = ")
            && is_dependency
            && !name.starts_with("leaktrace")
            && !reasons.text.contains(&format!("| `{name}` |"))
        {
            let what = format!("CONTRIBUTING.md does not say why {name} is needed");
            find(findings, manifest, number + 1, &what);
        }
    }
}

/// The agent's top-level module that a file belongs to.
fn module_of(source: &Source) -> Option<&str> {
    let below = source.path.strip_prefix("leaktrace/src/")?;
    let first = below.split('/').next()?;
    match first.strip_suffix(".rs") {
        Some(module) => Some(module),
        None if below.ends_with(".rs") => Some(first),
        None => None,
    }
}

/// The text up to the test module that ends it, if one does.
fn before_tests(text: &str) -> &str {
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    tests.map_or(text, |start| &text[..start + 1])
}

/// The lines that are not comments, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}
