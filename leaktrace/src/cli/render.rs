//! Owns the options of `leaktrace render` and their help.
//! Must not know how anything is done.

use std::path::PathBuf;

use clap::Args;

use super::{forms::ViewArg, shown::ShownArgs};
use crate::{
    config::Format,
    render::{RenderConfig, Which},
    saved,
};

const RENDER_EXAMPLES: &str = "\
Examples:
  What a trace saw, in words, on a machine without root or eBPF:
      leaktrace trace --pid 4242 --duration 1m --format json --output saved.ndjson
      leaktrace render saved.ndjson

  A page for a browser, and a profile for Go's tool:
      leaktrace render saved.ndjson --format html --output report.html
      leaktrace render saved.ndjson --format pprof --output heap.pb.gz

  The live bytes as stacks, for any flame graph tool:
      leaktrace render saved.ndjson --format folded | inferno-flamegraph > live.svg

  The third report alone, without what is known and accepted:
      leaktrace render saved.ndjson --report 3 --suppressions known.txt";

/// Options of `leaktrace render`.
#[derive(Debug, Args)]
#[command(after_help = RENDER_EXAMPLES)]
pub struct RenderArgs {
    /// The saved stream; - is standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The form of the view.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ViewArg,

    /// Show the report with this number, the last one, or (as text) all of them.
    #[arg(long, value_name = "N|last|all", default_value = "last", value_parser = parse_which)]
    pub report: Which,

    /// Show this many sites of each process [default: 10; 1000 in other forms than text].
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,

    /// Where it goes, and what of it.
    #[command(flatten)]
    pub shown: ShownArgs,
}

impl RenderArgs {
    /// What was typed, as what it means.
    ///
    /// # Errors
    ///
    /// When the file of suppressions is none.
    pub fn into_config(self) -> anyhow::Result<RenderConfig> {
        let format = Format::from(self.format);
        Ok(RenderConfig {
            path: self.file,
            which: self.report,
            wanted: self.shown.wanted(format),
            suppressions: saved::suppressions(self.shown.suppressions.as_deref())?,
            top: self.top.unwrap_or(format.default_top()),
        })
    }
}

/// `last`, `all` or a number.
fn parse_which(text: &str) -> Result<Which, String> {
    match text {
        "last" => Ok(Which::Last),
        "all" => Ok(Which::All),
        _ => text
            .parse()
            .map(Which::Number)
            .map_err(|_| "write the number of a report, last or all".to_owned()),
    }
}
