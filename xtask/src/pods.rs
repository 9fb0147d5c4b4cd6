//! Owns a run of the DaemonSet's pod on a real container runtime: what is built for it, and who leaks beside it.
//! Must not know how pods are made: `pods/pods.py` is told by files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::setup::Tools;
use crate::{agent, golang, image, manifests, packages, python, toolchain};

/// The programs that this needs, and Debian's packages with them.
pub const NEEDED: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("musl-gcc", "musl-tools"),
    ("prometheus", "prometheus"),
];

/// musl's C library, which is also its loader.
const MUSL: &str = "/usr/lib/x86_64-linux-musl/libc.so";

/// Runs the image with the manifest's security context beside leaking pods for so long, and judges what it tells.
///
/// # Errors
/// Fails, with the remedy, where a program is missing, and where a line does not name its pod.
pub fn run(tools: &Tools, seconds: u32) -> Result<()> {
    check(&NEEDED)?;
    let scratch = toolchain::target_dir().join("pods");
    let files = Files::make(tools, &scratch)?;
    // As it is applied, also where the agent may do least, and `trace` with the pods as targets.
    for (overlay, scope) in RUNS {
        eprintln!("xtask: running the pod of deploy/kustomize/{overlay} ({scope}) for {seconds} s");
        let work = scratch.join(format!("{overlay}-{scope}"));
        let mut pods = files.command("pods.py", &[], &work, overlay)?;
        pods.args([scope, &seconds.to_string()])
            .args(&files.leakers);
        agent::run(&mut pods).with_context(|| format!("the run failed: see {}", work.display()))?;
    }
    Ok(())
}

/// Which overlays run, and what the agent does there: `watch` the host, or `trace` the pods.
const RUNS: [(&str, &str); 3] = [
    ("base", "host"),
    ("own-seccomp", "host"),
    ("own-seccomp", "pods"),
];

/// Brings the programs that are missing. Only root may start containers.
///
/// # Errors
/// Fails, with the remedy, without root, and where a program cannot be installed.
pub fn check(needed: &[(&str, &str)]) -> Result<()> {
    if !agent::is_root() {
        bail!("containers need root: run this as root");
    }
    packages::provide(needed, "the pods")
}

/// What a run of pods is made of.
pub struct Files {
    image: PathBuf,
    /// The agent's own seccomp profile.
    profile: PathBuf,
    /// As `leakers` has them.
    pub leakers: Vec<String>,
}

impl Files {
    /// Builds the image and the programs that leak.
    ///
    /// # Errors
    /// Fails where one of them does not build.
    pub fn make(tools: &Tools, scratch: &Path) -> Result<Self> {
        Ok(Self {
            image: image::run(tools)?,
            profile: toolchain::workspace_dir().join("deploy/seccomp/leaktrace.json"),
            leakers: leakers(scratch)?,
        })
    }

    /// One of the scripts, with its first arguments up to the profile.
    ///
    /// # Errors
    /// Fails where Python's packages are missing, or the manifests cannot be rendered.
    pub fn command(
        &self,
        script: &str,
        first: &[&Path],
        work: &Path,
        overlay: &str,
    ) -> Result<Command> {
        let home = Path::new("xtask/src/pods");
        let manifest = manifests::render(overlay)?;
        let mut command = python::command(&python::PODS, home)?;
        command.arg(home.join(script)).args(first).arg(work).args([
            &manifest,
            &self.image,
            &self.profile,
        ]);
        Ok(command)
    }
}

/// Where `run` leaves what the runtime wrote of the agent's standard output.
pub fn log() -> PathBuf {
    toolchain::target_dir().join("pods/base-host/agent.log")
}

/// Programs on glibc, on musl and of Go, each as `NAME,FILE_IN_IMAGE=FILE…`, and the one that holds pods open.
fn leakers(scratch: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(scratch).context("failed to create target/pods")?;
    let source = toolchain::workspace_dir().join("xtask/src/pods");
    let built = |name: &str| scratch.join(name);
    let compile = |compiler: &str, flags: &[&str], from: &str, to: &str| {
        let mut cc = Command::new(compiler);
        cc.args(flags)
            .args(["-O1", "-g", "-o"])
            .arg(built(to))
            .arg(source.join(from));
        toolchain::scrub(&mut cc);
        agent::run(&mut cc)
    };
    compile("cc", &["-static"], "pause.c", "pause")?;
    compile("cc", &[], "leaker.c", "leaker-glibc")?;
    compile("musl-gcc", &[], "leaker.c", "leaker-musl")?;
    let mut go = Command::new(golang::newest()?);
    go.env("CGO_ENABLED", "0")
        .args(["build", "-o"])
        .arg(built("leaker-go"));
    go.arg(source.join("leaker.go"));
    toolchain::scrub(&mut go);
    agent::run(&mut go)?;
    let word = |name: &str, others: &[(String, String)]| {
        let mut word = format!("{name},/{name}={}", built(name).display());
        for (within, file) in others {
            word.push_str(&format!(",{within}={file}"));
        }
        word
    };
    let listed = toolchain::stdout_of(Command::new("ldd").arg(built("leaker-glibc")))?;
    let libraries = listed.split_whitespace().filter(|it| it.starts_with('/'));
    let libraries: Vec<_> = libraries.map(|it| (it.to_owned(), it.to_owned())).collect();
    let musl = ("/lib/ld-musl-x86_64.so.1".to_owned(), MUSL.to_owned());
    Ok(vec![
        word("pause", &[]),
        word("leaker-glibc", &libraries),
        word("leaker-musl", &[musl]),
        word("leaker-go", &[]),
    ])
}
