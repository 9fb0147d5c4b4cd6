//! Owns how much memory a process can still take: its cgroups' limits, else the host's.
//! Must not know whether it will.

use std::{
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

/// Where cgroups are mounted: version 2 alone, beside version 1, and version 1.
const ROOTS: [(&str, &str); 3] = [
    ("0:", "/sys/fs/cgroup"),
    ("0:", "/sys/fs/cgroup/unified"),
    ("memory", "/sys/fs/cgroup/memory"),
];

/// A limit beyond this is none: version 1 says so by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// The most bytes that are read of a file of the kernel's.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Bytes until the tightest limit of a process's cgroups, or else until the host has none left; `None`
/// where neither is told.
#[must_use]
pub fn left_bytes(pid: u32) -> Option<u64> {
    let cgroups = read(Path::new(&format!("/proc/{pid}/cgroup"))).unwrap_or_default();
    let limited = directories(&cgroups)
        .into_iter()
        .filter_map(|directory| limit_left(&directory))
        .min();
    let host = read(Path::new("/proc/meminfo")).and_then(|text| available(&text));
    limited.into_iter().chain(host).min()
}

/// The directories of a process's memory cgroups, ancestors too, from the text of its `cgroup` file.
/// Paths that lead out of the hierarchy belong to another namespace and are left out.
fn directories(text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        if !path
            .components()
            .all(|it| matches!(it, Component::Normal(_)))
        {
            continue;
        }
        for (kind, root) in ROOTS {
            let is_of = match kind {
                "0:" => id == "0" && controllers.is_empty(),
                name => controllers.split(',').any(|it| it == name),
            };
            if is_of {
                let directories = path.ancestors().map(|it| Path::new(root).join(it));
                found.extend(directories);
            }
        }
    }
    found
}

fn limit_left(directory: &Path) -> Option<u64> {
    let number = |name: &str| read(&directory.join(name))?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    (limit < NO_LIMIT).then(|| limit.saturating_sub(used))
}

fn available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib = line.split_whitespace().next()?.parse::<u64>().ok()?;
    Some(kib.saturating_mul(1024))
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every ancestor's limit counts, in either version, and a path out of the hierarchy does not.
    #[test]
    fn ancestors_are_looked_at() {
        let text = "5:cpu,memory:/a/b\n0::/c\n0::/../d\n3:pids:/e\nnonsense\n";
        let found = directories(text);
        for expected in [
            "/sys/fs/cgroup/memory/a/b",
            "/sys/fs/cgroup/memory/a",
            "/sys/fs/cgroup/memory/",
            "/sys/fs/cgroup/c",
            "/sys/fs/cgroup/unified/c",
        ] {
            assert!(found.contains(&PathBuf::from(expected)), "{expected}");
        }
        assert_eq!(found.len(), 7, "{found:?}");
    }

    /// The host's own figure is known here, and bounds this very process.
    #[test]
    fn this_process_has_some_left() {
        let text = "MemTotal: 5 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(available(text), Some(1 << 20));
        let left = left_bytes(std::process::id()).unwrap();
        assert!(left > 1 << 20, "{left}");
    }
}
