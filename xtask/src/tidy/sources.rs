//! Owns the texts that are judged: which files, and which of them only test.
//! Must not judge.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The kinds of text that people write here.
const EXTENSIONS: &[&str] = &["c", "json", "md", "rs", "sh", "toml", "yaml", "yml"];

/// One text file.
pub struct Source {
    /// Where it lies, from the workspace's directory, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// A file by its path and text.
    #[cfg(test)]
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// Reads the tree rather than ask git: an unpacked archive is judged alike.
pub fn read(workspace: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    read_dir(workspace, "", &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// Adds the texts in one directory and below it.
fn read_dir(dir: &Path, prefix: &str, sources: &mut Vec<Source>) -> Result<()> {
    let describe = || format!("failed to read {}", dir.display());
    for entry in fs::read_dir(dir).with_context(describe)? {
        let entry = entry.with_context(describe)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let (path, full) = (format!("{prefix}{name}"), entry.path());
        let kind = entry.file_type().with_context(describe)?;
        // Hidden directories are tools' own, and this file marks what cargo built.
        let is_ours = !name.starts_with('.') && !full.join("CACHEDIR.TAG").exists();
        if kind.is_dir() && is_ours {
            read_dir(&full, &format!("{path}/"), sources)?;
        } else if kind.is_file() && is_text(&name) {
            let text = fs::read_to_string(&full)
                .with_context(|| format!("failed to read {}", full.display()))?;
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

/// Whether people write files of this name.
fn is_text(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
}

/// The Rust files that are compiled for tests only: by their place, by the usual
/// name, or because their parent declares them so.
pub fn test_only_files(sources: &[Source]) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for Source { path, text } in sources {
        let is_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
        if is_tests || path.contains("/benches/") {
            files.insert(path.clone());
        }
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = name.trim_end_matches(".rs");
        let module_dir = match stem {
            "lib" | "main" | "mod" => dir.to_owned(),
            _ => format!("{dir}/{stem}"),
        };
        for module in test_modules(text) {
            files.insert(format!("{module_dir}/{module}.rs"));
            files.insert(format!("{module_dir}/{module}/mod.rs"));
        }
    }
    files
}

/// The names in `#[cfg(test)] mod name;`, with nothing but other attributes between.
fn test_modules(text: &str) -> Vec<&str> {
    let mut modules = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[cfg(test)]" {
            is_test = true;
        } else if !line.starts_with("#[") {
            let declared = line
                .rsplit_once("mod ")
                .and_then(|(_, name)| name.strip_suffix(';'));
            modules.extend(declared.filter(|_| is_test));
            is_test = false;
        }
    }
    modules
}
