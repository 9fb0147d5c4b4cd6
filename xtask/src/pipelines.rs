//! Owns a run of the log pipelines over what `cargo xtask pods` left: what it needs, and whether it is there.
//! Must not know the pipelines: `pipelines/pipelines.py` runs them.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{agent, packages, pods, python, toolchain};

/// Sends a stream through containerd's log file and rsyslog into `DuckDB`, and the streams of so many simulated nodes
/// into `DuckDB` and `ClickHouse`.
///
/// # Errors
/// Fails, with the remedy, where something is missing, and where a field or an answer differs.
pub fn run(nodes: u32) -> Result<()> {
    let log = pods::log();
    if !log.exists() {
        bail!("no {}: run `cargo xtask pods` first", log.display());
    }
    packages::provide(&[("rsyslogd", "rsyslog")], "the pipelines")?;
    let own = Path::new("xtask/src/pipelines");
    let mut pipelines = python::command(&python::ENGINES, own)?;
    pipelines
        .arg(own.join("pipelines.py"))
        .arg(log)
        .arg(toolchain::target_dir().join("pipelines"))
        .arg(nodes.to_string());
    agent::run(&mut pipelines).context("a pipeline does not keep the stream as it is")
}
