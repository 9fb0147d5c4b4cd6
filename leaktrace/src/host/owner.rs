//! Owns the names of users: which name the host has for the uid of a process.
//! Must not know any other fact about a process.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::process::ProcDir;

/// What is read of `passwd` at most; a line takes some 60 bytes.
const PASSWD_LIMIT: u64 = 4 << 20;

/// The root mount is among the first lines.
const MOUNTS_LIMIT: usize = 256 << 10;

static HOST: Mutex<Option<HostNames>> = Mutex::new(None);

/// The host's name for a user, or the uid in digits.
///
/// A uid means another user in a container, so a name is given only to a
/// process that shares the host's user namespace and root file system. The file
/// is read as it is: name services (LDAP and the like) would need the C
/// library's plug-ins, which a static agent does not have.
pub(super) fn name(process: &ProcDir, uid: Option<u32>) -> String {
    let Some(uid) = uid else {
        return String::new();
    };
    // A panic elsewhere leaves at worst an older table of names.
    let mut host = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    let host = host.get_or_insert_with(HostNames::open);
    let known = if host.place.is_some() && Place::of(process) == host.place {
        host.name(uid)
    } else {
        None
    };
    known.unwrap_or_else(|| uid.to_string())
}

/// Which users and files a process sees. Compared by text that the kernel
/// writes: looking at the root itself could hang on a file system that the
/// process serves.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    user_namespace: OsString,
    root_mount: String,
}

impl Place {
    fn of(process: &ProcDir) -> Option<Self> {
        let user_namespace = process.link("ns/user")?;
        let root_mount = root_mount(&process.text("mountinfo", MOUNTS_LIMIT).ok()?)?;
        Some(Self {
            user_namespace,
            root_mount,
        })
    }
}

/// Device and directory of what is mounted on `/`, in the text of `mountinfo`.
/// A process in a plain chroot has no such line.
fn root_mount(mountinfo: &str) -> Option<String> {
    let mut root = None;
    for line in mountinfo.lines() {
        // mount id, parent id, major:minor, directory in that file system, mount point
        let mut fields = line.split(' ').skip(2);
        if let (Some(device), Some(directory), Some("/")) =
            (fields.next(), fields.next(), fields.next())
        {
            // A later mount covers an earlier one.
            root = Some(format!("{device} {directory}"));
        }
    }
    root
}

/// The host's users, read again when the file changes.
struct HostNames {
    place: Option<Place>,
    path: PathBuf,
    modified: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl HostNames {
    /// In a pod with the host's pids, pid 1 is the host's. Where we may not look
    /// at pid 1 we are on the host ourselves, or as good as.
    fn open() -> Self {
        let candidates = ["/proc/1", "/proc/self"].map(Path::new);
        let found = candidates.into_iter().find_map(|directory| {
            let place = Place::of(&ProcDir::open_path(directory).ok()?)?;
            let path = directory.join("root/etc/passwd");
            path.metadata().ok()?;
            Some((place, path))
        });
        let (place, path) = found.unzip();
        Self {
            place,
            path: path.unwrap_or_default(),
            modified: None,
            names: HashMap::new(),
        }
    }

    fn name(&mut self, uid: u32) -> Option<String> {
        let modified = self
            .path
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok();
        if modified != self.modified {
            let mut text = Vec::new();
            let file = File::open(&self.path).ok()?;
            file.take(PASSWD_LIMIT).read_to_end(&mut text).ok()?;
            self.names = parse_passwd(&String::from_utf8_lossy(&text));
            self.modified = modified;
        }
        self.names.get(&uid).cloned()
    }
}

/// Reads `name:password:uid:…` lines; the first name of a uid counts, as in
/// `getpwuid`.
fn parse_passwd(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (
            fields.next(),
            fields.nth(1).map(|field| field.parse::<u32>()),
        ) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first name of a uid counts and odd lines are passed over.
    #[test]
    fn passwd() {
        let names =
            parse_passwd("root:x:0:0:r:/root:/bin/sh\ntoor:x:0:0\n+::::\nx\n\nu:x:-1:\na:x:7:");
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], "root");
        assert_eq!(names[&7], "a");
    }

    /// The topmost mount on `/` is the root; without one there is none.
    #[test]
    fn root_is_the_last_mount_on_it() {
        let text = "1 0 0:2 / / rw - rootfs rootfs rw\n22 1 8:1 /@ / rw - ext4 /dev/x rw\n\
                    23 22 0:21 / /proc rw - proc proc rw\n";
        assert_eq!(root_mount(text).as_deref(), Some("8:1 /@"));
        assert_eq!(root_mount("23 22 0:21 / /proc rw\nodd"), None);
    }

    /// Our own process is on the host as far as this machine goes.
    #[test]
    fn own_name() {
        let own = ProcDir::open_path(Path::new("/proc/self")).unwrap();
        assert_eq!(name(&own, None), "");
        assert_eq!(name(&own, Some(4_000_000_000)), "4000000000");
        assert_eq!(name(&own, Some(0)), "root");
    }
}
