//! Owns what each capability is for, and what is missing without it, one check each.
//! Must not know how it is found out who holds what.

use super::{
    Check,
    rights::{Capabilities, Capability},
};

/// A capability that the agent uses.
struct Power {
    capability: Capability,
    name: &'static str,
    /// What is done with it.
    purpose: &'static str,
    /// What happens without it; `None` where nothing can be traced.
    loss: Option<&'static str>,
    /// One that allows the same.
    substitute: Option<Capability>,
}

/// All of them, but for `SYS_ADMIN`, which depends on the kernel.
const POWERS: [Power; 5] = [
    Power {
        capability: Capability::Bpf,
        name: "CAP_BPF",
        purpose: "loads the probes and their maps",
        loss: None,
        substitute: Some(Capability::SysAdmin),
    },
    Power {
        capability: Capability::Perfmon,
        name: "CAP_PERFMON",
        purpose: "attaches probes by uprobe_multi, and follows mappings, forks, execs and exits",
        loss: None,
        substitute: Some(Capability::SysAdmin),
    },
    Power {
        capability: Capability::SysPtrace,
        name: "CAP_SYS_PTRACE",
        purpose: "reads what other users' processes map, and Go programs' own profiles",
        loss: Some("other users' processes are not covered"),
        substitute: None,
    },
    Power {
        capability: Capability::CheckpointRestore,
        name: "CAP_CHECKPOINT_RESTORE",
        purpose: "opens mapped files by /proc/PID/map_files, whatever a path says",
        loss: Some("files of other mount namespaces, and deleted ones, are not found"),
        substitute: Some(Capability::SysAdmin),
    },
    Power {
        capability: Capability::DacReadSearch,
        name: "CAP_DAC_READ_SEARCH",
        purpose: "reads programs and directories that only their user may read",
        loss: Some("what only its user may read is not named, or not covered"),
        substitute: Some(Capability::DacOverride),
    },
];

/// A check for each capability; `has_multi` tells whether probes are attached without `SYS_ADMIN` here.
pub(super) fn each(held: Capabilities, has_multi: bool) -> Vec<Check> {
    let mut checks: Vec<Check> = POWERS.iter().map(|power| check(power, held)).collect();
    checks.push(administration(held, has_multi));
    checks
}

fn check(power: &Power, held: Capabilities) -> Check {
    let purpose = power.purpose;
    if held.has(power.capability) {
        return Check::ok(power.name, purpose);
    }
    if let Some(substitute) = power.substitute.filter(|it| held.has(*it)) {
        let detail = format!(
            "{purpose}; not held, but {} allows it too",
            substitute.name()
        );
        return Check::ok(power.name, detail);
    }
    let remedy = format!("add {}, or run as root", power.name);
    match power.loss {
        Some(loss) => Check::degraded(power.name, format!("not held: {loss}"), remedy),
        None => Check::refused(power.name, format!("not held: it {purpose}"), remedy),
    }
}

fn administration(held: Capabilities, has_multi: bool) -> Check {
    const NAME: &str = "CAP_SYS_ADMIN";
    match (held.has(Capability::SysAdmin), has_multi) {
        (true, true) => Check::ok(NAME, "held, and not needed: this kernel has uprobe_multi"),
        (false, true) => Check::ok(NAME, "not held, nor needed: this kernel has uprobe_multi"),
        (true, false) => Check::ok(NAME, "attaches probes by perf events, before Linux 6.6"),
        (false, false) => Check::refused(
            NAME,
            "not held: without uprobe_multi (Linux 6.6) the kernel asks for it to attach probes",
            "add CAP_SYS_ADMIN, or run as root",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Outcome;

    /// The words that stand before each capability, in order, for those that are held.
    #[track_caller]
    fn words(held: &[Capability], has_multi: bool, expected: &str) {
        let mask = held.iter().fold(0, |mask, it| mask | 1 << *it as u32);
        let checks = each(Capabilities::from_mask(mask), has_multi);
        let words: Vec<String> = checks
            .iter()
            .map(|check| {
                let word = match check.outcome {
                    Outcome::Ok(_) => "ok",
                    Outcome::Degraded { .. } => "degraded",
                    Outcome::Refused { .. } => "refused",
                };
                format!("{}:{word}", check.name.trim_start_matches("CAP_"))
            })
            .collect();
        assert_eq!(words.join(" "), expected);
    }

    /// What the manifests add is enough where there is uprobe_multi, and not before; nothing is not.
    #[test]
    fn what_is_enough() {
        use Capability::{Bpf, CheckpointRestore, DacReadSearch, Perfmon, SysAdmin, SysPtrace};
        let manifest = [Bpf, Perfmon, SysPtrace, CheckpointRestore, DacReadSearch];
        words(
            &manifest,
            true,
            "BPF:ok PERFMON:ok SYS_PTRACE:ok CHECKPOINT_RESTORE:ok DAC_READ_SEARCH:ok SYS_ADMIN:ok",
        );
        words(
            &manifest,
            false,
            "BPF:ok PERFMON:ok SYS_PTRACE:ok CHECKPOINT_RESTORE:ok DAC_READ_SEARCH:ok SYS_ADMIN:refused",
        );
        words(
            &[SysAdmin],
            false,
            "BPF:ok PERFMON:ok SYS_PTRACE:degraded CHECKPOINT_RESTORE:ok DAC_READ_SEARCH:degraded SYS_ADMIN:ok",
        );
        words(
            &[],
            true,
            "BPF:refused PERFMON:refused SYS_PTRACE:degraded CHECKPOINT_RESTORE:degraded \
             DAC_READ_SEARCH:degraded SYS_ADMIN:ok",
        );
    }
}
