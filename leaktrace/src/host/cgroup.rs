//! Owns which control groups a process is in, and what is meant by the path of one.
//! Must not know containers.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where cgroups are mounted; below lie the controllers' own hierarchies where there are several.
const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup and all below it, as `/system.slice/x.service` or with `/sys/fs/cgroup` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath(PathBuf);

impl CgroupPath {
    /// Takes a path as people write it.
    ///
    /// # Errors
    ///
    /// Where there is no such cgroup, or where all are meant.
    pub fn new(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let mounted = Path::new(ROOT);
        let below = match path.strip_prefix(mounted) {
            Ok(below) => below.to_owned(),
            Err(_) => path.strip_prefix("/").unwrap_or(path).to_owned(),
        };
        let mut parts = below.components();
        let first = parts.next().map(|part| mounted.join(part));
        // In a v1 hierarchy the first directory is the controller's.
        let is_hierarchy = first.is_some_and(|it| is_hierarchy(&it));
        let below = match path.is_absolute() && path.starts_with(mounted) && is_hierarchy {
            true => parts.as_path().to_owned(),
            false => below,
        };
        if below.as_os_str().is_empty() {
            return Err("the root is the whole host, which is traced without targets".to_owned());
        }
        if !exists(&below) {
            return Err(format!(
                "there is no such cgroup below {ROOT}; remedy: look it up with `cat /proc/PID/cgroup`"
            ));
        }
        Ok(Self(Path::new("/").join(below)))
    }

    /// Whether a process with this text in `/proc/PID/cgroup` is in it or below it.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        text.lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .any(|path| Path::new(path).starts_with(&self.0))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

/// Whether a directory is the root of a hierarchy of its own, and no cgroup of v2.
fn is_hierarchy(directory: &Path) -> bool {
    let is_unified = Path::new(ROOT).join("cgroup.controllers").exists();
    !is_unified && directory.join("cgroup.procs").exists()
}

fn exists(below: &Path) -> bool {
    let root = Path::new(ROOT);
    let hierarchies = root.read_dir().into_iter().flatten().flatten();
    let roots = hierarchies.map(|entry| entry.path());
    std::iter::once(root.to_owned())
        .chain(roots)
        .any(|root| root.join(below).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup holds itself and what is below it, on any hierarchy, and no namesake.
    #[test]
    fn holds() {
        let cgroup = CgroupPath("/system.slice/web".into());
        for (text, expected) in [
            ("0::/system.slice/web\n", true),
            ("0::/system.slice/web/worker\n", true),
            ("4:memory:/system.slice/web\n0::/\n", true),
            ("0::/system.slice/website\n", false),
            ("0::/user.slice/system.slice/web\n", false),
            ("0::/\n", false),
            ("", false),
        ] {
            assert_eq!(cgroup.holds(text), expected, "{text}");
        }
    }

    /// What does not exist is refused, and so is the root, with the reason.
    #[test]
    fn refusals() {
        for (text, expected) in [
            ("/", "whole host"),
            ("/sys/fs/cgroup", "whole host"),
            ("/no/such.slice", "no such cgroup"),
        ] {
            let error = CgroupPath::new(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
