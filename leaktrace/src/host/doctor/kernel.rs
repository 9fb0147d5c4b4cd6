//! Owns the checks of what the kernel can do, made by asking it to do so.
//! Must not know what each feature is used for, beyond what its absence costs.

use std::{env::consts, error::Error, fs, io, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{
        BpfHelper, UProbeMultiFeature, is_helper_supported, is_map_supported,
        is_perf_link_supported, is_program_supported, is_uprobe_multi_supported,
    },
};
use nix::sys::utsname::uname;

use super::{
    Check,
    rights::{Capabilities, Capability},
};

const UPROBE_PMU: &str = "/sys/bus/event_source/devices/uprobe/type";

/// Where tracefs may be mounted; the second place is what old tools use.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

const MORE_RIGHTS: &str = "run as root; in a container: privileged, or CAP_SYS_ADMIN (or CAP_BPF \
                           and CAP_PERFMON) with a seccomp profile that allows bpf";

/// The kernel's name and release.
pub(super) fn release() -> Check {
    const NAME: &str = "kernel";
    match uname() {
        Ok(name) if name.sysname() == "Linux" => {
            Check::ok(NAME, format!("Linux {}", name.release().to_string_lossy()))
        }
        _ => Check::refused(
            NAME,
            format!("{} is not Linux", consts::OS),
            "run it on Linux",
        ),
    }
}

/// The processor. Probe places are chosen by disassembling x86-64.
pub(super) fn architecture() -> Check {
    const NAME: &str = "architecture";
    match consts::ARCH {
        "x86_64" => Check::ok(NAME, "x86-64"),
        other => Check::refused(
            NAME,
            format!("{other} is not supported"),
            "use an x86-64 host",
        ),
    }
}

/// Whether probes of one process can be attached by `uprobe_multi`, which asks for no `SYS_ADMIN`.
pub(super) fn has_multi() -> bool {
    is_uprobe_multi_supported(UProbeMultiFeature::ProcessScopedPidFilter).is_ok_and(|has| has)
}

/// Everything that a probe goes through on its way to the agent.
pub(super) fn features(capabilities: &Capabilities) -> Vec<Check> {
    let multi = is_uprobe_multi_supported(UProbeMultiFeature::ProcessScopedPidFilter);
    let perf_probe = Path::new(UPROBE_PMU).exists();
    vec![
        ring_buffer(),
        programs(),
        probes(
            multi.as_ref().is_ok_and(|yes| *yes),
            perf_probe,
            capabilities,
        ),
        uprobe_multi(&multi),
        attach_cookie(),
        tracepoints(capabilities),
        type_information(),
    ]
}

fn ring_buffer() -> Check {
    const NAME: &str = "ring buffer";
    match is_map_supported(MapType::RingBuf) {
        Ok(true) => Check::ok(NAME, "made one"),
        Ok(false) => Check::refused(NAME, "this kernel has none", "Linux 5.8 or later"),
        Err(error) => Check::refused(NAME, refusal(&error.io_error), MORE_RIGHTS),
    }
}

fn programs() -> Check {
    const NAME: &str = "BPF programs";
    match is_program_supported(ProgramType::KProbe) {
        Ok(true) => Check::ok(NAME, "loaded one"),
        // The kernel answers EPERM and EINVAL alike to some callers.
        Ok(false) => Check::refused(NAME, "this kernel loads no probe program", MORE_RIGHTS),
        Err(error) => Check::refused(NAME, cause(&error), MORE_RIGHTS),
    }
}

/// There are two ways to put a probe into a program; one is enough.
fn probes(multi: bool, perf: bool, capabilities: &Capabilities) -> Check {
    const NAME: &str = "user probes";
    // Stable kernels ask for CAP_SYS_ADMIN here since their fixes of 2024.
    let admin = capabilities.has(Capability::SysAdmin);
    match (multi, perf && admin, perf) {
        (true, true, _) => Check::ok(NAME, "by uprobe_multi links and by perf events"),
        (true, false, _) => Check::ok(NAME, "by uprobe_multi links"),
        (false, true, _) => Check::ok(NAME, "by perf events"),
        (false, false, true) => {
            let what = "perf events need CAP_SYS_ADMIN, and uprobe_multi links do not work";
            Check::refused(NAME, what, MORE_RIGHTS)
        }
        (false, false, false) => {
            let what = format!("no uprobe_multi link, and no {UPROBE_PMU}");
            Check::refused(
                NAME,
                what,
                "a kernel with CONFIG_UPROBE_EVENTS, with /sys mounted",
            )
        }
    }
}

fn uprobe_multi(tried: &io::Result<bool>) -> Check {
    const NAME: &str = "uprobe_multi";
    match tried {
        Ok(true) => Check::ok(NAME, "linked one, scoped to a process"),
        Ok(false) => {
            let what = "this kernel has none that is scoped to a process, so each probe is \
                        attached by itself";
            Check::degraded(NAME, what, "Linux 6.6 with its fixes, or later")
        }
        Err(error) => Check::degraded(NAME, refusal(error), MORE_RIGHTS),
    }
}

fn attach_cookie() -> Check {
    const NAME: &str = "attach cookie";
    let helper = is_helper_supported(ProgramType::KProbe, BpfHelper::BPF_FUNC_get_attach_cookie);
    match (is_perf_link_supported(), helper) {
        (Ok(true), Ok(true)) => Check::ok(NAME, "linked a perf event, and the helper is there"),
        (Ok(_), Ok(_)) => {
            let what = "this kernel has none, and the probes need it to tell calls apart";
            Check::refused(NAME, what, "Linux 5.15 or later")
        }
        (Err(error), _) => Check::degraded(NAME, refusal(&error), MORE_RIGHTS),
        (_, Err(error)) => Check::degraded(NAME, cause(&error), MORE_RIGHTS),
    }
}

fn tracepoints(capabilities: &Capabilities) -> Check {
    const NAME: &str = "tracepoints";
    for place in TRACEFS {
        match fs::read_to_string(format!("{place}/events/sched/sched_process_exit/id")) {
            Ok(id) => return Check::ok(NAME, format!("{place}, exit is {}", id.trim())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Check::refused(NAME, format!("{place}: {}", refusal(&error)), MORE_RIGHTS);
            }
        }
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
        .lines()
        .any(|line| line.trim_end().ends_with("\ttracefs"))
    {
        if capabilities.has(Capability::SysAdmin) {
            return Check::ok(
                NAME,
                "tracefs is not mounted; a trace mounts it for itself alone",
            );
        }
        let what = format!("no tracefs at {}", TRACEFS.join(" or "));
        let remedy = format!("mount -t tracefs tracefs {}", TRACEFS[0]);
        return Check::refused(NAME, what, remedy);
    }
    Check::refused(
        NAME,
        "this kernel has no tracefs",
        "a kernel with CONFIG_FTRACE",
    )
}

fn type_information() -> Check {
    let present = Path::new("/sys/kernel/btf/vmlinux").exists();
    Check::ok(
        "BTF",
        if present {
            "present"
        } else {
            "absent, not needed"
        },
    )
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "the kernel does not permit it".to_owned(),
        _ => one_line(&error.to_string()),
    }
}

/// The kernel's own word, which comes last in a chain of errors.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    match last.downcast_ref::<io::Error>() {
        Some(error) => refusal(error),
        None => one_line(&last.to_string()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Outcome;

    /// One of the two ways is enough, and perf events need CAP_SYS_ADMIN.
    #[test]
    fn one_way_is_enough() {
        let (admin, nobody) = (Capabilities::from_mask(1 << 21), Capabilities::from_mask(0));
        for (multi, perf, capabilities, refused) in [
            (true, true, &admin, false),
            (true, false, &nobody, false),
            (false, true, &admin, false),
            (false, true, &nobody, true),
            (false, false, &admin, true),
        ] {
            assert_eq!(probes(multi, perf, capabilities).is_refused(), refused);
        }
    }

    /// Without links of many the probes still work, one by one.
    #[test]
    fn no_multi_links() {
        for tried in [
            Ok(false),
            Err(io::Error::from(io::ErrorKind::PermissionDenied)),
        ] {
            assert!(matches!(
                uprobe_multi(&tried).outcome,
                Outcome::Degraded { .. }
            ));
        }
    }
}
