//! Owns what a control group's memory is: how much it holds, how much it may, and who was killed for want of it.
//! Must not know the processes in it.
//!
//! A group's name is chosen by whoever made it. It is looked for below the kernel's own mount alone, and a path that leads
//! out of it, as of another namespace, is none.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

/// Where version 1 has its memory groups.
const ROOT_V1: &str = "/sys/fs/cgroup/memory";

/// Where version 2 is mounted: alone, and beside version 1.
const ROOTS_V2: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// `memory.stat` has some 60 lines.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// A limit beyond this is none: version 1 says so by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// A control group that accounts for memory; never the root, which is the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemoryGroup {
    /// As `/proc/PID/cgroup` has it.
    path: PathBuf,
    directory: PathBuf,
    is_unified: bool,
}

/// What a group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupMemory {
    /// All that is charged to it, what caches files too.
    pub bytes: u64,
    /// Of that, what no file backs.
    pub anonymous_bytes: u64,
    /// The most that it may have; `None` for no limit of its own.
    pub limit_bytes: Option<u64>,
    /// Processes in it or below that were killed because no more was left.
    pub oom_kill_count: u64,
}

impl MemoryGroup {
    /// The group of a process, by the text of its `cgroup` file; `None` where that is the root or no group accounts.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::below(text, Path::new(ROOT_V1), &ROOTS_V2.map(Path::new))
    }

    fn below(text: &str, v1: &Path, v2: &[&Path]) -> Option<Self> {
        let groups = || {
            text.lines().filter_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                Some((fields.next()?, fields.next()?))
            })
        };
        let found = |path: &str, root: &Path, is_unified, file: &str| {
            let path = Path::new(path);
            let below = path.strip_prefix("/").ok()?;
            let is_inside = below
                .components()
                .all(|it| matches!(it, Component::Normal(_)));
            let directory = root.join(below);
            let is_group = is_inside && below != Path::new("") && directory.join(file).exists();
            is_group.then(|| Self {
                path: path.to_owned(),
                directory,
                is_unified,
            })
        };
        let of_v1 = groups()
            .filter(|(controllers, _)| controllers.split(',').any(|it| it == "memory"))
            .find_map(|(_, path)| found(path, v1, false, "memory.usage_in_bytes"));
        of_v1.or_else(|| {
            let mut unified = groups().filter(|(controllers, _)| controllers.is_empty());
            let (_, path) = unified.next()?;
            v2.iter()
                .find_map(|root| found(path, root, true, "memory.current"))
        })
    }

    /// Its path, as `/proc/PID/cgroup` has it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it has now.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn read(&self) -> io::Result<GroupMemory> {
        let [current, limit, anonymous, events] = if self.is_unified {
            ["memory.current", "memory.max", "anon", "memory.events"]
        } else {
            [
                "memory.usage_in_bytes",
                "memory.limit_in_bytes",
                "total_rss",
                "memory.oom_control",
            ]
        };
        let number = |text: String| text.trim().parse::<u64>().ok();
        let bytes = number(self.text(current)?);
        let limit = self.text(limit).ok().and_then(number);
        Ok(GroupMemory {
            bytes: bytes.unwrap_or(0),
            anonymous_bytes: field(&self.text("memory.stat")?, anonymous).unwrap_or(0),
            limit_bytes: limit.filter(|limit| *limit < NO_LIMIT),
            oom_kill_count: self
                .text(events)
                .map_or(0, |it| field(&it, "oom_kill").unwrap_or(0)),
        })
    }

    fn text(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        let file = File::open(self.directory.join(name))?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// The number of a line `NAME NUMBER`.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(it, _)| *it == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Files as the kernel writes them, in a directory of our own.
    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    /// Groups of both versions are found and read; the root, what leads out and what does not exist are none.
    #[test]
    fn groups_are_read() {
        let root = std::env::temp_dir().join(format!("leaktrace-groups-{}", std::process::id()));
        let (v1, v2) = (root.join("v1"), root.join("v2"));
        write(
            &v1.join("a"),
            &[
                ("memory.usage_in_bytes", "5000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.stat", "rss 1\ntotal_rss 4096\n"),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                ),
            ],
        );
        write(
            &v2.join("b/c"),
            &[
                ("memory.current", "7000\n"),
                ("memory.max", "8000\n"),
                ("memory.stat", "anon 6000\nanon_thp 1\n"),
                (
                    "memory.events",
                    "low 0\noom 4\noom_kill 3\noom_group_kill 9\n",
                ),
            ],
        );
        write(&v2, &[("memory.current", "1\n")]);
        let of = |text: &str| MemoryGroup::below(text, &v1, &[&v2]);
        let read = |text: &str| of(text).unwrap().read().unwrap();
        let first = read("5:cpu,memory:/a\n0::/b/c\n");
        assert_eq!((first.bytes, first.anonymous_bytes), (5_000, 4_096));
        assert_eq!((first.limit_bytes, first.oom_kill_count), (None, 2));
        let second = read("5:cpu:/a\n0::/b/c\n");
        assert_eq!((second.bytes, second.anonymous_bytes), (7_000, 6_000));
        assert_eq!(
            (second.limit_bytes, second.oom_kill_count),
            (Some(8_000), 3)
        );
        assert_eq!(of("0::/b/c\n").unwrap().path(), Path::new("/b/c"));
        for none in [
            "",
            "0::/\n",
            "0::/../b/c\n",
            "0::/none\n",
            "5:memory:/\n",
            "x",
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
