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
    Build::of("cc", &format!("{name}.c"), name).program()
}

/// The same, statically linked: it maps no C library, but has one in itself.
pub fn static_workload(name: &str) -> PathBuf {
    let output = format!("{name}-static");
    let build = Build::of("cc", &format!("{name}.c"), &output);
    build.with(&["-static"]).program()
}

/// The same, and without any symbol that could tell where its allocator is.
pub fn stripped_workload(name: &str) -> PathBuf {
    let output = format!("{name}-stripped");
    let build = Build::of("cc", &format!("{name}.c"), &output);
    build.with(&["-static", "-s"]).program()
}

/// How a program of `tests/workloads` is made.
pub struct Build {
    compiler: String,
    source: String,
    output: String,
    flags: Vec<String>,
}

impl Build {
    /// By this compiler, of this source, under this name.
    pub fn of(compiler: &str, source: &str, output: &str) -> Self {
        let flags = if compiler == "rustc" {
            ["-C", "opt-level=1", "-C", "debuginfo=0", "--edition=2024"].as_slice()
        } else {
            FLAGS
        };
        Self {
            compiler: compiler.to_owned(),
            source: source.to_owned(),
            output: output.to_owned(),
            flags: flags.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    /// With these flags, behind the source: libraries are looked for what is missing up to there.
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&it| it.to_owned()));
        self
    }

    /// Makes it, once a run.
    pub fn program(&self) -> PathBuf {
        static COMPILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let path = scratch().join(&self.output);
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.insert(self.output.clone()) {
            let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads");
            // Moved into place, since a file that someone executes cannot be written.
            let fresh = scratch().join(format!("{}.new", self.output));
            let mut command = Command::new(&self.compiler);
            command.arg(sources.join(&self.source)).args(&self.flags);
            let status = command.arg("-o").arg(&fresh).status();
            let status = status.unwrap_or_else(|error| panic!("{}: {error}", self.compiler));
            assert!(status.success(), "{command:?}: {status}");
            fs::rename(&fresh, &path).unwrap();
        }
        path
    }
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

/// What xtask keeps; where it is missing, the test says that it is skipped.
pub fn kept<F: Fn()>(path: &str, here: F) -> Option<PathBuf> {
    let path = cache().join(path);
    if !path.exists() {
        let remedy = "`cargo xtask setup --test-programs` brings it";
        super::kernel::skip(&here, &format!("{} is missing; {remedy}", path.display()));
        return None;
    }
    Some(path)
}

/// Where xtask keeps what it installs.
pub fn cache() -> PathBuf {
    let below = |variable: &str, below: &str| {
        let dir = env::var_os(variable).filter(|dir| !dir.is_empty());
        dir.map(|dir| Path::new(&dir).join(below))
    };
    below("LEAKTRACE_CACHE", "")
        .or_else(|| below("XDG_CACHE_HOME", "leaktrace"))
        .or_else(|| below("HOME", ".cache/leaktrace"))
        .expect("there is a home directory")
}
