//! Owns one run of `leaktrace diff`: two saved streams in, what changed between them out.
//! Must not know how reports are compared.

use std::path::PathBuf;

use crate::{
    config::Format,
    output::{Output, Wanted, forgive_closed_pipe},
    report::{diff::compare, json::JsonStream, suppressions::Suppressions, text},
    saved,
};

/// What `leaktrace diff` is to do.
#[derive(Clone, Debug)]
pub struct DiffConfig {
    /// The old stream.
    pub old: PathBuf,
    /// The new one.
    pub new: PathBuf,
    /// The form, and where it goes.
    pub wanted: Wanted,
    /// What is not to be compared.
    pub suppressions: Suppressions,
    /// Sites shown of each program.
    pub top: usize,
}

/// Compares the last reports of two streams.
///
/// # Errors
///
/// In one line that names the object and the remedy.
pub fn run(config: &DiffConfig) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.old.as_os_str() != saved::STDIN || config.new.as_os_str() != saved::STDIN,
        "only one of the two streams can come by standard input; remedy: name a file for the other"
    );
    let read = |path| {
        let mut snapshot = saved::snapshot(path, None)?;
        for (_, report) in &mut snapshot.reports {
            config.suppressions.apply(report);
        }
        anyhow::Ok(snapshot)
    };
    let (old, new) = (read(&config.old)?, read(&config.new)?);
    let difference = compare(&old, &new, config.top);
    let mut output = Output::open(&config.wanted)?;
    let bytes = match config.wanted.format {
        Format::Json => {
            let host = new.reports.first().map(|(host, _)| host.clone());
            let mut bytes = Vec::new();
            JsonStream::new(host.unwrap_or_default()).difference(&difference, &mut bytes);
            bytes
        }
        _ => text::diff::render(&difference, output.style()).into_bytes(),
    };
    forgive_closed_pipe(output.raw(&bytes))
}
