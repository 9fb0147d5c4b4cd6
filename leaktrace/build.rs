//! Owns the compilation of the BPF object that the agent embeds.
//! Must not know which toolchain is pinned: it uses the cargo that builds the agent.
//!
//! aya-build does the same through `rustup run`; here the agent's own cargo and
//! rustc are called instead, so that both sides are always built by one compiler,
//! `RUSTC_BOOTSTRAP` reaches the child only, and no build dependency is needed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};

/// The crate with the probes, its binary, and the file that the agent includes.
const BPF_CRATE: &str = "leaktrace-ebpf";

/// The linker that turns LLVM bitcode into a BPF object.
const BPF_LINKER: &str = "bpf-linker";

fn main() {
    if let Err(message) = compile() {
        println!("cargo::error={}", message.replace('\n', "\ncargo::error="));
        exit(1);
    }
}

/// Compiles the BPF crate and copies the object to `OUT_DIR`.
fn compile() -> Result<(), String> {
    let workspace = workspace_dir()?;
    watch(&workspace);
    let linker = find_linker()?;
    let out_dir = PathBuf::from(required("OUT_DIR")?);
    let target = match required("CARGO_CFG_TARGET_ENDIAN")?.to_str() {
        Some("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let target_dir = out_dir.join("bpf");

    let mut cargo = Command::new(required("CARGO")?);
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--release", "--package", BPF_CRATE])
        .args(["--bin", BPF_CRATE, "--target", target])
        .args(["-Z", "build-std=core", "--color=never", "--target-dir"])
        .arg(&target_dir)
        .stdin(Stdio::null());
    set_environment(&mut cargo, target, &linker)?;
    cargo.env("CARGO_BUILD_BUILD_DIR", shared_build_dir(&out_dir));
    let output = cargo
        .output()
        .map_err(|error| format!("failed to run {cargo:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "the BPF crate does not build ({}):\n{said}",
            output.status
        ));
    }
    for line in said.lines() {
        println!("cargo::warning={line}");
    }

    let built = target_dir.join(target).join("release").join(BPF_CRATE);
    let embedded = out_dir.join(BPF_CRATE);
    fs::copy(&built, &embedded).map_err(|error| {
        format!(
            "failed to copy {} to {}: {error}",
            built.display(),
            embedded.display()
        )
    })?;
    Ok(())
}

/// Names everything the object is made of, so that a no-op build stays one.
fn watch(workspace: &Path) {
    for part in [
        "leaktrace-ebpf",
        "leaktrace-common",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
}

/// Gives the child a clean environment: what cargo tells this build script
/// about the agent must not leak into the build of another crate.
fn set_environment(cargo: &mut Command, target: &str, linker: &Path) -> Result<(), String> {
    for (name, _) in env::vars_os() {
        if is_about_this_build(&name) {
            cargo.env_remove(name);
        }
    }
    let arch = required("CARGO_CFG_TARGET_ARCH")?
        .to_string_lossy()
        .into_owned();
    let rustc = required("RUSTC")?;
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        // The verifier's log and the maps' types come from debug information.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // bpf-linker tries several files for LLVM and tells each miss, even
        // where the next one is right; what matters to it is an error.
        "-Alinker_messages".to_owned(),
    ];
    flags.extend(placeless(&rustc)?);
    let linker_variable = format!(
        "CARGO_TARGET_{}_LINKER",
        target.to_ascii_uppercase().replace('-', "_")
    );
    cargo
        .env("RUSTC", rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env(linker_variable, linker)
        // `build-std` is the one unstable feature needed; the pinned stable
        // compiler allows it under this variable, as the kernel's own build does.
        .env("RUSTC_BOOTSTRAP", "1");
    Ok(())
}

/// Flags by which the object's debug information does not tell where it was built: every clone makes the same.
fn placeless(rustc: &OsStr) -> Result<Vec<String>, String> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    let output = output.map_err(|error| format!("failed to run {}: {error}", rustc.display()))?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let mut places = vec![
        (workspace_dir()?, "leaktrace"),
        (Path::new(&sysroot).join("lib/rustlib/src/rust"), "rust"),
    ];
    places.extend(home.map(|home| (home, "cargo")));
    let remap =
        |(place, name): (PathBuf, _)| format!("--remap-path-prefix={}=/{name}", place.display());
    Ok(places.into_iter().map(remap).collect())
}

/// Whether a variable describes the agent's build or its flags.
fn is_about_this_build(name: &OsStr) -> bool {
    const EXACT: &[&str] = &[
        "CARGO_BUILD_BUILD_DIR",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
    ];
    name.to_str().is_some_and(|name| {
        EXACT.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || (name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS"))
    })
}

/// The linker in `PATH`, where `cargo xtask` puts the pinned one first.
fn find_linker() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let linker = env::split_paths(&path)
        .map(|dir| dir.join(BPF_LINKER))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            format!(
                "{BPF_LINKER} is not in PATH: run `cargo xtask setup` once, \
                 then build with `cargo xtask build`"
            )
        })?;
    println!("cargo::rerun-if-changed={}", linker.display());
    Ok(linker)
}

/// One place for what all profiles of the agent share: `core` and the object are
/// always release builds. It lies beside theirs, since cargo locks the one in use.
fn shared_build_dir(out_dir: &Path) -> PathBuf {
    // Cargo marks the root of a build directory, and the target's directory in it.
    let is_marked = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
    let outside = |dir: &&Path| !is_marked(dir);
    let root = out_dir
        .ancestors()
        .skip_while(outside)
        .take_while(is_marked)
        .last();
    root.unwrap_or(out_dir).join("bpf")
}

/// The directory of the workspace, which is the parent of this crate's.
fn workspace_dir() -> Result<PathBuf, String> {
    let manifest_dir = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    manifest_dir
        .parent()
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} has no parent directory", manifest_dir.display()))
}

/// A variable that cargo sets for every build script.
fn required(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: build with `cargo xtask build`"))
}
