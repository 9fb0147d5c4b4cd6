//! Owns an apt with sources and state of its own, beside the machine's, which stay as they are.
//! Must not know what is fetched by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{agent, toolchain};

/// Apt with one suite of Debian, in a directory that can be removed after.
pub struct Apt {
    root: PathBuf,
    /// Where it downloads to.
    work: PathBuf,
}

impl Apt {
    /// One that knows a suite's packages (`deb`) or sources (`deb-src`); it downloads into `work`.
    ///
    /// # Errors
    /// Fails, with the remedy, where the machine's apt knows no mirror or the mirror refuses.
    pub fn of(kind: &str, suite: &str, work: &Path) -> Result<Self> {
        let mirror = mirror()?;
        let root = work.join("apt");
        for dir in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(root.join(dir)).context("failed to create a root for apt")?;
        }
        let write = |name: &str, text: String| {
            fs::write(root.join(name), text).with_context(|| format!("failed to write {name}"))
        };
        let at = root.display();
        write("status", String::new())?;
        write("sources.list", format!("{kind} {mirror} {suite} main\n"))?;
        write(
            "apt.conf",
            format!(
                "Dir::State::lists \"{at}/lists\";\nDir::State::status \"{at}/status\";\n\
                 Dir::Cache \"{at}\";\nDir::Etc::SourceList \"{at}/sources.list\";\n\
                 Dir::Etc::SourceParts \"/dev/null\";\nAcquire::Languages \"none\";\n\
                 APT::Sandbox::User \"root\";\nAcquire::Retries \"3\";\n\
                 Acquire::Check-Valid-Until \"{}\";\n",
                // A mirror may lag behind what changes every day. Signatures are checked all the same.
                suite != "sid"
            ),
        )?;
        let apt = Self {
            root,
            work: work.to_owned(),
        };
        agent::run(apt.command("apt-get").args(["update", "-qq"]))?;
        Ok(apt)
    }

    /// One of apt's programs.
    pub fn command(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.env("APT_CONFIG", self.root.join("apt.conf"))
            .current_dir(&self.work);
        toolchain::scrub(&mut apt);
        apt
    }

    /// Removes its state; what was downloaded stays.
    ///
    /// # Errors
    /// Fails where it cannot be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.root).context("failed to remove apt's root")
    }
}

/// The mirror that this machine's apt uses for Debian itself.
///
/// # Errors
/// Fails where there is none.
pub fn mirror() -> Result<String> {
    let format = "$(SITE) $(URI) $(ORIGIN)";
    let targets =
        toolchain::stdout_of(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    let found = targets.lines().find_map(|line| {
        let (site, rest) = line.split_once(' ')?;
        (rest.ends_with(" Debian") && rest.contains("/dists/") && site.ends_with("/debian"))
            .then(|| site.to_owned())
    });
    let Some(site) = found else {
        bail!("apt knows no mirror of Debian: run apt-get update on a Debian machine");
    };
    Ok(site)
}
