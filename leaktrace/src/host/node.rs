//! Owns what this machine is called, also when the agent runs in a pod of its own.
//! Must not know what is reported.

use std::{env, fs};

/// Set from `spec.nodeName` in the agent's pod, whose own host name would be the pod's.
const NODE_NAME: &str = "NODE_NAME";

/// The machine's id, and the same in the host's root where the agent has one of its own.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/proc/1/root/etc/machine-id"];

/// The node's name: as Kubernetes calls it, else the host's own.
pub fn name() -> String {
    env::var(NODE_NAME)
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| {
            let names = nix::sys::utsname::uname();
            names
                .map(|names| names.nodename().to_string_lossy().into_owned())
                .unwrap_or_default()
        })
}

/// The machine's id; empty where it has none.
pub fn id() -> String {
    let text = MACHINE_IDS.iter().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        let id = text.trim();
        // It says `uninitialized` on the very first boot.
        (id.len() == 32).then(|| id.to_owned())
    });
    text.unwrap_or_default()
}
