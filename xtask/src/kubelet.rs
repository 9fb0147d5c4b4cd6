//! Owns a run of the DaemonSet's pod below a real kubelet: where that comes from, and what it is given.
//! Must not know how pods are made: `pods/kubelet.py` is told by files.
//!
//! No package has a kubelet, but Debian's source of Kubernetes does, with all that it depends on. It is an old one (1.20),
//! which is enough for what a kubelet does to a pod: control groups, volumes, security contexts, probes and log files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::apt::Apt;
use crate::pods::{self, Files};
use crate::setup::Tools;
use crate::{agent, cache, golang, toolchain};

/// The release of Debian that has the whole source: later ones have that of kubectl only.
const SUITE: &str = "bookworm";

/// Its version of Kubernetes.
const VERSION: &str = "1.20.2";

/// Where Go looks for a package's source when it knows no modules.
const IMPORT: &str = "k8s.io/kubernetes";

/// The programs that this needs beyond those of `pods`, and Debian's packages with them.
const NEEDED: [(&str, &str); 2] = [
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("tar", "tar"),
];

/// Runs the image below a kubelet for so long, once with the runtime's seccomp profile and once with the agent's own.
///
/// # Errors
/// Fails, with the remedy, where something is missing, and where a line does not name its pod.
pub fn run(tools: &Tools, seconds: u32) -> Result<()> {
    pods::check(&[pods::NEEDED.as_slice(), &NEEDED].concat())?;
    let kubelet = ensure_kubelet()?;
    let scratch = toolchain::target_dir().join("kubelet");
    let files = Files::make(tools, &scratch)?;
    for overlay in ["base", "own-seccomp"] {
        eprintln!(
            "xtask: running the pod of deploy/kustomize/{overlay} below a kubelet for {seconds} s"
        );
        let work = scratch.join(overlay);
        let mut pods = files.command("kubelet.py", &[&kubelet], &work, overlay)?;
        pods.arg(seconds.to_string()).args(&files.leakers);
        agent::run(&mut pods).with_context(|| format!("the run failed: see {}", work.display()))?;
    }
    Ok(())
}

/// The kubelet, built once into the cache.
fn ensure_kubelet() -> Result<PathBuf> {
    let cache = cache::dir()?;
    let home = cache.join(format!("kubelet-{VERSION}"));
    let kubelet = home.join("kubelet");
    if kubelet.is_file() {
        return Ok(kubelet);
    }
    let go = golang::oldest()?;
    let _lock = cache::lock(&cache)?;
    if kubelet.is_file() {
        return Ok(kubelet);
    }
    eprintln!("xtask: building the kubelet of Kubernetes {VERSION}: some ten minutes");
    let staging = cache::staging_dir(&cache)?;
    build(&go, &staging).context("the kubelet could not be built")?;
    cache::publish(&staging, &home)?;
    Ok(kubelet)
}

/// Fetches the source and builds from it; only the program stays.
fn build(go: &Path, staging: &Path) -> Result<()> {
    let apt = Apt::of("deb-src", SUITE, staging)?;
    let source = ["source", "-qq", "--download-only", "kubernetes"];
    agent::run(apt.command("apt-get").args(source).stdout(Stdio::null()))?;
    apt.remove()?;
    let fetched: Vec<PathBuf> = fs::read_dir(staging)
        .context("failed to list what apt brought")?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let archive = fetched
        .iter()
        .find(|path| path.to_string_lossy().ends_with(".orig.tar.gz"))
        .context("apt brought no source")?;
    ensure!(
        archive.to_string_lossy().contains(VERSION),
        "Debian's source is no longer {VERSION}: {}",
        archive.display()
    );
    let work = staging.join("go");
    let place = work.join("src").join(IMPORT);
    fs::create_dir_all(&place).context("failed to create a place for the source")?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(archive);
    agent::run(unpack.args(["--strip-components=1", "-C"]).arg(&place))?;
    let stamp = format!("-s -w -X k8s.io/component-base/version.gitVersion=v{VERSION}");
    let mut compile = Command::new(go);
    compile
        .args(["build", "-ldflags", &stamp, "-o"])
        .arg(staging.join("kubelet"))
        .arg(format!("{IMPORT}/cmd/kubelet"))
        .current_dir(&place);
    toolchain::scrub(&mut compile);
    // The source has everything: nothing is fetched.
    for (name, value) in [
        ("GO111MODULE", "off"),
        ("GOPROXY", "off"),
        ("GOTOOLCHAIN", "local"),
        ("GOFLAGS", ""),
        ("CGO_ENABLED", "0"),
    ] {
        compile.env(name, value);
    }
    compile.env("GOPATH", &work);
    compile.env("GOCACHE", staging.join("go-cache"));
    agent::run(&mut compile)?;
    for left in fetched {
        fs::remove_file(&left).with_context(|| format!("failed to remove {}", left.display()))?;
    }
    for left in ["go", "go-cache"] {
        fs::remove_dir_all(staging.join(left))
            .with_context(|| format!("failed to remove {left}"))?;
    }
    Ok(())
}
