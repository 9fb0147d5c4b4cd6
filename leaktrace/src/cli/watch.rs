//! Owns the options of `leaktrace watch` and their help.
//! Must not know how anything is done.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::values::{parse_duration, parse_interval};
use crate::watch::WatchConfig;

/// Options of `leaktrace watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Report this often.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_interval)]
    pub interval: Duration,

    /// Stop after this time [default: at Ctrl-C or SIGTERM].
    #[arg(long, short = 'd', value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Serve /metrics, /healthz and /readyz on this address, as in 127.0.0.1:9500.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,

    /// Serve only those who show the token in this file; needed beyond loopback.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,
}

impl WatchArgs {
    /// What was typed, as what it means.
    #[must_use]
    pub fn into_config(self) -> WatchConfig {
        let mut told = BTreeMap::from([("interval", format!("{:?}", self.interval))]);
        if let Some(address) = self.listen {
            told.insert("listen", address.to_string());
        }
        if let Some(duration) = self.duration {
            told.insert("duration", format!("{duration:?}"));
        }
        WatchConfig {
            interval: self.interval,
            duration: self.duration,
            listen: self.listen,
            token_file: self.token_file,
            told,
        }
    }
}
