//! Owns what `leaktrace watch` remembers over a restart, and the file that it is in.
//! Must not know how it was learnt.
//!
//! Times are those of the boot clock, so a file of another boot is worth nothing, and processes are told by pid and start.
//! The file is written beside its place and then moved there: a torn one cannot come about by us, and one that is
//! damaged all the same is told and not used.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::lives::Lives;

/// The form of the file. A change that old programs would not survive takes a new one.
const FORM: &str = "leaktrace-watch/1";

/// More than 32 768 processes with all their figures take.
const FILE_BYTES_MAX: u64 = 128 << 20;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct State {
    form: String,
    boot_id: String,
    /// How the memory of processes went.
    pub courses: Vec<Course>,
    /// Who is left alone.
    pub left: Vec<Left>,
    /// Which programs came back, and how those before them ended; older files have none.
    #[serde(default)]
    pub lives: Lives,
}

/// How the memory of a process went.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Course {
    /// The process.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
    /// Seconds of the boot clock, and KiB.
    pub points: Vec<(f32, u32)>,
}

/// A process that is left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Left {
    /// The process.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
    /// Until when, in nanoseconds of the boot clock.
    pub until_ns: u64,
    /// For how long in all, in nanoseconds.
    pub for_ns: u64,
    /// Why.
    pub why: String,
}

impl State {
    /// What is to be remembered of this boot.
    #[must_use]
    pub fn new(courses: Vec<Course>, left: Vec<Left>, lives: Lives) -> Self {
        Self {
            form: FORM.to_owned(),
            boot_id: boot_id(),
            courses,
            left,
            lives,
        }
    }

    /// What was remembered; nothing where there is no file yet, or it is of another boot.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or makes no sense.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let options = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path);
        let file = match options {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).context(format!("failed to open {shown}")),
        };
        anyhow::ensure!(
            file.metadata().is_ok_and(|it| it.is_file()),
            "{shown} is no regular file"
        );
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .context(format!("failed to read {shown}"))?;
        let state: Self = serde_json::from_slice(&bytes).context(format!(
            "{shown} is damaged, or was written by something else"
        ))?;
        let is_ours = state.form == FORM && state.boot_id == boot_id();
        Ok(if is_ours { state } else { Self::default() })
    }

    /// Puts this in the place of what was remembered before.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be written; the file is then as it was.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let beside = beside(path);
        let written = (|| {
            // Whatever is there is a leftover of ours, or nothing that may be followed.
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = create(&beside)?;
            file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
            file.sync_all()?;
            fs::rename(&beside, path)
        })();
        written.with_context(|| format!("failed to write {}", path.display()))
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let place =
            std::env::temp_dir().join(format!("leaktrace-state-{}-{name}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        place
    }

    fn state() -> State {
        let course = Course {
            pid: 7,
            start_ticks: 70,
            points: vec![(1.5, 4096), (2.0, 5000)],
        };
        let left = Left {
            pid: 8,
            start_ticks: 80,
            until_ns: 5,
            for_ns: 4,
            why: "a \"leak\"\nwas found".into(),
        };
        State::new(vec![course], vec![left], Lives::default())
    }

    /// What was written is read again, and there is nothing to read at first.
    #[test]
    fn it_is_remembered() {
        let place = place("kept");
        let path = place.join("state.json");
        assert_eq!(State::read(&path).unwrap(), State::default());
        for _ in 0..2 {
            state().write(&path).unwrap();
            assert_eq!(State::read(&path).unwrap(), state());
        }
        fs::remove_dir_all(place).unwrap();
    }

    /// A torn file is told and not used, nor is one of another boot or form; a write that fails leaves the old one.
    #[test]
    fn what_is_damaged_is_not_used() {
        let place = place("torn");
        let path = place.join("state.json");
        state().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = State::read(&path).unwrap_err().to_string();
            assert!(error.contains("state.json is damaged"), "{error}");
        }
        let mut other = state();
        other.boot_id = "another".into();
        other.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), State::default());
        state().write(&path).unwrap();
        fs::create_dir_all(place.join("state.json.new/in the way")).unwrap();
        assert!(state().write(&path).is_err());
        assert_eq!(State::read(&path).unwrap(), state());
        fs::remove_dir_all(place).unwrap();
    }

    /// A link in the file's place is not followed.
    #[test]
    fn links_are_not_followed() {
        let place = place("link");
        let (path, other) = (place.join("state.json"), place.join("other"));
        state().write(&other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(State::read(&path).is_err());
        let before = fs::read(&other).unwrap();
        State::default().write(&path).unwrap();
        assert_eq!(fs::read(&other).unwrap(), before);
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        fs::remove_dir_all(place).unwrap();
    }
}
