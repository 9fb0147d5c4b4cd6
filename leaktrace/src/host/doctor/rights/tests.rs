//! Owns the tests of `rights`.
//! Must not know anything of the machine that they run on.

use super::*;
use crate::host::doctor::Outcome;

const ROOT: Capabilities = Capabilities(u64::MAX);
const NOBODY: Capabilities = Capabilities(0);

/// `ok`, `degraded` or `refused`.
#[track_caller]
fn check(found: &Check, expected: &str) {
    let word = match found.outcome {
        Outcome::Ok(_) => "ok",
        Outcome::Degraded { .. } => "degraded",
        Outcome::Refused { .. } => "refused",
    };
    assert_eq!(word, expected, "{found:?}");
}

fn holding(capabilities: &[Capability]) -> OwnStatus {
    let mask = capabilities
        .iter()
        .fold(0, |mask, capability| mask | 1 << *capability as u32);
    OwnStatus {
        capabilities: Capabilities(mask),
        seccomp_filter: false,
        own_users: false,
    }
}

/// The effective set is decoded, and odd text holds nothing.
#[test]
fn status() {
    let status = OwnStatus::parse("Name:\tx\nCapPrm:\t0\nCapEff:\t000001fffeffffff\nSeccomp:\t2\n");
    assert!(status.seccomp_filter);
    assert!(!status.capabilities.has(Capability::SysResource));
    assert_eq!(status.capabilities.names(false), "SYS_RESOURCE");
    assert_eq!(OwnStatus::parse("CapEff:\tx\n"), OwnStatus::default());
}

/// CAP_SYS_ADMIN or the newer pair is needed; looking at others is not.
#[test]
fn which_capabilities_are_needed() {
    use Capability::{Bpf, CheckpointRestore, Perfmon, SysAdmin, SysPtrace};
    for (held, expected) in [
        (vec![], "refused"),
        (vec![SysPtrace], "refused"),
        (vec![Bpf], "refused"),
        (vec![Bpf, Perfmon], "degraded"),
        (vec![Bpf, Perfmon, SysPtrace], "degraded"),
        (vec![Bpf, Perfmon, SysPtrace, CheckpointRestore], "ok"),
        (vec![SysAdmin], "degraded"),
        (vec![SysAdmin, SysPtrace], "ok"),
    ] {
        check(&capabilities(&holding(&held)), expected);
    }
    let rootless = OwnStatus {
        own_users: true,
        ..holding(&Capability::ALL)
    };
    check(&capabilities(&rootless), "refused");
}

/// Each setting, as it is found on real machines.
#[test]
fn each_setting() {
    check(&paranoid(Some("4"), ROOT), "ok");
    check(&paranoid(Some("2"), NOBODY), "degraded");
    check(&paranoid(None, ROOT), "refused");
    check(&compiler(Some("0")), "degraded");
    check(&compiler(Some("2")), "ok");
    check(&compiler(None), "ok");
    check(&lockdown(Some("none [integrity] confidentiality")), "ok");
    check(
        &lockdown(Some("none integrity [confidentiality]")),
        "refused",
    );
    check(&lockdown(Some("")), "ok");
    check(&ptrace_scope(Some("1")), "ok");
    check(&ptrace_scope(Some("3")), "degraded");
    check(&open_files(1024), "degraded");
    check(&open_files(u64::MAX), "ok");
    check(&pid_namespace(Some(INITIAL_PID_NAMESPACE)), "ok");
    check(&pid_namespace(Some("pid:[4026532201]")), "refused");
    check(&pid_namespace(None), "refused");
    check(&time_namespace(Some("time:[4026532201]")), "degraded");
    check(&time_namespace(None), "ok");
}

/// Locked memory matters before 5.11 only.
#[test]
fn locked_memory_by_release() {
    check(
        &locked_memory("5.10.0-46-cloud-amd64", 8 << 20, NOBODY),
        "refused",
    );
    check(&locked_memory("5.10.0-46-cloud-amd64", 8 << 20, ROOT), "ok");
    check(&locked_memory("5.10.0", u64::MAX, NOBODY), "ok");
    check(&locked_memory("5.11-rc1", 0, NOBODY), "ok");
    check(&locked_memory("6.1", 0, NOBODY), "ok");
    assert_eq!(version("odd"), (0, 0));
    assert_eq!(version(""), (0, 0));
}

/// Hidden processes count for those who lack the right to see them.
#[test]
fn hidden() {
    let mounts = |options: &str| {
        format!("22 27 0:21 / /proc rw,relatime - proc proc rw{options}\n28 27 8:1 / / rw - ext4")
    };
    check(&hidden_processes(&mounts(""), NOBODY), "ok");
    check(&hidden_processes(&mounts(",hidepid=0"), NOBODY), "ok");
    check(
        &hidden_processes(&mounts(",hidepid=invisible"), NOBODY),
        "degraded",
    );
    check(&hidden_processes(&mounts(",hidepid=2"), ROOT), "ok");
    check(&hidden_processes(&mounts(",subset=pid"), ROOT), "degraded");
    check(&hidden_processes("", NOBODY), "ok");
}
