//! Owns the compiled dependencies of release builds in the cache: a clean clone
//! starts from a copy. Must never hand on what was built from a clone's own files.
//!
//! A build directory shared by clones would be simpler and is wrong: cargo names
//! a workspace's crates by their path within it and trusts file times, so it would
//! take one clone's older sources for those that another clone has built.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, iter};

use anyhow::{Context as _, Result};

use crate::{agent, cache, toolchain};

/// How many sets of dependencies are kept, so that branches can take turns.
const KEPT: usize = 3;

/// How the cached sets are called, before their key.
const PREFIX: &str = "dependencies-";

/// What the names of the project's own files begin with.
const OWN: &[&str] = &["leaktrace", "libleaktrace", "xtask"];

/// The parts of a target directory that cargo finds compiled crates by.
const PARTS: &[&str] = &[".fingerprint", "build", "deps"];

/// Where a release build keeps compiled crates: the agent's, those that run while
/// it is built, and those of the BPF object.
fn profiles(triple: &str) -> [PathBuf; 4] {
    [
        Path::new(triple).join("release"),
        PathBuf::from("release"),
        PathBuf::from("bpf/bpfel-unknown-none/release"),
        PathBuf::from("bpf/release"),
    ]
}

/// Names what compiled dependencies depend on.
fn key() -> Result<String> {
    let mut hasher = DefaultHasher::new();
    toolchain::VERSION.hash(&mut hasher);
    env::var_os("RUSTFLAGS").hash(&mut hasher);
    for file in ["Cargo.lock", "Cargo.toml"] {
        let path = toolchain::workspace_dir().join(file);
        // Without a lock file there is none yet: cargo writes it while it builds.
        fs::read(path).unwrap_or_default().hash(&mut hasher);
    }
    Ok(format!("{PREFIX}{:016x}", hasher.finish()))
}

/// Fills a target directory that has seen no release build yet.
///
/// # Errors
/// Fails where the cache cannot be read or the copy does not succeed.
pub fn sow(triple: &str) -> Result<()> {
    let target = toolchain::target_dir();
    if target.join(triple).join("release/.fingerprint").exists() {
        return Ok(());
    }
    let cache = cache::dir()?;
    let _lock = cache::lock(&cache)?;
    // A set for another lock file still has most crates; cargo ignores the rest.
    let exact = cache.join(key()?);
    let seeds = iter::once(exact)
        .filter(|dir| dir.exists())
        .chain(newest_first(&cache)?);
    let Some(seed) = seeds.into_iter().next() else {
        return Ok(());
    };
    for profile in profiles(triple) {
        copy(&seed.join(&profile), &target.join(&profile))?;
    }
    // Cargo's mark of a directory that can be deleted, which build.rs looks for.
    let mark = target.join("CACHEDIR.TAG");
    if !mark.exists() {
        fs::write(&mark, "Signature: 8a477f597d28d172789f06886806bc55\n")
            .with_context(|| format!("failed to write {}", mark.display()))?;
    }
    Ok(())
}

/// Keeps the dependencies of a finished release build, unless they are kept.
///
/// # Errors
/// Fails where the cache cannot be written.
pub fn harvest(triple: &str) -> Result<()> {
    let cache = cache::dir()?;
    let seed = cache.join(key()?);
    if seed.exists() {
        return Ok(());
    }
    let _lock = cache::lock(&cache)?;
    let staging = cache::staging_dir(&cache)?;
    let target = toolchain::target_dir();
    for profile in profiles(triple) {
        let kept = staging.join(&profile);
        for part in PARTS {
            copy(&target.join(&profile).join(part), &kept.join(part))?;
            remove_own(&kept.join(part))?;
        }
    }
    cache::publish(&staging, &seed)?;
    for old in newest_first(&cache)?.into_iter().skip(KEPT) {
        fs::remove_dir_all(&old).with_context(|| format!("failed to remove {}", old.display()))?;
    }
    Ok(())
}

/// The cached sets, the newest first.
fn newest_first(cache: &Path) -> Result<Vec<PathBuf>> {
    let mut seeds: Vec<(SystemTime, PathBuf)> = Vec::new();
    let listing =
        fs::read_dir(cache).with_context(|| format!("failed to read {}", cache.display()));
    for entry in listing?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            seeds.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    seeds.sort();
    Ok(seeds.into_iter().rev().map(|(_, path)| path).collect())
}

/// Copies what is in one directory into another, with the times that cargo compares.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("failed to create {}", to.display()))?;
    agent::run(
        Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(from.join("."))
            .arg(to),
    )
}

/// Removes what was built from the project's own files.
fn remove_own(dir: &Path) -> Result<()> {
    let Ok(listing) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in listing.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        if OWN
            .iter()
            .any(|own| name.to_string_lossy().starts_with(own))
        {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("failed to remove {}", path.display()))?;
        }
    }
    Ok(())
}
