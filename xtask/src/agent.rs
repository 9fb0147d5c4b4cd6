//! Owns the agent's binary: how it is built and how it is started.
//! Must not know what it is started for.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::setup::Tools;
use crate::{seed, toolchain};

/// Which of the two builds of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build, linked dynamically, for the developer.
    Debug,
    /// Optimized and static: it runs in any image and on any distribution.
    Release,
    /// The same, as small as it gets and without symbols: what images hold.
    Dist,
}

/// Builds the agent and gives its path.
///
/// # Errors
/// Fails where the tools are missing or the agent does not build.
pub fn build(tools: &Tools, profile: Profile) -> Result<PathBuf> {
    let mut cargo = tools.cargo()?;
    cargo.args(["build", "--package", "leaktrace", "--bin", "leaktrace"]);
    match profile {
        Profile::Debug => {
            run(&mut cargo)?;
            Ok(toolchain::target_dir().join("debug/leaktrace"))
        }
        Profile::Release => {
            cargo.arg("--release");
            let triple = set_static(&mut cargo, "")?;
            seed::sow(&triple)?;
            run(&mut cargo)?;
            seed::harvest(&triple)?;
            let target = toolchain::target_dir();
            let built = target.join(triple).join("release/leaktrace");
            let agent = target.join("release/leaktrace");
            place(&built, &agent)?;
            Ok(agent)
        }
        Profile::Dist => {
            cargo.args(["--profile", "dist"]);
            let flags = placeless(&mut cargo)?;
            let triple = set_static(&mut cargo, &flags)?;
            run(&mut cargo)?;
            Ok(toolchain::target_dir().join(triple).join("dist/leaktrace"))
        }
    }
}

/// Flags by which a program does not tell where it was built, so that every clone on every machine builds the
/// same one: paths stand in what a panic says, in Rust and in C.
fn placeless(cargo: &mut Command) -> Result<String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let sysroot = toolchain::stdout_of(toolchain::command("rustc").args(["--print", "sysroot"]))?;
    let mut places = vec![
        (toolchain::workspace_dir(), "leaktrace"),
        (toolchain::target_dir(), "target"),
        (
            Path::new(sysroot.trim()).join("lib/rustlib/src/rust"),
            "rust",
        ),
    ];
    places.extend(home.map(|home| (home, "cargo")));
    let (mut of_rust, mut of_c) = (String::new(), env::var("CFLAGS").unwrap_or_default());
    for (place, name) in places {
        let place = place.display();
        of_rust.push_str(&format!(" --remap-path-prefix={place}=/{name}"));
        of_c.push_str(&format!(" -ffile-prefix-map={place}=/{name}"));
    }
    // And not when: `__TIME__` stands in an allocator's banner.
    cargo.env("CFLAGS", of_c).env("SOURCE_DATE_EPOCH", "0");
    Ok(of_rust)
}

/// Makes a cargo command build a static program, with other flags; gives the triple in whose
/// directory the program will lie.
///
/// # Errors
/// Fails where the compiler does not tell the host's triple.
pub fn set_static(cargo: &mut Command, others: &str) -> Result<String> {
    let triple = toolchain::host_triple()?;
    // With a target named, even if it is the host, the flags spare build scripts
    // and procedural macros, which cannot be static.
    cargo.args(["--target", &triple]);
    let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" -C target-feature=+crt-static");
    flags.push(others);
    cargo.env("RUSTFLAGS", flags);
    Ok(triple)
}

/// Runs one command to its end; a failure names it.
///
/// # Errors
/// Fails where the command cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("failed to run {command:?}"))?;
    if !status.success() {
        bail!("`{}` failed ({status})", words(command));
    }
    Ok(())
}

/// A command as a user would type it, without the environment.
fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Gives the built program its well-known name. A hard link costs nothing, and
/// making a new one leaves an agent alone that runs from the old.
fn place(built: &Path, agent: &Path) -> Result<()> {
    let describe = || format!("failed to place {} at {}", built.display(), agent.display());
    if let (Ok(old), Ok(new)) = (fs::metadata(agent), fs::metadata(built))
        && (old.dev(), old.ino()) == (new.dev(), new.ino())
    {
        return Ok(());
    }
    if let Some(dir) = agent.parent() {
        fs::create_dir_all(dir).with_context(describe)?;
    }
    if agent.exists() {
        fs::remove_file(agent).with_context(describe)?;
    }
    fs::hard_link(built, agent)
        .or_else(|_| fs::copy(built, agent).map(drop))
        .with_context(describe)
}

/// The command that starts the agent with the rights it needs.
pub fn command(agent: &Path) -> Command {
    let mut command = if !is_root() && toolchain::is_in_path("sudo") {
        let mut sudo = Command::new("sudo");
        sudo.arg("--").arg(agent);
        sudo
    } else {
        Command::new(agent)
    };
    toolchain::scrub(&mut command);
    command
}

/// Becomes the agent: signals reach it directly and its exit code is the caller's.
///
/// # Errors
/// Returns only where the agent cannot be started.
pub fn become_agent(agent: &Path, args: &[OsString]) -> Result<()> {
    let error = command(agent).args(args).exec();
    Err(error).with_context(|| format!("failed to start {}", agent.display()))
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    // The owner of a process's directory is its effective user.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
