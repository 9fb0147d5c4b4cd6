//! Owns the programs that are traced: those of the project, compiled once a run, and the host's.
//! Must not know how they are run.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// As the workloads ask for at their beginning.
const FLAGS: &[&str] = &["-O1", "-g", "-fno-omit-frame-pointer", "-pthread"];

/// A directory for what a run makes, below the target directory.
pub fn scratch() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("it");
    fs::create_dir_all(&path).unwrap();
    path
}

/// A program of `tests/workloads`.
pub fn workload(name: &str) -> PathBuf {
    compiled(name, name, &[])
}

/// The same, statically linked: it maps no C library.
pub fn static_workload(name: &str) -> PathBuf {
    compiled(name, &format!("{name}-static"), &["-static"])
}

fn compiled(name: &str, output: &str, more: &[&str]) -> PathBuf {
    static COMPILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let path = scratch().join(output);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.insert(output.to_owned()) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads");
        // Moved into place, since a file that someone executes cannot be written.
        let fresh = scratch().join(format!("{output}.new"));
        let mut cc = Command::new("cc");
        cc.args(FLAGS).args(more);
        cc.arg(source.join(format!("{name}.c")));
        let status = cc.arg("-o").arg(&fresh).status().expect("there is a cc");
        assert!(status.success(), "{cc:?}: {status}");
        fs::rename(&fresh, &path).unwrap();
    }
    path
}

/// A program of the host. Servers lie where an ordinary user's `PATH` does not lead.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(servers)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// The C library that this test itself maps.
pub fn libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .filter_map(|line| line.find('/').map(|start| &line[start..]));
    let mut libc = path.filter(|path| path.ends_with("/libc.so.6"));
    PathBuf::from(libc.next().expect("tests are linked to a libc"))
}
