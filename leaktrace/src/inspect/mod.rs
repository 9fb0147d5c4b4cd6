//! Owns looking at processes without touching them: what would be probed, where, and what would not and why.
//! Must not know how that is shown, and attaches nothing.

mod go;
mod process;

use std::io;

use anyhow::{Context as _, bail};

use crate::{
    config::Format,
    host::{clock::Clock, containers::NameSources, process as host_process},
    report::{json::JsonStream, model::Inspected, text},
    session,
};

/// What `inspect` is asked for.
#[derive(Clone, Debug)]
pub struct InspectConfig {
    /// Whom to look at; everyone where it is empty.
    pub pids: Vec<u32>,
    /// How to show it: text or JSON.
    pub format: Format,
    /// Where the names of containers come from.
    pub names: NameSources,
}

/// Looks, and hands out what there is to see, process by process.
///
/// # Errors
///
/// When a named process cannot be looked at; the message names it. When `put` fails, but for a closed pipe.
pub fn run(
    config: &InspectConfig,
    mut put: impl FnMut(&[u8]) -> io::Result<()>,
) -> anyhow::Result<()> {
    let clock = Clock::anchor().context("failed to read the clocks")?;
    let mut inspector = process::Inspector::new(clock, config.names.clone());
    if config.pids.is_empty() {
        for pid in host_process::list_pids().context("failed to list processes in /proc")? {
            if pid == std::process::id() || host_process::is_kernel_thread(pid) {
                continue;
            }
            // One that is gone meanwhile is no longer of interest.
            if let Ok(inspected) = inspector.inspect(pid)
                && !show(&inspected, config.format, &mut put)?
            {
                break;
            }
        }
        return Ok(());
    }
    for pid in &config.pids {
        if host_process::is_kernel_thread(*pid) {
            bail!("pid {pid} is a kernel thread, which has no heap of this kind");
        }
        let inspected = match inspector.inspect(*pid) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("no process has the pid {pid}; remedy: look it up with `pgrep -a NAME`")
            }
            inspected => inspected.with_context(|| format!("cannot look at pid {pid}"))?,
        };
        if !show(&inspected, config.format, &mut put)? {
            break;
        }
    }
    Ok(())
}

/// Hands out one process; `false` where nobody reads any more.
fn show(
    inspected: &Inspected,
    format: Format,
    put: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> anyhow::Result<bool> {
    let mut bytes = Vec::new();
    if format == Format::Json {
        let now_ns = Clock::anchor()
            .context("failed to read the clocks")?
            .boot_to_unix_ns(Clock::now_boot_ns());
        JsonStream::new(session::host()).inspected(inspected, now_ns, &mut bytes);
    } else {
        let mut page = String::new();
        text::inspection::write(inspected, &mut page);
        bytes = page.into_bytes();
    }
    match put(&bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => {
            written.context("failed to write what was found")?;
            Ok(true)
        }
    }
}
