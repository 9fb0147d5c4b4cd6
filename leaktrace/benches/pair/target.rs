//! Owns the measured program: building it, starting it and having it make pairs.
//! Must not know who traces it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};

const SOURCE: &str = include_str!("target.c");

/// Where the program and its C libraries are; gone when dropped.
pub struct Workshop {
    dir: PathBuf,
    library: PathBuf,
}

impl Workshop {
    /// Compiles the program, and finds the C library that it uses.
    pub fn open() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("leaktrace-pair-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let mut workshop = Self {
            dir,
            library: PathBuf::new(),
        };
        let source = workshop.dir.join("target.c");
        fs::write(&source, SOURCE)?;
        let status = Command::new("cc")
            .args(["-O1", "-g", "-fno-omit-frame-pointer", "-o"])
            .arg(workshop.program())
            .arg(&source)
            .status()
            .context("failed to start cc; remedy: install a C compiler")?;
        ensure!(status.success(), "cc failed on {}", source.display());
        workshop.library = library_of(&workshop.program())?;
        Ok(workshop)
    }

    fn program(&self) -> PathBuf {
        self.dir.join("target")
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What stays is a few megabytes in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The path of the C library that a program is started with.
fn library_of(program: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new("ldd").arg(program).output()?;
    let output = String::from_utf8_lossy(&output.stdout);
    let mut words = output
        .split_whitespace()
        .skip_while(|word| *word != "libc.so.6");
    let path = words.nth(2).context("ldd names no libc.so.6")?;
    Ok(fs::canonicalize(path)?)
}

/// A running program with a C library of its own: a probe of one tracer is no other tracer's, and
/// all can stay in place while the rounds go from one to the next.
pub struct Target {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Its C library.
    pub library: PathBuf,
}

impl Target {
    /// Starts one; `name` tells its library from others'.
    pub fn start(workshop: &Workshop, name: &str) -> anyhow::Result<Self> {
        let dir = workshop.dir.join(name);
        fs::create_dir(&dir)?;
        let library = dir.join("libc.so.6");
        fs::copy(&workshop.library, &library)?;
        // A tracer must find its code pages in memory, not on their way to the disk.
        File::open(&library)?.sync_all()?;
        let mut child = Command::new(workshop.program())
            .env("LD_LIBRARY_PATH", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the measured program")?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut target = Self {
            child,
            orders,
            answers,
            library,
        };
        // Once it has answered it has mapped its library.
        target.spend(0, 1)?;
        Ok(target)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it make pairs below `depth` calls; gives the CPU nanoseconds that they took.
    pub fn spend(&mut self, depth: u32, pairs: u64) -> anyhow::Result<f64> {
        writeln!(self.orders, "{depth} {pairs}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer
            .trim()
            .parse()
            .context("the measured program did not answer")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // One that is gone already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
