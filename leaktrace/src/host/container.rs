//! Owns how a container and its pod are recognised in the text of `/proc/PID/cgroup`.
//! Must not know files, runtimes' sockets, or what anything is called.

/// The program that manages a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerRuntime {
    /// Docker's engine.
    Docker,
    /// containerd, by CRI or by nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman and whatever else uses libpod.
    Podman,
}

impl ContainerRuntime {
    /// The name that reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
        }
    }
}

/// The container that a process runs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// The full id: 64 lower-case hex digits.
    pub id: String,
    /// The runtime, where the cgroup's name tells it. Kubernetes' cgroupfs
    /// driver names the cgroup by the bare id, whichever runtime is below.
    pub runtime: Option<ContainerRuntime>,
    /// The uid of its Kubernetes pod, with dashes as Kubernetes writes it; a static pod's is
    /// 32 digits without any.
    pub pod_uid: Option<String>,
}

/// A pod's uid is a UUID, or the MD5 of a static pod's manifest.
const UUID_LEN: usize = 36;
const STATIC_UID_LEN: usize = 32;

/// Every runtime names its cgroups by a SHA-256 or by as many random digits.
const ID_LEN: usize = 64;

/// Finds the container in the text of `/proc/PID/cgroup`, on cgroup v1, v2 and
/// both at once.
///
/// The innermost container of a path wins, so that a process in Docker in
/// Docker gets the id that its own engine knows it by. On v1 the controllers
/// may sit in different cgroups: the first line that names a container counts.
pub fn parse_cgroup(text: &str) -> Option<Container> {
    text.lines().find_map(|line| {
        // hierarchy-ID:controller-list:path, and the path may hold colons itself.
        let path = line.splitn(3, ':').nth(2)?;
        parse_path(path.strip_suffix(" (deleted)").unwrap_or(path))
    })
}

fn parse_path(path: &str) -> Option<Container> {
    let mut found = None;
    let (mut parent, mut pod) = ("", None);
    for segment in path.split('/') {
        pod = parse_pod(segment).or(pod);
        if let Some(container) = parse_segment(segment, parent) {
            found = Some(Container {
                pod_uid: pod.take(),
                ..container
            });
        }
        parent = segment;
    }
    found
}

/// Reads the pod's uid from `podUID`, as the cgroupfs driver names it, or from
/// `kubepods-burstable-podUID.slice` with underscores, as the systemd driver does; the latter also as
/// the beginning of a container's own name. Seen from a cgroup namespace, `kubepods` may be cut off.
fn parse_pod(segment: &str) -> Option<String> {
    let name = segment.split(':').next().unwrap_or(segment);
    let (name, separator) = match name.strip_suffix(".slice") {
        Some(slice) => (slice.strip_prefix("kubepods")?, '_'),
        None => (name, '-'),
    };
    let uid = name.rsplit_once("pod")?;
    let uid = match (separator, uid) {
        ('-', ("", uid)) => uid,
        ('_', (before, uid)) if before.ends_with('-') => uid,
        _ => return None,
    };
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_uid = match uid.len() {
        UUID_LEN => uid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == separator as u8,
            _ => is_hex(byte),
        }),
        STATIC_UID_LEN => uid.bytes().all(is_hex),
        _ => false,
    };
    is_uid.then(|| uid.replace('_', "-"))
}

/// Reads one directory name: `ID`, `PREFIX-ID`, `PREFIX-ID.scope`, or
/// `SLICE:PREFIX:ID`, which runc makes when kubelet uses the systemd driver and
/// containerd does not.
fn parse_segment(segment: &str, parent: &str) -> Option<Container> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let split = name.len().checked_sub(ID_LEN)?;
    let (prefix, id) = (name.get(..split)?, name.get(split..)?);
    if !id
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    let prefix = if prefix.is_empty() {
        ""
    } else {
        let prefix = prefix.strip_suffix(['-', ':'])?;
        prefix.rsplit(':').next().unwrap_or(prefix)
    };
    // These are the programs that watch over a container from outside.
    if prefix.ends_with("conmon") {
        return None;
    }
    let runtime = match (prefix, parent) {
        ("docker", _) | ("", "docker") => Some(ContainerRuntime::Docker),
        ("cri-containerd" | "nerdctl", _) => Some(ContainerRuntime::Containerd),
        ("crio", _) => Some(ContainerRuntime::CriO),
        ("libpod", _) => Some(ContainerRuntime::Podman),
        _ => None,
    };
    Some(Container {
        id: id.to_owned(),
        runtime,
        pod_uid: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3f4d8a3b1e2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6";
    const B: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    /// `A` and `B` in the text stand for the two ids; the answer is `ID runtime`, and the pod's uid.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let fill = |text: &str| text.replace("{A}", A).replace("{B}", B);
        let found = match parse_cgroup(&fill(text)) {
            Some(container) => {
                let runtime = container.runtime.map_or("?", ContainerRuntime::as_str);
                let pod = container.pod_uid.map(|uid| format!(" {uid}"));
                format!("{} {runtime}{}", container.id, pod.unwrap_or_default())
            }
            None => "none".to_owned(),
        };
        assert_eq!(found, fill(expected), "{text}");
    }

    /// Docker, with both cgroup drivers, on v1 and v2.
    #[test]
    fn docker() {
        check("0::/system.slice/docker-{A}.scope\n", "{A} docker");
        check(
            "12:cpuset:/docker/{A}\n11:memory:/docker/{A}\n0::/docker/{A}\n",
            "{A} docker",
        );
        check("0::/docker/{A}/docker/{B}\n", "{B} docker");
        check("0::/docker/{A}/init.scope\n", "{A} docker");
    }

    /// containerd below Kubernetes, with both drivers and with them mixed up.
    #[test]
    fn containerd() {
        let uid = "0f3f2ad1-3f4d-4a3b-9e2c-4d5e6f708192";
        let slice = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        check(
            &format!(
                "0::/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{{A}}.scope"
            ),
            &format!("{{A}} containerd {uid}"),
        );
        check(
            &format!("0::/system.slice/containerd.service/{slice}:cri-containerd:{{A}}"),
            &format!("{{A}} containerd {uid}"),
        );
        let bare = format!("{{A}} ? {uid}");
        check(
            &format!("3:memory:/kubepods/burstable/pod{uid}/{{A}}\n0::/"),
            &bare,
        );
        check(&format!("0::/kubepods/besteffort/pod{uid}/{{A}}"), &bare);
        check(&format!("0::/kubepods/pod{uid}/{{A}}"), &bare);
        // From within the agent's own cgroup namespace.
        check(&format!("0::/../../pod{uid}/{{A}}"), &bare);
        check(
            &format!(
                "0::/kubelet.slice/kubepods.slice/kubepods-pod{}.slice/crio-{{A}}.scope",
                uid.replace('-', "_")
            ),
            &format!("{{A}} cri-o {uid}"),
        );
        check("0::/system.slice/nerdctl-{A}.scope", "{A} containerd");
    }

    /// A static pod's uid has no dashes and half as many digits as a container.
    #[test]
    fn static_pods() {
        check(
            "0::/kubepods/pod83d64a4116d5a5c747596bcab5805b96/{A}\n",
            "{A} ? 83d64a4116d5a5c747596bcab5805b96",
        );
        check("0::/kubepods/pod83d64a4116d5a5c747596bcab5805b96\n", "none");
    }

    /// CRI-O, and its monitor, which is no container.
    #[test]
    fn cri_o() {
        check(
            "0::/kubepods.slice/kubepods-podx.slice/crio-{A}.scope\n",
            "{A} cri-o",
        );
        check(
            "0::/kubepods.slice/kubepods-podx.slice/crio-{A}.scope/container\n",
            "{A} cri-o",
        );
        check("4:pids:/kubepods/pod1/crio-{A}\n", "{A} cri-o");
        check(
            "0::/kubepods.slice/kubepods-podx.slice/crio-conmon-{A}.scope\n",
            "none",
        );
    }

    /// Podman, rootful and rootless, its monitor, and its pods.
    #[test]
    fn podman() {
        check(
            "0::/machine.slice/libpod-{A}.scope/container\n",
            "{A} podman",
        );
        check(
            "10:memory:/libpod_parent/libpod-{A}\n0::/libpod_parent/libpod-{A}",
            "{A} podman",
        );
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope",
            "{A} podman",
        );
        check("0::/machine.slice/libpod-conmon-{A}.scope\n", "none");
        check(
            "0::/machine.slice/machine-libpod_pod_{A}.slice/libpod-{B}.scope",
            "{B} podman",
        );
    }

    /// Hybrid hosts have v1 lines and a v2 line; one that names it is enough.
    #[test]
    fn hybrid() {
        check(
            "2:cpu:/\n1:name=systemd:/docker/{A}\n0::/system.slice/x.service",
            "{A} docker",
        );
    }

    /// What is in no container says so, and what is odd does no harm.
    #[test]
    fn none_and_odd() {
        check("", "none");
        check("0::/\n", "none");
        check("0::/user.slice/user-0.slice/session-1.scope\n", "none");
        check("0::/system.slice/nginx.service", "none");
        check(":::::\n\n0\n0:", "none");
        check("0::/a:b/docker-{A}.scope (deleted)", "{A} docker");
        check("0::/docker/{A}f\n", "none");
        check("0::/docker/\u{e9}{A}\n", "none");
        check(&format!("0::/{}", "\u{20ac}".repeat(64)), "none");
    }

    /// What only looks like a pod is none, and a container within a pod's container is not the pod's.
    #[test]
    fn pods_are_no_guess() {
        check("0::/podcast/{A}", "{A} ?");
        check("0::/pod0f3f2ad1_3f4d_4a3b_9e2c_4d5e6f708192/{A}", "{A} ?");
        check(
            "0::/kubepods/pod0f3f2ad1-3f4d-4a3b-9e2c-4d5e6f708192/{A}/docker/{B}",
            "{B} docker",
        );
    }

    /// Upper-case digits are no id.
    #[test]
    fn upper_case_is_no_id() {
        assert_eq!(
            parse_cgroup(&format!("0::/docker/{}", A.to_uppercase())),
            None
        );
    }
}
