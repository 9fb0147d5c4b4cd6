//! Owns the place where built tools are kept, outside `target/`: a clean clone
//! finds them there. Must not know which tools there are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{env, process};

use anyhow::{Context as _, Result, bail};

/// The cache's directory, which is created where it is missing.
///
/// # Errors
/// Fails where neither a home nor a cache directory is known, or it cannot be made.
pub fn dir() -> Result<PathBuf> {
    let Some(dir) = choose(|name| env::var_os(name).map(PathBuf::from)) else {
        bail!("neither HOME nor XDG_CACHE_HOME is set: set LEAKTRACE_CACHE to a directory");
    };
    fs::create_dir_all(&dir).with_context(|| {
        format!(
            "failed to create {}: set LEAKTRACE_CACHE to a writable directory",
            dir.display()
        )
    })?;
    // A relative path would mean another place for each child's directory.
    dir.canonicalize()
        .with_context(|| format!("failed to resolve {}", dir.display()))
}

/// Picks the directory from the environment, most specific word first.
fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    set("LEAKTRACE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("leaktrace")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/leaktrace")))
}

/// Waits until no other clone installs into the cache. Ends with the value: the
/// kernel takes the lock back also when this process is killed.
///
/// # Errors
/// Fails where the lock file cannot be made or locked.
pub fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let file =
        File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!(
            "xtask: waiting for another set-up to finish ({})",
            path.display()
        );
        file.lock()
            .with_context(|| format!("failed to lock {}", path.display()))?;
    }
    Ok(file)
}

/// A fresh directory to install into. Leftovers of killed set-ups go first, which
/// is safe only under the lock.
///
/// # Errors
/// Fails where the cache cannot be read or written.
pub fn staging_dir(cache: &Path) -> Result<PathBuf> {
    const PREFIX: &str = "staging-";
    let listing =
        fs::read_dir(cache).with_context(|| format!("failed to read {}", cache.display()));
    for entry in listing?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            remove_dir(&entry.path())?;
        }
    }
    let staging = cache.join(format!("{PREFIX}{}", process::id()));
    fs::create_dir(&staging).with_context(|| format!("failed to create {}", staging.display()))?;
    Ok(staging)
}

/// Makes a finished installation visible in one step: whoever finds the final
/// directory finds it whole.
///
/// # Errors
/// Fails where the directory cannot be renamed.
pub fn publish(staging: &Path, last: &Path) -> Result<()> {
    if last.exists() {
        remove_dir(last)?;
    }
    fs::rename(staging, last).with_context(|| {
        format!(
            "failed to rename {} to {}",
            staging.display(),
            last.display()
        )
    })
}

/// Removes a directory with all that is in it.
fn remove_dir(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).with_context(|| format!("failed to remove {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The project's own variable wins, then XDG's, then the home directory; a
    /// variable that is set to nothing counts as not set.
    #[test]
    fn the_most_specific_variable_names_the_cache() {
        let check = |set: &[(&str, &str)], expected: Option<&str>| {
            let variable = |name: &str| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| PathBuf::from(value))
            };
            assert_eq!(choose(variable), expected.map(PathBuf::from), "{set:?}");
        };
        check(&[("HOME", "/h")], Some("/h/.cache/leaktrace"));
        check(
            &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
            Some("/x/leaktrace"),
        );
        check(
            &[("XDG_CACHE_HOME", "/x"), ("LEAKTRACE_CACHE", "/l")],
            Some("/l"),
        );
        check(
            &[("HOME", "/h"), ("LEAKTRACE_CACHE", "")],
            Some("/h/.cache/leaktrace"),
        );
        check(&[], None);
    }
}
