//! Owns one run of `leaktrace render`: a saved stream in, a view of it out.
//! Must not know eBPF or the machine: it runs anywhere, as anybody.

use std::path::PathBuf;

use crate::{
    config::Format,
    output::{Output, Wanted, forgive_closed_pipe},
    report::{
        model::Report,
        read::Item,
        suppressions::{Suppressions, keep_top},
    },
    saved,
};

/// Which reports of a stream are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The last one.
    Last,
    /// All of them, one after the other.
    All,
    /// The one with this number.
    Number(u32),
}

/// What `leaktrace render` is to do.
#[derive(Clone, Debug)]
pub struct RenderConfig {
    /// The stream.
    pub path: PathBuf,
    /// Which reports.
    pub which: Which,
    /// The form, and where it goes.
    pub wanted: Wanted,
    /// What is not to be shown.
    pub suppressions: Suppressions,
    /// Sites shown of each process.
    pub top: usize,
}

impl RenderConfig {
    fn choose(&self, report: &mut Report) {
        self.suppressions.apply(report);
        keep_top(report, self.top);
    }
}

/// Reads the stream and writes the view.
///
/// # Errors
///
/// In one line that names the object and the remedy.
pub fn run(config: &RenderConfig) -> anyhow::Result<()> {
    if config.which == Which::All && config.wanted.format == Format::Text {
        return run_all(config);
    }
    let number = match config.which {
        Which::Number(number) => Some(number),
        Which::All | Which::Last => None,
    };
    let mut snapshot = saved::snapshot(&config.path, number)?;
    for (_, report) in &mut snapshot.reports {
        config.choose(report);
    }
    let mut output = Output::open(&config.wanted)?;
    let written = output.snapshot(snapshot);
    forgive_closed_pipe(written.and_then(|()| output.finish()))
}

/// Shows each report as soon as it is read.
fn run_all(config: &RenderConfig) -> anyhow::Result<()> {
    let mut output = Output::open(&config.wanted)?;
    let mut count = 0;
    let mut written = Ok(());
    saved::read(&config.path, |item| {
        if let Item::Report(host, mut report) = item
            && written.is_ok()
        {
            count += 1;
            config.choose(&mut report);
            written = output.report(&host, report, true);
        }
        Ok(())
    })?;
    if count == 0 {
        anyhow::bail!("{}", saved::no_report(&config.path, None, None));
    }
    forgive_closed_pipe(written.and_then(|()| output.finish()))
}
