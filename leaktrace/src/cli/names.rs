//! Owns the options that tell where the names of containers and pods come from, for all commands that trace.
//! Must not know how names are found.

use std::path::PathBuf;

use clap::Args;

use crate::host::containers::NameSources;

/// Where `--help` lists them.
const NAMES: &str = "Names of containers and pods";

/// Where the names of containers and pods come from.
#[derive(Clone, Debug, Default, Args)]
pub struct NameArgs {
    /// Ask this CRI socket for the names of containers and pods [default: found by itself].
    #[arg(long, help_heading = NAMES, value_name = "PATH")]
    pub cri_socket: Option<PathBuf>,

    /// Ask the kubelet here, where no runtime knows a pod [default: 127.0.0.1:10255].
    #[arg(long, help_heading = NAMES, value_name = "HOST:PORT")]
    pub kubelet: Option<String>,

    /// Tell this label of pods in the JSON stream (repeatable), as in app.kubernetes.io/name.
    #[arg(long, help_heading = NAMES, value_name = "KEY")]
    pub pod_label: Vec<String>,
}

impl From<NameArgs> for NameSources {
    fn from(from: NameArgs) -> Self {
        Self {
            cri_socket: from.cri_socket,
            kubelet: from.kubelet,
            pod_labels: from.pod_label,
        }
    }
}
