//! Owns the checks of what this process may do: capabilities, limits, namespaces, settings.
//! Must not know BPF.

use std::{fs, io::Read as _, path::Path};

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        utsname::uname,
    },
    unistd::geteuid,
};

use super::Check;

/// Settings and lists of mounts are short.
const READ_LIMIT: u64 = 1 << 20;

/// Descriptors for probes, programs' files and rings on a busy host.
const DESCRIPTORS: u64 = 4096;

/// The initial namespaces have fixed numbers: `include/linux/proc_ns.h`.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";
const INITIAL_TIME_NAMESPACE: &str = "time:[4026531834]";

/// The capabilities that matter here, by their number in
/// `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    DacOverride = 1,
    DacReadSearch = 2,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    Perfmon = 38,
    Bpf = 39,
    CheckpointRestore = 40,
}

impl Capability {
    const ALL: [Self; 6] = [
        Self::SysPtrace,
        Self::SysAdmin,
        Self::SysResource,
        Self::Perfmon,
        Self::Bpf,
        Self::CheckpointRestore,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::DacOverride => "DAC_OVERRIDE",
            Self::DacReadSearch => "DAC_READ_SEARCH",
            Self::SysPtrace => "SYS_PTRACE",
            Self::SysAdmin => "SYS_ADMIN",
            Self::SysResource => "SYS_RESOURCE",
            Self::Perfmon => "PERFMON",
            Self::Bpf => "BPF",
            Self::CheckpointRestore => "CHECKPOINT_RESTORE",
        }
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    #[cfg(test)]
    pub(super) const fn from_mask(mask: u64) -> Self {
        Self(mask)
    }

    /// Whether one is in the set.
    pub(super) const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }

    fn names(self, present: bool) -> String {
        let names: Vec<&str> = Capability::ALL
            .into_iter()
            .filter(|capability| self.has(*capability) == present)
            .map(Capability::name)
            .collect();
        names.join(" ")
    }
}

/// What `/proc/self/status` says about us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnStatus {
    /// The effective set; empty in a user namespace, where it counts for nothing.
    pub(super) capabilities: Capabilities,
    seccomp_filter: bool,
    own_users: bool,
}

impl OwnStatus {
    pub(super) fn read() -> Self {
        let status = Self::parse(&read("/proc/self/status").unwrap_or_default());
        match link("/proc/self/ns/user") {
            Some(text) if text != INITIAL_USER_NAMESPACE => Self {
                capabilities: Capabilities::default(),
                own_users: true,
                ..status
            },
            _ => status,
        }
    }

    fn parse(text: &str) -> Self {
        let field = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map_or("", str::trim)
        };
        Self {
            capabilities: Capabilities(u64::from_str_radix(field("CapEff:"), 16).unwrap_or(0)),
            seccomp_filter: field("Seccomp:") == "2",
            own_users: false,
        }
    }
}

/// Who we are and what we hold.
pub(super) fn capabilities(status: &OwnStatus) -> Check {
    const NAME: &str = "capabilities";
    let (held, uid) = (status.capabilities, geteuid());
    let enough = held.has(Capability::SysAdmin)
        || (held.has(Capability::Bpf) && held.has(Capability::Perfmon));
    let seccomp = if status.seccomp_filter {
        ", under a seccomp filter"
    } else {
        ""
    };
    if status.own_users {
        let what = "in a user namespace, whose capabilities do not count for BPF";
        return Check::refused(NAME, what, "run as the host's root, not rootless");
    }
    if !enough {
        let what = format!("uid {uid}{seccomp}, without {}", held.names(false));
        let remedy = "run as root (sudo); in a container: privileged, or add CAP_SYS_ADMIN and \
                      CAP_SYS_PTRACE";
        return Check::refused(NAME, what, remedy);
    }
    // CAP_SYS_ADMIN includes reading /proc/PID/map_files, but not other users' memory maps.
    let files = held.has(Capability::SysAdmin) || held.has(Capability::CheckpointRestore);
    if !held.has(Capability::SysPtrace) || !files {
        let what = format!(
            "uid {uid}{seccomp}, without {}: other users' programs cannot be looked at",
            held.names(false)
        );
        let remedy = "add CAP_SYS_PTRACE, and CAP_CHECKPOINT_RESTORE unless CAP_SYS_ADMIN is there";
        return Check::degraded(NAME, what, remedy);
    }
    Check::ok(
        NAME,
        format!("uid {uid}{seccomp}, with {}", held.names(true)),
    )
}

/// Everything that an administrator may have set.
pub(super) fn settings(status: &OwnStatus) -> Vec<Check> {
    let held = status.capabilities;
    let kernel = uname().map(|name| name.release().to_string_lossy().into_owned());
    let memlock = getrlimit(Resource::RLIMIT_MEMLOCK).map(|(soft, _)| soft);
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map(|(_, hard)| hard);
    vec![
        paranoid(
            setting("/proc/sys/kernel/perf_event_paranoid").as_deref(),
            held,
        ),
        compiler(setting("/proc/sys/net/core/bpf_jit_enable").as_deref()),
        lockdown(setting("/sys/kernel/security/lockdown").as_deref()),
        ptrace_scope(setting("/proc/sys/kernel/yama/ptrace_scope").as_deref()),
        locked_memory(
            &kernel.unwrap_or_default(),
            memlock.unwrap_or(u64::MAX),
            held,
        ),
        open_files(descriptors.unwrap_or(u64::MAX)),
        hidden_processes(&read("/proc/self/mountinfo").unwrap_or_default(), held),
        pid_namespace(link("/proc/self/ns/pid").as_deref()),
        time_namespace(link("/proc/self/ns/time").as_deref()),
    ]
}

fn paranoid(value: Option<&str>, held: Capabilities) -> Check {
    const NAME: &str = "perf_event_paranoid";
    let exempt = held.has(Capability::Perfmon) || held.has(Capability::SysAdmin);
    match value {
        None => Check::refused(
            NAME,
            "no perf events",
            "a kernel with CONFIG_PERF_EVENTS, /proc mounted",
        ),
        Some(value) if exempt => Check::ok(NAME, format!("{value}, does not bind us")),
        Some(value) => Check::degraded(
            NAME,
            format!("{value} binds us"),
            "run with CAP_PERFMON or as root",
        ),
    }
}

fn compiler(value: Option<&str>) -> Check {
    const NAME: &str = "BPF JIT";
    match value {
        Some("0") => {
            let what = "off, so probes are interpreted and cost several times as much";
            Check::degraded(NAME, what, "sysctl net.core.bpf_jit_enable=1")
        }
        Some(_) => Check::ok(NAME, "on"),
        // Only the host's network namespace shows it.
        None => Check::ok(NAME, "not shown here"),
    }
}

fn lockdown(value: Option<&str>) -> Check {
    const NAME: &str = "lockdown";
    match value {
        None => Check::ok(NAME, "none"),
        Some(value) if value.contains("[confidentiality]") => {
            let what = "confidentiality: no tracefs, and BPF reads no kernel memory";
            Check::refused(
                NAME,
                what,
                "boot with lockdown=integrity or without lockdown",
            )
        }
        Some(value) => {
            let mode = value.split(['[', ']']).nth(1).unwrap_or("unknown");
            Check::ok(NAME, mode)
        }
    }
}

fn ptrace_scope(value: Option<&str>) -> Check {
    const NAME: &str = "ptrace_scope";
    match value {
        None => Check::ok(NAME, "no Yama"),
        Some("3") => {
            let what = "3: nobody may ptrace, so children of `-- COMMAND` are reached late";
            Check::degraded(NAME, what, "boot with another kernel.yama.ptrace_scope")
        }
        // A process may always trace what it has started itself, and root anything.
        Some(value) => Check::ok(NAME, value),
    }
}

/// Kernels before 5.11 charge maps to the locked memory of the user.
fn locked_memory(release: &str, limit_bytes: u64, held: Capabilities) -> Check {
    const NAME: &str = "locked memory";
    if version(release) >= (5, 11) {
        return Check::ok(NAME, "not limited for BPF since Linux 5.11");
    }
    if limit_bytes >= 1 << 30 || held.has(Capability::SysResource) {
        return Check::ok(NAME, "enough, or may be raised");
    }
    let what = format!("{limit_bytes} bytes, and BPF maps count");
    Check::refused(NAME, what, "ulimit -l unlimited, or add CAP_SYS_RESOURCE")
}

fn open_files(hard_limit: u64) -> Check {
    const NAME: &str = "open files";
    if hard_limit >= DESCRIPTORS {
        return Check::ok(NAME, format!("up to {hard_limit}"));
    }
    let what = format!("up to {hard_limit}, and each probe takes one");
    Check::degraded(NAME, what, "ulimit -n 65536")
}

fn hidden_processes(mountinfo: &str, held: Capabilities) -> Check {
    const NAME: &str = "/proc";
    let options = proc_options(mountinfo);
    let option = |key: &str| options.iter().find_map(|option| option.strip_prefix(key));
    let hidden = option("hidepid=").filter(|value| !matches!(*value, "0" | "off"));
    if option("subset=") == Some("pid") {
        let what = "mounted with subset=pid: the kernel's settings are not there";
        return Check::degraded(NAME, what, "mount -t proc proc /proc");
    }
    match hidden {
        // hidepid=ptraceable asks for ptrace rights too, and CAP_SYS_PTRACE has them.
        Some(value) if !held.has(Capability::SysPtrace) => {
            let what = format!("hidepid={value} hides other users' processes");
            Check::degraded(
                NAME,
                what,
                "add CAP_SYS_PTRACE, or mount -o remount,hidepid=0 /proc",
            )
        }
        _ => Check::ok(NAME, "shows all processes"),
    }
}

/// The options of what is mounted on `/proc`, in the text of `mountinfo`.
fn proc_options(mountinfo: &str) -> Vec<&str> {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/proc"));
    let fields = line.into_iter().flat_map(|line| line.split(' '));
    fields.flat_map(|field| field.split(',')).collect()
}

fn pid_namespace(text: Option<&str>) -> Check {
    const NAME: &str = "pid namespace";
    match text {
        Some(INITIAL_PID_NAMESPACE) => Check::ok(NAME, "the host's"),
        _ => {
            let what = "not the host's: BPF tells the host's pids, which mean nothing here";
            Check::refused(
                NAME,
                what,
                "hostPID: true in the pod, or docker run --pid=host",
            )
        }
    }
}

fn time_namespace(text: Option<&str>) -> Check {
    const NAME: &str = "time namespace";
    match text {
        None => Check::ok(NAME, "none"),
        Some(INITIAL_TIME_NAMESPACE) => Check::ok(NAME, "the host's"),
        Some(_) => {
            let what = "not the host's: the ages of blocks may be wrong";
            Check::degraded(NAME, what, "run outside `unshare --time`")
        }
    }
}

/// Major and minor number; (0, 0) where the text is no release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn setting(path: &str) -> Option<String> {
    read(path).map(|text| text.trim().to_owned())
}

fn read(path: &str) -> Option<String> {
    let mut text = Vec::new();
    fs::File::open(path)
        .ok()?
        .take(READ_LIMIT)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn link(path: &str) -> Option<String> {
    fs::read_link(Path::new(path))
        .ok()?
        .to_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
