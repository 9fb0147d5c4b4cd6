//! Owns the options of `leaktrace diff` and their help.
//! Must not know how anything is done.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shown::ShownArgs;
use crate::{config::Format, diff::DiffConfig, saved};

const DIFF_EXAMPLES: &str = "\
Examples:
  What holds more after an hour than before?
      leaktrace trace --pid 4242 --duration 1m --min-age 0s --top 1000 --format json -o old.ndjson
      leaktrace trace --pid 4242 --duration 1m --min-age 0s --top 1000 --format json -o new.ndjson
      leaktrace diff old.ndjson new.ndjson

  Which sites are new in the next version, for a program:
      leaktrace diff v1.ndjson v2.ndjson --format json | jq 'select(.change == \"new\")'";

/// Options of `leaktrace diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffArgs {
    /// The stream whose last report is the old one; - is standard input.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,

    /// The stream whose last report is the new one.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// The form of the comparison.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: DiffFormatArg,

    /// Show this many sites of each program [default: 10; all as json].
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,

    /// Where it goes, and what of it.
    #[command(flatten)]
    pub shown: ShownArgs,
}

/// The form of a comparison.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DiffFormatArg {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl DiffArgs {
    /// What was typed, as what it means.
    ///
    /// # Errors
    ///
    /// When the file of suppressions is none.
    pub fn into_config(self) -> anyhow::Result<DiffConfig> {
        let (format, top) = match self.format {
            DiffFormatArg::Text => (Format::Text, 10),
            DiffFormatArg::Json => (Format::Json, usize::MAX),
        };
        Ok(DiffConfig {
            old: self.old,
            new: self.new,
            wanted: self.shown.wanted(format),
            suppressions: saved::suppressions(self.shown.suppressions.as_deref())?,
            top: self.top.unwrap_or(top),
        })
    }
}
