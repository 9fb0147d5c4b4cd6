//! Owns the checks of what is deployed: manifests, the chart's renderings, alert rules, the dashboard.
//! Must not know how any of it is used.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{agent, golang, python, toolchain};

/// Every way to apply the plain manifests.
const OVERLAYS: [&str; 4] = ["base", "before-linux-6.6", "own-seccomp", "prometheus"];

/// The chart's renderings: each has a name and the values that differ from the chart's own.
const RENDERINGS: [(&str, &[&str]); 3] = [
    ("plain", &[]),
    (
        "all",
        &[
            "beforeLinux66=true",
            "podMonitor.enabled=true",
            "podLabels={app,team}",
            "seccompProfile.type=Localhost",
            "seccompProfile.localhostProfile=leaktrace.json",
            "extraArgs={--top=3}",
            "imagePullSecrets[0].name=registry",
        ],
    ),
    ("own-token", &["tokenSecret=mine"]),
];

/// Checks everything, with the tools of those who read it.
///
/// # Errors
/// Fails with what a tool says where something is wrong, and with the remedy where a tool is missing.
pub fn check() -> Result<()> {
    let mut files = Vec::new();
    for overlay in OVERLAYS {
        files.push(render(overlay)?);
    }
    lint()?;
    for (name, values) in RENDERINGS {
        files.push(render_chart(name, values)?);
    }
    let mut validate = python::command(&python::CHECKS, Path::new("xtask"))?;
    validate
        .args(["-m", "kubernetes_validate", "--strict", "--quiet"])
        .args(&files);
    agent::run(&mut validate).context("a manifest is not valid")?;
    check_profile()?;
    check_rules()?;
    check_dashboard()
}

/// The manifests of an overlay, as `kubectl apply -k` would send them.
///
/// # Errors
/// Fails where kubectl is missing or refuses.
pub fn render(overlay: &str) -> Result<PathBuf> {
    let mut kubectl = Command::new(golang::kubectl()?);
    kubectl
        .arg("kustomize")
        .arg(deployed().join("kustomize").join(overlay));
    write(&mut kubectl, &format!("kustomize-{overlay}.yaml"))
}

fn render_chart(name: &str, values: &[&str]) -> Result<PathBuf> {
    let mut helm = Command::new(golang::helm()?);
    helm.args(["template", "leaktrace"])
        .arg(deployed().join("helm/leaktrace"));
    helm.args(["--namespace", "leaktrace"]);
    for value in values {
        helm.args(["--set", value]);
    }
    write(&mut helm, &format!("helm-{name}.yaml"))
}

fn lint() -> Result<()> {
    let mut helm = Command::new(golang::helm()?);
    helm.args(["lint", "--strict", "--quiet"])
        .arg(deployed().join("helm/leaktrace"));
    agent::run(helm.stdout(Stdio::null())).context("the chart is not valid")
}

/// Puts what a command writes into a file of `target/manifests`.
fn write(command: &mut Command, name: &str) -> Result<PathBuf> {
    let directory = toolchain::target_dir().join("manifests");
    fs::create_dir_all(&directory).context("failed to create target/manifests")?;
    let path = directory.join(name);
    let file = File::create(&path).with_context(|| format!("failed to create {name}"))?;
    toolchain::scrub(command);
    agent::run(command.stdout(file).stdin(Stdio::null()))?;
    Ok(path)
}

fn deployed() -> PathBuf {
    toolchain::workspace_dir().join("deploy")
}

/// The profile refuses what it does not name, and names what probes are made with.
fn check_profile() -> Result<()> {
    let profile = read_json(&deployed().join("seccomp/leaktrace.json"))?;
    ensure!(
        profile["defaultAction"] == "SCMP_ACT_ERRNO",
        "the seccomp profile allows what it does not name"
    );
    let rules = profile["syscalls"]
        .as_array()
        .context("the seccomp profile has no rules")?;
    let names = rules
        .iter()
        .flat_map(|rule| rule["names"].as_array().into_iter().flatten());
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    for needed in ["bpf", "perf_event_open", "process_vm_readv"] {
        ensure!(
            names.contains(&needed),
            "the seccomp profile lacks {needed}"
        );
    }
    for refused in [
        "ptrace",
        "process_vm_writev",
        "mount",
        "init_module",
        "setns",
        "kexec_load",
    ] {
        ensure!(
            !names.contains(&refused),
            "the seccomp profile allows {refused}"
        );
    }
    Ok(())
}

/// Alert rules are valid and fire when they should.
fn check_rules() -> Result<()> {
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts-test.yaml"],
    ] {
        let mut promtool = Command::new("promtool");
        promtool
            .args(arguments)
            .current_dir(deployed().join("pipelines"));
        toolchain::scrub(&mut promtool);
        agent::run(promtool.stdout(Stdio::null()))
            .context("promtool (Debian: prometheus) refuses the alert rules")?;
    }
    Ok(())
}

/// The dashboard is one by Grafana's schema, and asks for nothing but metrics that the agent has.
fn check_dashboard() -> Result<()> {
    let path = deployed().join("pipelines/grafana-dashboard.json");
    let mut validate = python::command(&python::CHECKS, Path::new("xtask"))?;
    validate.arg("xtask/src/manifests/dashboard.py").arg(&path);
    agent::run(&mut validate).context("the dashboard is not one of Grafana's")?;
    let dashboard = read_json(&path)?;
    let families = toolchain::workspace_dir().join("leaktrace/src/report");
    let known = ["metrics.rs", "metrics/families.rs"]
        .map(|name| fs::read_to_string(families.join(name)).unwrap_or_default())
        .concat();
    let panels = dashboard["panels"]
        .as_array()
        .context("the dashboard has no panels")?;
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    for target in targets {
        let query = target["expr"]
            .as_str()
            .context("a panel asks for nothing")?;
        let words = query.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        for word in words.filter(|word| word.starts_with("leaktrace_")) {
            let name = word.trim_end_matches("_total");
            ensure!(
                known.contains(name),
                "the dashboard asks for {word}, which is no metric"
            );
        }
    }
    Ok(())
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}
