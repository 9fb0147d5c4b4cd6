//! Owns the options of `leaktrace top` and their help.
//! Must not know how anything is done.

use std::{io::IsTerminal as _, time::Duration};

use clap::Args;

use super::targets::TargetArgs;
use super::values::{parse_duration, parse_interval};
use crate::top::TopConfig;

/// Options of `leaktrace top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Whom to trace.
    #[command(flatten)]
    pub targets: TargetArgs,

    /// Make the screen anew this often.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_interval)]
    pub interval: Duration,

    /// What counts as long-lived; 0s shows all that is outstanding.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub min_age: Duration,

    /// List this many sites of each process.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub top: usize,
}

impl TopArgs {
    /// What was typed, as what it means.
    ///
    /// # Errors
    ///
    /// Where there is no terminal to show anything on.
    pub fn into_config(self) -> anyhow::Result<TopConfig> {
        anyhow::ensure!(
            std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
            "`leaktrace top` needs a terminal; remedy: use `leaktrace trace --interval 10s`"
        );
        Ok(TopConfig {
            names: self.targets.names.clone().into(),
            targets: self.targets.into(),
            interval: self.interval,
            min_age: self.min_age,
            sites: self.top,
        })
    }
}
