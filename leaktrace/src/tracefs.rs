//! Owns the way to the kernel's tracepoint descriptions, also where nobody mounted them.
//! Must not know which tracepoints are wanted or why.

use std::{fs, io, path::Path, thread};

use anyhow::{Context as _, anyhow};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Where Linux mounts tracefs since 4.1.
const TRACEFS: &str = "/sys/kernel/tracing";
/// Where it was before, and where debugfs still shows it.
const TRACEFS_IN_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// Runs `task` where tracefs is mounted.
///
/// Where it is not, it is mounted for the time of `task` in a mount namespace of a thread of its
/// own: the host's mounts stay as they are.
///
/// # Errors
///
/// Those of `task`, and when tracefs cannot be had.
pub fn with_tracefs<T: Send>(
    task: impl FnOnce(&Path) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    if let Some(mounted) = [TRACEFS, TRACEFS_IN_DEBUGFS]
        .map(Path::new)
        .into_iter()
        .find(|it| holds(it))
    {
        return task(mounted);
    }
    thread::scope(|scope| {
        let privately = scope.spawn(|| {
            mount_privately().with_context(|| {
                if nix::unistd::geteuid().is_root() {
                    format!("tracefs is not mounted; remedy: mount -t tracefs nodev {TRACEFS}")
                } else {
                    "the kernel shows its tracepoints to root only; remedy: run as root".to_owned()
                }
            })?;
            task(Path::new(TRACEFS))
        });
        privately
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread that mounts tracefs panicked")))
    })
}

fn holds(directory: &Path) -> bool {
    directory.join("events/sched").is_dir()
}

/// Gives this thread mounts of its own and adds tracefs to them.
fn mount_privately() -> io::Result<()> {
    // A thread that shares its working directory with others cannot have mounts of its own.
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    // Without this the new mount would reach the host where `/` is shared, as systemd has it.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(
        Some("nodev"),
        TRACEFS,
        Some("tracefs"),
        MsFlags::empty(),
        none,
    )?;
    Ok(())
}

/// The offset in bytes of a field of a tracepoint, from its format file.
///
/// # Errors
///
/// When the tracepoint does not exist. A field that it does not have is `None`.
pub fn field_offset(
    tracefs: &Path,
    category: &str,
    tracepoint: &str,
    field: &str,
) -> anyhow::Result<Option<u32>> {
    let path = tracefs
        .join("events")
        .join(category)
        .join(tracepoint)
        .join("format");
    let format = fs::read_to_string(&path).with_context(|| {
        format!(
            "failed to read {}: this kernel lacks a tracepoint",
            path.display()
        )
    })?;
    Ok(parse_offset(&format, field))
}

/// Finds `field` in the text of a format file, such as `\tfield:pid_t pid;\toffset:8;\tsize:4;…`.
fn parse_offset(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';');
        let declaration = parts.next()?.strip_prefix("field:")?;
        let name = declaration.rsplit(' ').next()?.split('[').next()?;
        let offset = parts.next()?.trim().strip_prefix("offset:")?;
        (name == field).then(|| offset.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets are found by name, also behind array types; a missing field is none.
    #[test]
    fn offsets_are_found_by_name() {
        let format = "name: task_newtask\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\n\n\
            \tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;\n\
            \tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:0;\n\
            \tfield:u64 clone_flags;\toffset:32;\tsize:8;\tsigned:0;\n";
        assert_eq!(parse_offset(format, "pid"), Some(8));
        assert_eq!(parse_offset(format, "comm"), Some(12));
        assert_eq!(parse_offset(format, "clone_flags"), Some(32));
        assert_eq!(parse_offset(format, "group_dead"), None);
    }
}
