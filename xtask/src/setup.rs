//! Owns the set-up: everything the build needs that a fresh machine lacks.
//! Must not build anything of the project itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{linker, toolchain};

/// The tools of the build, present and ready to be called.
pub struct Tools {
    /// The directory with bpf-linker.
    linker_bin: PathBuf,
}

impl Tools {
    /// Installs what is missing; says nothing where all is there.
    ///
    /// # Errors
    /// Fails, with the remedy, where a tool is missing and cannot be installed.
    pub fn ensure() -> Result<Self> {
        if !toolchain::is_in_path("rustup") {
            bail!("rustup is not in PATH: install rustup, then run `cargo xtask setup`");
        }
        toolchain::ensure()?;
        if !toolchain::is_in_path("cc") {
            bail!(
                "no C compiler: `cc` is not in PATH, install one \
                 (Debian: apt-get install gcc libc6-dev)"
            );
        }
        Ok(Self {
            linker_bin: linker::ensure()?,
        })
    }

    /// The pinned cargo, with bpf-linker in its `PATH`.
    ///
    /// # Errors
    /// Fails where the cache's path cannot stand in `PATH`.
    pub fn cargo(&self) -> Result<Command> {
        let mut cargo = toolchain::command("cargo");
        cargo.env("PATH", toolchain::path_with(&self.linker_bin)?);
        Ok(cargo)
    }
}
