//! Owns what a container's runtime keeps in files and arguments: its names, and where its socket is.
//! Must not know CRI.
//!
//! The program that keeps a container alive (`conmon`, `containerd-shim-…`) is an ancestor of its
//! processes, outside of it. Its directory leads to the container's files wherever the runtime was told
//! to put them, and from within a pod too. What is well known is looked at through the first process's
//! root, which is the host's where `/proc` is.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ContainerNames, Pod};
use crate::host::{
    container::{Container, ContainerRuntime},
    process::ProcessFacts,
};

/// Between a container's process and its keeper are its own ancestors.
const ANCESTORS_MAX: usize = 64;

/// A container's configuration is some tens of KiB; a list of all containers has 1 KiB for each.
const FILE_MAX: u64 = 16 << 20;

/// The host's root, also where the agent has a root of its own: its `/proc` shows all processes.
const HOST_ROOT: &str = "/proc/1/root";

/// Where runtimes listen unless they are told otherwise.
const CRI_SOCKETS: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "run/k3s/containerd/containerd.sock",
    "run/cri-dockerd.sock",
];

/// The program that watches over a container from outside.
#[derive(Debug, PartialEq, Eq)]
pub enum Keeper {
    /// Of Podman and CRI-O.
    Conmon {
        /// Its pid.
        pid: u32,
        /// The container's name.
        name: Option<String>,
    },
    /// Of containerd, one for each pod.
    Shim {
        /// Its pid.
        pid: u32,
        /// Where its containerd listens.
        address: Option<String>,
    },
}

impl Keeper {
    /// Finds the keeper among a process's ancestors. What lives in the container itself is never taken
    /// for it.
    pub fn of(pid: u32, container_id: &str) -> Option<Self> {
        let mut pid = pid;
        for _ in 0..ANCESTORS_MAX {
            let facts = ProcessFacts::read(pid).ok()?;
            let is_inside = facts.container.is_some_and(|it| it.id == container_id);
            if !is_inside {
                let arguments = read(Path::new(&format!("/proc/{pid}/cmdline")))?;
                return Self::parse(pid, &arguments);
            }
            pid = facts.parent;
        }
        None
    }

    fn parse(pid: u32, arguments: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(arguments);
        let words: Vec<&str> = text.split('\0').collect();
        let program = words.first()?.rsplit('/').next()?;
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).map(|word| (*word).to_owned())
        };
        if program == "conmon" || program == "conmonrs" {
            return Some(Self::Conmon {
                pid,
                name: after("-n"),
            });
        }
        program.starts_with("containerd-shim").then(|| Self::Shim {
            pid,
            address: after("-address"),
        })
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Conmon { pid, .. } | Self::Shim { pid, .. } => *pid,
        }
    }
}

/// Where the runtime of a container may listen: first where its keeper says, as it sees it.
pub fn cri_sockets(keeper: Option<&Keeper>) -> Vec<PathBuf> {
    let told = match keeper {
        Some(Keeper::Shim {
            pid,
            address: Some(address),
        }) => Some(inside(&format!("/proc/{pid}/root"), address)),
        _ => None,
    };
    let known = CRI_SOCKETS.iter().map(|path| inside(HOST_ROOT, path));
    let is_socket = |path: &PathBuf| fs::metadata(path).is_ok_and(|it| it.file_type().is_socket());
    told.into_iter().chain(known).filter(is_socket).collect()
}

fn inside(root: &str, path: &str) -> PathBuf {
    Path::new(root).join(path.trim_start_matches('/'))
}

/// What the runtime's files tell of a container.
pub fn names(keeper: Option<&Keeper>, container: &Container) -> Option<ContainerNames> {
    let id = &container.id;
    let bundle = match keeper {
        // A shim works in the directory of the pod's first container, beside the others'.
        Some(Keeper::Shim { pid, .. }) => read_bundle(&format!("/proc/{pid}/cwd/../{id}")),
        Some(keeper @ Keeper::Conmon { .. }) => {
            let pid = keeper.pid();
            read_bundle(&format!("/proc/{pid}/cwd"))
        }
        None => None,
    };
    let bundle = bundle
        .or_else(|| {
            let task = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
            read_bundle(&format!("{HOST_ROOT}/{task}/{id}"))
        })
        .or_else(|| {
            let storage = "run/containers/storage/overlay-containers";
            read_bundle(&format!("{HOST_ROOT}/{storage}/{id}/userdata"))
        })
        .unwrap_or_default();
    let mut names = from_annotations(&bundle.annotations);
    if let (Some(Keeper::Conmon { name, .. }), None) = (keeper, &names.name) {
        names.name.clone_from(name);
        if names.pod.is_none() {
            names.runtime = Some(ContainerRuntime::Podman);
        }
    }
    if names.name.is_none() {
        let config = format!("{HOST_ROOT}/var/lib/docker/containers/{id}/config.v2.json");
        if let Some(docker) = read(Path::new(&config)).and_then(|text| from_docker(&text)) {
            names = docker;
        }
    }
    (names.name.is_some() || names.pod.is_some()).then_some(names)
}

/// The part of the OCI runtime's `config.json` that matters.
#[derive(Default, Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn read_bundle(directory: &str) -> Option<Bundle> {
    let text = read(&Path::new(directory).join("config.json"))?;
    serde_json::from_slice(&text).ok()
}

/// Reads the names that containerd, CRI-O and nerdctl write beside each container.
fn from_annotations(annotations: &BTreeMap<String, String>) -> ContainerNames {
    let first = |keys: &[&str]| keys.iter().find_map(|key| annotations.get(*key)).cloned();
    let pod = first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let pod = pod.map(|name| Pod {
        name,
        namespace: first(&[
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.pod.namespace",
        ])
        .unwrap_or_default(),
        uid: first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]).unwrap_or_default(),
        // CRI-O writes the pod's labels down, as JSON in a string.
        labels: first(&["io.kubernetes.cri-o.Labels"])
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
    });
    let runtime = match annotations.keys().next() {
        _ if annotations.contains_key("io.kubernetes.cri-o.ContainerID") => {
            Some(ContainerRuntime::CriO)
        }
        _ if annotations.contains_key("io.kubernetes.cri.container-type") => {
            Some(ContainerRuntime::Containerd)
        }
        _ => None,
    };
    ContainerNames {
        name: first(&[
            "io.kubernetes.cri.container-name",
            "io.kubernetes.container.name",
            "nerdctl/name",
        ]),
        runtime,
        pod,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    name: String,
    config: DockerSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerSettings {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// Reads Docker's own description of a container; below Kubernetes its labels name the pod.
fn from_docker(text: &[u8]) -> Option<ContainerNames> {
    let docker: DockerConfig = serde_json::from_slice(text).ok()?;
    let mut names = from_annotations(&docker.config.labels.unwrap_or_default());
    let own = docker.name.trim_start_matches('/');
    names.name.get_or_insert_with(|| own.to_owned());
    names.runtime = Some(ContainerRuntime::Docker);
    Some(names)
}

/// Reads a file of a runtime's, up to a limit.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(names: &ContainerNames) -> String {
        let pod = names.pod.as_ref();
        let pod = pod.map(|pod| format!(" {}/{} {}", pod.namespace, pod.name, pod.uid));
        format!(
            "{} {}{}",
            names.name.as_deref().unwrap_or("-"),
            names.runtime.map_or("-", ContainerRuntime::as_str),
            pod.unwrap_or_default()
        )
    }

    /// Each runtime's own annotations are read; what names nothing stays without a name.
    #[test]
    fn annotations() {
        let check = |json: &str, expected: &str| {
            let bundle: Bundle = serde_json::from_str(json).unwrap();
            assert_eq!(show(&from_annotations(&bundle.annotations)), expected);
        };
        check(
            r#"{"ociVersion":"1.0.2","annotations":{"io.kubernetes.cri.container-type":"container",
                "io.kubernetes.cri.container-name":"cart","io.kubernetes.cri.sandbox-name":"cart-0",
                "io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"u"}}"#,
            "cart containerd shop/cart-0 u",
        );
        check(
            r#"{"annotations":{"io.kubernetes.cri-o.ContainerID":"x","io.kubernetes.container.name":"cart",
                "io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop",
                "io.kubernetes.pod.uid":"u"}}"#,
            "cart cri-o shop/cart-0 u",
        );
        check(r#"{"annotations":{"nerdctl/name":"web"}}"#, "web -");
        check(r#"{"ociVersion":"1.0.2"}"#, "- -");
    }

    /// Docker's file names the container, and its pod where a kubelet is above.
    #[test]
    fn docker() {
        let check = |json: &str, expected: &str| {
            let names = from_docker(json.as_bytes());
            assert_eq!(names.map_or("none".to_owned(), |it| show(&it)), expected);
        };
        check(r#"{"Name":"/web","Config":{"Labels":null}}"#, "web docker");
        check(
            r#"{"Name":"/k8s_cart_0","Config":{"Labels":{"io.kubernetes.container.name":"cart",
                "io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop"}}}"#,
            "cart docker shop/cart-0 ",
        );
        check("{}", "none");
    }

    /// Keepers are told by their program, and their arguments by what comes after.
    #[test]
    fn keepers() {
        let parse = |line: &str| Keeper::parse(7, line.replace(' ', "\0").as_bytes());
        assert_eq!(
            parse("/usr/bin/conmon --api-version 1 -c abc -u abc -n leaker"),
            Some(Keeper::Conmon {
                pid: 7,
                name: Some("leaker".to_owned())
            })
        );
        assert_eq!(
            parse("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id x -address /run/c.sock"),
            Some(Keeper::Shim {
                pid: 7,
                address: Some("/run/c.sock".to_owned())
            })
        );
        assert_eq!(parse("/sbin/init -n leaker"), None);
        assert_eq!(parse(""), None);
    }
}
