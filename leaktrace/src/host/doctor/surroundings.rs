//! Owns the checks of how containers are told and named here: control groups, and the runtime's socket.
//! Must not know what a container is called.

use std::{os::unix::net::UnixStream, path::PathBuf};

use super::Check;
use crate::host::{container, containers};

/// How control groups are mounted here, and which container this process is in itself.
pub(super) fn control_groups(own: &str) -> Check {
    const NAME: &str = "control groups";
    let is_second = own.lines().any(|line| line.starts_with("0::"));
    let is_first = own.lines().any(|line| !line.starts_with("0::"));
    let version = match (is_first, is_second) {
        (false, true) => "v2",
        (true, true) => "v1 and v2 at once",
        (true, false) => "v1",
        (false, false) => {
            let what = "/proc/self/cgroup tells nothing: containers are not told apart";
            return Check::degraded(NAME, what, "a kernel with CONFIG_CGROUPS, /proc mounted");
        }
    };
    let within = match container::parse_cgroup(own) {
        None => String::new(),
        Some(it) => format!(", this process in container {}", &it.id[..12]),
    };
    Check::ok(NAME, format!("{version}{within}"))
}

/// Whether a runtime can be asked for names.
pub(super) fn runtime() -> Check {
    of_sockets(&containers::cri_sockets())
}

fn of_sockets(found: &[PathBuf]) -> Check {
    const NAME: &str = "container runtime";
    let mut refusals = Vec::new();
    for path in found {
        match UnixStream::connect(path) {
            Ok(_) => return Check::ok(NAME, format!("listens for CRI at {}", path.display())),
            Err(error) => refusals.push(format!("{}: {error}", path.display())),
        }
    }
    if refusals.is_empty() {
        let detail = "no CRI socket in the well-known places; names come from what runtimes keep in files \
                      (--cri-socket says where else)";
        return Check::ok(NAME, detail);
    }
    let what = format!(
        "no runtime can be asked for names ({})",
        refusals.join(", ")
    );
    Check::degraded(NAME, what, "run as root, or start the runtime again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Outcome;

    /// Every way to mount control groups is told, and the agent's own container.
    #[test]
    fn hierarchies() {
        let id = "3f4d8a3b1e2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6";
        let told = |own: &str| control_groups(own).outcome;
        assert_eq!(told("0::/\n"), Outcome::Ok("v2".to_owned()));
        let hybrid = "4:pids:/\n0::/user.slice\n";
        assert_eq!(told(hybrid), Outcome::Ok("v1 and v2 at once".to_owned()));
        let docker = format!("4:pids:/docker/{id}\n");
        let expected = "v1, this process in container 3f4d8a3b1e2c";
        assert_eq!(told(&docker), Outcome::Ok(expected.to_owned()));
        assert!(matches!(told(""), Outcome::Degraded { .. }));
    }

    /// A socket that nobody listens at is told with its path; without any socket nothing is missing.
    #[test]
    fn sockets() {
        let path = std::env::temp_dir().join(format!("leaktrace-cri-{}.sock", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let found = [path.clone()];
        assert!(matches!(of_sockets(&found).outcome, Outcome::Ok(_)));
        drop(listener);
        let Outcome::Degraded { what, .. } = of_sockets(&found).outcome else {
            panic!("nobody listens");
        };
        assert!(what.contains("leaktrace-cri-"), "{what}");
        assert!(matches!(of_sockets(&[]).outcome, Outcome::Ok(_)));
        std::fs::remove_file(path).unwrap();
    }
}
