//! Owns what is the same of a program before and after it was started again: its group, its file and its arguments.
//! Must not know processes that run, or what is done about those that come back.

use std::{hash::Hasher as _, io, os::unix::ffi::OsStrExt as _};

use siphasher::sip::SipHasher13;

use super::{group_memory::MemoryGroup, process::ProcDir};

/// `cgroup` has one line of up to 4 KiB a hierarchy.
const CGROUPS_LIMIT: usize = 64 << 10;

/// What tells apart programs whose arguments begin alike.
const ARGUMENTS_LIMIT: usize = 4 << 10;

/// Runtimes give a container that is started again another id, of so many hex digits at least.
const ID_DIGITS: usize = 32;

/// Who a process is, but for which life of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// A number that stands for it, the same over restarts of leaktrace. 0 for what has no file, as threads of the kernel.
    pub id: u64,
    /// The group that its memory is charged to.
    pub group: Option<MemoryGroup>,
}

impl Lineage {
    /// Reads who a process is.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn read(pid: u32) -> io::Result<Self> {
        let process = ProcDir::open(pid)?;
        let cgroups = process.text("cgroup", CGROUPS_LIMIT)?;
        let group = MemoryGroup::of(&cgroups);
        let id = match process.link("exe") {
            Some(executable) => {
                let arguments = process.bytes("cmdline", ARGUMENTS_LIMIT)?;
                id_of(&cgroups, executable.as_bytes(), &arguments)
            }
            None => 0,
        };
        Ok(Self { id, group })
    }
}

/// A number of the group that outlives a container's restart, the file and the arguments.
fn id_of(cgroups: &str, executable: &[u8], arguments: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    for line in cgroups.lines() {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        // A pod's uid stays, and its digits are parted by dashes: what goes is a container's id.
        for part in path.split(['/', '-', '.', ':']).filter(|part| !is_id(part)) {
            hasher.write(part.as_bytes());
            hasher.write_u8(b'/');
        }
    }
    for part in [executable, arguments] {
        hasher.write(part);
        hasher.write_u8(0xff);
    }
    hasher.finish().max(1)
}

fn is_id(part: &str) -> bool {
    part.len() >= ID_DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same program with the same arguments in the same place is the same, also in a container that is started again.
    #[test]
    fn a_restart_is_the_same() {
        let pod = |id: &str| {
            format!("0::/kubepods.slice/kubepods-pod5f1a.slice/cri-containerd-{id}.scope\n")
        };
        let (one, other) = (pod(&"a1".repeat(32)), pod(&"b2".repeat(32)));
        let base = id_of(&one, b"/bin/serve", b"serve\0-p\0");
        assert_eq!(base, id_of(&other, b"/bin/serve", b"serve\0-p\0"));
        assert_ne!(base, id_of(&one, b"/bin/serve", b"serve\0-q\0"));
        assert_ne!(base, id_of(&one, b"/bin/server", b"serve\0-p\0"));
        let elsewhere = one.replace("5f1a", "5f1b");
        assert_ne!(base, id_of(&elsewhere, b"/bin/serve", b"serve\0-p\0"));
    }

    /// A process is told from its child that runs another program.
    #[test]
    fn a_child_is_another() {
        let us = Lineage::read(std::process::id()).unwrap();
        assert_ne!(us.id, 0);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        // The child is there once it runs its own program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while Lineage::read(child.id()).unwrap().id == us.id {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
