//! Owns the options of `leaktrace inspect` and their help.
//! Must not know how anything is done.

use clap::{Args, ValueEnum};

use super::NameArgs;
use crate::{config::Format, inspect::InspectConfig};

/// Options of `leaktrace inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Look at this process (repeatable); without it at all of the host.
    #[arg(long, short = 'p', value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Where names come from.
    #[command(flatten, next_help_heading = "Names of containers and pods")]
    pub names: NameArgs,

    /// The form.
    #[arg(long, value_enum, default_value = "text")]
    pub format: InspectFormatArg,
}

/// The form of what is told.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum InspectFormatArg {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl InspectArgs {
    /// What was typed, as what it means.
    #[must_use]
    pub fn into_config(self) -> InspectConfig {
        InspectConfig {
            pids: self.pid,
            names: self.names.into(),
            format: match self.format {
                InspectFormatArg::Text => Format::Text,
                InspectFormatArg::Json => Format::Json,
            },
        }
    }
}
