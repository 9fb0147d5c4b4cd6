//! Owns the options that say where a report, view or comparison goes and what of it is left out, the same for every command
//! that shows one.
//! Must not know how anything is done.

use std::path::PathBuf;

use clap::Args;

use super::forms::ColourArg;
use crate::{config::Format, output::Wanted};

/// Where what is shown goes, and what of it.
#[derive(Debug, Args)]
pub struct ShownArgs {
    /// Write to this file [default: stdout].
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Leave out sites that this file suppresses, in LeakSanitizer's syntax (leak:PATTERN).
    #[arg(long, value_name = "FILE")]
    pub suppressions: Option<PathBuf>,

    /// Whether text is in colours.
    #[arg(
        long,
        visible_alias = "colour",
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub color: ColourArg,
}

impl ShownArgs {
    /// What is asked of the output of a command that shows one thing.
    pub(super) fn wanted(&self, format: Format) -> Wanted {
        Wanted {
            format,
            path: self.output.clone(),
            colour: self.color.into(),
            redraws: false,
        }
    }
}
