//! Owns the paths that a Rust text names: its `use` trees laid flat, and full
//! paths into `std` within the code. Must not know which of them are allowed.

/// Every path that is imported or written out, with the number of its line.
///
/// This is no parser: it reads rustfmt's output, where a `use` begins its line.
pub fn paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let code = line.trim();
        if code.starts_with("//") {
            continue;
        }
        let Some(tree) = imported(code) else {
            found.extend(written_out(code).into_iter().map(|path| (number + 1, path)));
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some((_, more)) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        let tree = tree.split(';').next().unwrap_or_default();
        let mut flat = Vec::new();
        flatten("", tree, &mut flat);
        found.extend(flat.into_iter().map(|path| (number + 1, path)));
    }
    found
}

/// What stands behind `use`, with any visibility before it.
fn imported(code: &str) -> Option<&str> {
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => code,
    };
    code.strip_prefix("use ")
}

/// Lays `a::{b, c::{d, e}}` flat: `a::b`, `a::c::d`, `a::c::e`.
fn flatten(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((root, group)) = tree.split_once('{') {
        let group = group.strip_suffix('}').unwrap_or(group);
        for branch in branches(group) {
            flatten(&format!("{prefix}{root}"), branch, found);
        }
    } else if !tree.is_empty() {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        let path = format!("{prefix}{name}");
        let path = path.strip_suffix("::self").unwrap_or(&path);
        found.push(path.trim_start_matches("::").to_owned());
    }
}

/// Splits a group at the commas that are in no group within it.
fn branches(group: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0_usize, 0);
    let mut branches = Vec::new();
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                branches.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    branches.push(&group[start..]);
    branches
}

/// The paths into `std` and other crates that a line of code writes out in full.
fn written_out(code: &str) -> Vec<String> {
    let is_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let words = code.split(|character| !is_path(character));
    // A single colon comes from `name: Type`; a path has two.
    let words = words
        .flat_map(|word| word.split(": "))
        .map(|word| word.trim_matches(':'));
    words
        .filter(|word| word.contains("::"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups, renames, several lines and visibilities end up as plain paths.
    #[test]
    fn trees_are_laid_flat() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = paths(text).into_iter().map(|(_, path)| path).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("use std::fs;", &["std::fs"]);
        check("pub use a::{self, b as c};", &["a", "a::b"]);
        check(
            "pub(crate) use a::{b::{c, d}, e};",
            &["a::b::c", "a::b::d", "a::e"],
        );
        check(
            "use a::{\n    b,\n    c::{d},\n};\nuse f;",
            &["a::b", "a::c::d", "f"],
        );
        check("let x: u8 = std::fs::read(y);", &["std::fs::read"]);
        check("// std::fs\nlet user = 1;", &[]);
    }
}
