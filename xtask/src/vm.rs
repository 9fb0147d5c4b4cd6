//! Owns the kernel matrix: the agent on other kernels, in QEMU, which emulates.
//! Must not know what is tested inside a guest.

pub mod kernels;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use self::kernels::Kernel;
pub use self::kernels::names;
use crate::agent::{self, Profile};
use crate::setup::Tools;
use crate::{packages, toolchain};

/// What runs as the guest's first process, and what it calls where the clock is set.
const SCRIPTS: [(&str, &str); 2] = [
    ("init", include_str!("vm/init.sh")),
    ("clock.sh", include_str!("vm/clock.sh")),
];

/// A guest takes two minutes at most, most of them for reports to come; one that hangs is ended.
const PATIENCE_SECONDS: &str = "600";

/// The programs that this needs, and Debian's packages with them.
const NEEDED: [(&str, &str); 3] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
];

/// Boots each kernel that was named, or all, with the agent as it is shipped, and tells what came out.
///
/// # Errors
/// Fails, with the remedy, where a program is missing, or a kernel cannot be fetched or booted.
pub fn run(tools: &Tools, chosen: &[String]) -> Result<ExitCode> {
    packages::provide(&NEEDED, "the kernels")?;
    let agent = agent::build(tools, Profile::Dist)?;
    Ok(if boot_all(&agent, kernels::choose(chosen))? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Boots the few kernels of every run of the tests, with the agent that the other tests use; tells whether all is well.
///
/// # Errors
/// As `run`.
pub fn test(tools: &Tools) -> Result<bool> {
    let agent = agent::build(tools, Profile::Debug)?;
    let chosen = kernels::TESTED.map(str::to_owned);
    boot_all(&agent, kernels::choose(&chosen))
}

/// The programs that this machine lacks, with their packages.
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let lacks = |it: &(&str, &str)| !toolchain::is_in_path(it.0);
    NEEDED.into_iter().filter(lacks).collect()
}

fn boot_all<'a>(agent: &Path, kernels: impl Iterator<Item = &'a Kernel>) -> Result<bool> {
    let initramfs = pack(agent, &toolchain::target_dir().join("vm"))?;
    let mut is_well = true;
    for kernel in kernels {
        eprintln!("xtask: booting Linux {}", kernel.name);
        let image = kernels::fetch(kernel)?;
        // An emulator that does not come to its end may be the emulator's fault; a check that fails is ours.
        let verdict = match boot(kernel, &image, &initramfs)? {
            None => boot(kernel, &image, &initramfs)?,
            verdict => verdict,
        };
        is_well &= matches!(verdict, Some((passed, 0)) if passed > 0);
    }
    Ok(is_well)
}

/// The programs that are traced in guests, and whether they keep frame pointers.
const PROGRAMS: [(&str, &str); 3] = [
    ("holder", "-fno-omit-frame-pointer"),
    ("grower", "-fno-omit-frame-pointer"),
    ("storm", "-fomit-frame-pointer"),
];

/// Makes the one initramfs: busybox, the agent, and programs with the C library that they need.
fn pack(agent: &Path, scratch: &Path) -> Result<PathBuf> {
    let root = scratch.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("failed to empty {}", root.display()))?;
    }
    for dir in ["bin", "proc", "sys", "dev", "tmp", "lib", "lib64"] {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    let busybox = which("busybox")?;
    place(&busybox, &root.join("bin/busybox"))?;
    let within = root.join("bin/leaktrace");
    let mut strip = Command::new("strip");
    agent::run(strip.arg("-o").args([&within, agent])).context("failed to strip the agent")?;
    bring_libraries(&within, &root)?;
    for (name, text) in SCRIPTS {
        let script = root.join(name);
        let describe = || format!("failed to write the guest's {name}");
        fs::write(&script, text).with_context(describe)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).with_context(describe)?;
    }
    for (name, flag) in PROGRAMS {
        let program = root.join("bin").join(name);
        let mut cc = Command::new("cc");
        cc.current_dir(toolchain::workspace_dir())
            .args(["-O1", "-g", "-pthread", flag, "-o"])
            .arg(&program)
            .arg(format!("xtask/src/vm/{name}.c"));
        toolchain::scrub(&mut cc);
        agent::run(&mut cc)?;
        bring_libraries(&program, &root)?;
    }
    let initramfs = scratch.join("initramfs.gz");
    let mut archive = Command::new("sh");
    archive
        .args(["-ec", "find . | cpio -o -H newc --quiet | gzip -1 >\"$0\""])
        .arg(&initramfs)
        .current_dir(&root);
    agent::run(&mut archive).context("failed to pack the initramfs")?;
    Ok(initramfs)
}

/// Puts the libraries of a program where it finds them.
fn bring_libraries(program: &Path, root: &Path) -> Result<()> {
    for library in libraries(program)? {
        let within = library.strip_prefix("/").unwrap_or(&library);
        place(&library, &root.join(within))?;
    }
    Ok(())
}

/// What a program maps when it starts, the loader too; nothing, of a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = toolchain::stdout_of(Command::new("ldd").arg(program))?;
    let paths = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("no {program} in PATH: install it"))
}

/// Copies a file, whatever links lead to it.
fn place(from: &Path, to: &Path) -> Result<()> {
    let describe = || format!("failed to copy {} to {}", from.display(), to.display());
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(describe)?;
    }
    fs::copy(from, to).map(drop).with_context(describe)
}

/// Boots one kernel; its console is shown, and the verdict is on it, if it came so far.
fn boot(kernel: &Kernel, image: &Path, initramfs: &Path) -> Result<Option<(u32, u32)>> {
    let mut qemu = Command::new("timeout");
    qemu.args([PATIENCE_SECONDS, "qemu-system-x86_64"])
        // Emulated always: a KVM that opens may still be unable to run a stock kernel.
        .args(["-accel", "tcg", "-cpu", "max", "-m", "1024M", "-smp", "1"])
        .args(["-nodefaults", "-no-user-config", "-nographic"])
        .args(["-serial", "stdio", "-monitor", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!(
            "console=ttyS0 panic=-1 quiet expect={} {}",
            kernel.expected, kernel.arguments
        ))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = qemu.output().context("failed to run qemu-system-x86_64")?;
    let console = String::from_utf8_lossy(&output.stdout);
    for line in console.lines().filter(|line| !line.contains('\u{1b}')) {
        println!("{}: {}", kernel.name, line.trim_end());
    }
    let verdict = verdict(&console);
    if verdict.is_none() {
        println!("{}: no verdict ({})", kernel.name, output.status);
    }
    Ok(verdict)
}

/// How many checks held and how many did not, where the guest came to its end.
fn verdict(console: &str) -> Option<(u32, u32)> {
    let line = console
        .lines()
        .find_map(|line| line.strip_prefix("verdict: "))?;
    let (passed, failed) = line.trim_end().split_once(" passed, ")?;
    let failed = failed.strip_suffix(" failed")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::verdict;

    /// Only a guest that came to its last line has a verdict: one that panics or hangs has none.
    #[test]
    fn the_console_tells_the_verdict() {
        assert_eq!(
            verdict("ok\r\nverdict: 9 passed, 1 failed\r\n"),
            Some((9, 1))
        );
        assert_eq!(verdict("Kernel panic - not syncing\r\n"), None);
        assert_eq!(verdict("verdict: 9 pas"), None);
    }
}
