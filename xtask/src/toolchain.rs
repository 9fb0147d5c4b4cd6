//! Owns the pinned toolchain: its version, whether it is there, and how to call it.
//! Must not know what is built with it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

/// The one Rust version that builds the agent and the BPF object.
///
/// There is no `rust-toolchain.toml`: where rustup may not install by itself, that
/// file would stop cargo before any of this code could run.
pub const VERSION: &str = "1.98.0";

/// What the build needs beyond the minimal profile: `core`'s source for the BPF
/// target, and the two checkers.
const COMPONENTS: &[&str] = &["rust-src", "clippy", "rustfmt"];

/// The workspace's directory.
pub fn workspace_dir() -> PathBuf {
    // Cargo's word of now comes first: clones that share a target directory share
    // this program, and the path compiled into it is that of the first.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_owned)
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace_dir().join("target"),
        |dir| workspace_dir().join(dir),
    )
}

/// A program of the pinned toolchain, run in the workspace.
pub fn command(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", VERSION, program])
        .current_dir(workspace_dir());
    scrub(&mut command);
    command
}

/// Removes what `cargo run` told this process about itself, so that a child sees
/// the user's environment and not that of another toolchain.
pub fn scrub(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if is_inherited_from_cargo(&name) {
            command.env_remove(name);
        }
    }
    // Cargo prepends its own toolchain's libraries, among them another LLVM,
    // which bpf-linker would load.
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        let kept: Vec<PathBuf> = env::split_paths(&path)
            .filter(|dir| !is_cargo_library_dir(dir))
            .collect();
        match env::join_paths(&kept) {
            Ok(path) if !path.is_empty() => command.env("LD_LIBRARY_PATH", path),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
}

/// Whether a variable was set by `cargo run` or rustup, and not by the user.
fn is_inherited_from_cargo(name: &OsStr) -> bool {
    const EXACT: &[&str] = &[
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
        "RUSTC",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
        "RUSTUP_TOOLCHAIN_SOURCE",
        "RUST_RECURSION_COUNT",
    ];
    const PREFIXES: &[&str] = &["CARGO_BIN_", "CARGO_MANIFEST_", "CARGO_PKG_"];
    name.to_str().is_some_and(|name| {
        EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// Whether cargo, and not the user, put this directory into the library path.
fn is_cargo_library_dir(dir: &Path) -> bool {
    let of_toolchain = dir
        .components()
        .any(|part| part.as_os_str() == "toolchains");
    let of_target = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned))
        .is_some_and(|built| dir.starts_with(built));
    of_toolchain || of_target || dir.as_os_str().is_empty()
}

/// The host's target triple, as the pinned compiler names it.
pub fn host_triple() -> Result<String> {
    let said = stdout_of(command("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .with_context(|| format!("rustc {VERSION} does not tell its host"))?
        .to_owned())
}

/// Installs the pinned toolchain, or the parts of it that are missing.
pub fn ensure() -> Result<()> {
    let missing = missing_components()?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("xtask: installing Rust {VERSION} ({})", missing.join(", "));
    let mut install = Command::new("rustup");
    install.args([
        "toolchain",
        "install",
        VERSION,
        "--profile",
        "minimal",
        "--no-self-update",
    ]);
    for component in COMPONENTS {
        install.args(["--component", component]);
    }
    scrub(&mut install);
    // rustup shows its own progress on stderr; our stdout stays clean.
    install.stdout(Stdio::null());
    let status = install.status().context("failed to run rustup")?;
    if !status.success() {
        bail!(
            "rustup could not install Rust {VERSION} ({status}): check the network, \
             then run `cargo xtask setup` again"
        );
    }
    Ok(())
}

/// Names what of the pinned toolchain is not installed.
fn missing_components() -> Result<Vec<&'static str>> {
    let mut rustc = command("rustc");
    rustc.args(["--print", "sysroot"]);
    let output = rustc.output().map_err(|error| {
        anyhow::Error::new(error).context(
            "failed to run rustup: install rustup, make sure that it is in PATH, and retry",
        )
    })?;
    if !output.status.success() {
        let mut all = vec!["rustc", "cargo"];
        all.extend(COMPONENTS);
        return Ok(all);
    }
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let list = sysroot.join("lib/rustlib/components");
    let installed =
        fs::read_to_string(&list).with_context(|| format!("failed to read {}", list.display()))?;
    Ok(absent(&installed))
}

/// The components that a toolchain's own list does not name. Lines carry the
/// target behind the name, except for those that have none.
fn absent(installed: &str) -> Vec<&'static str> {
    let is_listed = |component: &&&str| {
        !installed.lines().any(|line| {
            line == **component
                || line.strip_suffix("-preview") == Some(**component)
                || line.starts_with(&format!("{component}-"))
        })
    };
    COMPONENTS.iter().filter(is_listed).copied().collect()
}

/// Runs a command and gives its standard output; a failure names the command.
pub fn stdout_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("failed to run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name lies in `PATH`.
pub fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// `PATH` with one directory put first.
pub fn path_with(first: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(first.to_owned()).chain(env::split_paths(&path));
    env::join_paths(dirs).with_context(|| format!("{} cannot stand in PATH", first.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component counts as there with and without the target behind its name.
    #[test]
    fn components_are_found_in_rustups_list() {
        let installed = "cargo-x86_64-unknown-linux-gnu\nrust-src\nclippy-preview-x86_64\n";
        assert_eq!(absent(installed), ["rustfmt"]);
        assert_eq!(absent(""), ["rust-src", "clippy", "rustfmt"]);
    }

    /// Cargo's word about xtask goes; what the user set for cargo stays.
    #[test]
    fn only_cargos_own_variables_are_scrubbed() {
        for gone in [
            "CARGO",
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_inherited_from_cargo(OsStr::new(gone)), "{gone}");
        }
        for kept in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_HTTP_PROXY",
            "RUSTFLAGS",
        ] {
            assert!(!is_inherited_from_cargo(OsStr::new(kept)), "{kept}");
        }
    }
}
