//! Owns what this machine is called, also when the agent runs in a pod of its own.
//! Must not know what is reported.

use std::{env, fs};

/// Set from `spec.nodeName` in the agent's pod, whose own host name would be the pod's.
const NODE_NAME: &str = "NODE_NAME";

/// Where the machine's id is. The first process has the host's root, also when the agent has one of its own, which may
/// have come with an id in its image.
const MACHINE_IDS: [&str; 4] = [
    "/proc/1/root/etc/machine-id",
    "/etc/machine-id",
    "/proc/1/root/var/lib/dbus/machine-id",
    "/var/lib/dbus/machine-id",
];

/// The node's name: as Kubernetes calls it, else the host's own.
pub fn name() -> String {
    of_kubernetes().unwrap_or_else(|| {
        let names = nix::sys::utsname::uname();
        names
            .map(|names| names.nodename().to_string_lossy().into_owned())
            .unwrap_or_default()
    })
}

fn of_kubernetes() -> Option<String> {
    env::var(NODE_NAME).ok().filter(|name| !name.is_empty())
}

/// The machine's id; where it has none, the node's name in Kubernetes, which no other node of the cluster has; else empty.
pub fn id() -> String {
    let mut found = MACHINE_IDS.iter().filter_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        machine_id(&text).map(str::to_owned)
    });
    found.next().or_else(of_kubernetes).unwrap_or_default()
}

/// What the file says; on the very first boot it is `uninitialized`.
fn machine_id(text: &str) -> Option<&str> {
    let id = text.trim();
    (id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::machine_id;

    /// An id is 32 digits; a file that is empty, or not yet written, has none.
    #[test]
    fn machine_ids() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(machine_id(&format!("{id}\n")), Some(id));
        assert_eq!(machine_id("uninitialized\n"), None);
        assert_eq!(machine_id(""), None);
        assert_eq!(machine_id("0123456789abcdef0123456789abcde\u{e9}"), None);
    }
}
