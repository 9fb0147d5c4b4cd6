//! Owns the measured program: building it by each version of Go, starting it, having it make objects.
//! Must not know who traces it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// Where its program is; gone when dropped.
pub struct Workshop {
    dir: PathBuf,
    /// The program.
    pub program: PathBuf,
}

impl Workshop {
    /// Builds the program by a version of Go that xtask has installed.
    pub fn open(version: &str) -> anyhow::Result<Self> {
        let cache = env::var_os("LEAKTRACE_CACHE");
        let cache = PathBuf::from(cache.context("run it by `cargo xtask bench`")?);
        let id = std::process::id();
        let dir = env::temp_dir().join(format!("leaktrace-go-{version}-{id}"));
        fs::create_dir(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let program = dir.join("target");
        let workshop = Self { dir, program };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/go/target.go");
        let mut build = Command::new(cache.join(format!("go-{version}/go/bin/go")));
        build.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local");
        build.env("GOFLAGS", "").env("CGO_ENABLED", "0");
        build.env("GOPATH", workshop.dir.join("gopath"));
        build.env("GOCACHE", cache.join("go-build"));
        build.args(["build", "-o"]).arg(&workshop.program);
        let status = build.arg(source).status().context("failed to start go")?;
        ensure!(status.success(), "{build:?}: {status}");
        Ok(workshop)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What stays is a few megabytes in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A running program, from a file of its own: a probe of one tracer is no other tracer's.
pub struct Target {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Its file.
    pub program: PathBuf,
}

impl Target {
    /// Starts one that profiles its own heap at this rate, 0 for never; `name` tells its file from others'.
    pub fn start(workshop: &Workshop, name: &str, rate: u32) -> anyhow::Result<Self> {
        let program = workshop.dir.join(name.replace(' ', "-"));
        fs::copy(&workshop.program, &program)?;
        let mut child = Command::new(&program)
            .arg(rate.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the measured program")?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self {
            child,
            orders,
            answers,
            program,
        })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it make objects; gives the CPU nanoseconds that they took.
    pub fn spend(&mut self, kind: &str, count: u64) -> anyhow::Result<f64> {
        writeln!(self.orders, "{kind} {count}")?;
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
