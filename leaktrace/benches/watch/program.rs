//! Owns the program that is watched: the tests' storm, whose pace and leak are set, and which tells what CPU it took.
//! Must not know who watches it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// As long as a line of the program's pace may be late: it tells four a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it has done since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Pairs of malloc and free.
    pub pairs: f64,
    /// CPU time, in seconds.
    pub cpu_s: f64,
    /// Time, in seconds.
    pub wall_s: f64,
}

impl Pace {
    /// The part of one CPU that it took since an earlier pace.
    pub fn cpu_since(self, before: Self) -> f64 {
        (self.cpu_s - before.cpu_s) / (self.wall_s - before.wall_s)
    }

    /// Pairs a second since an earlier pace.
    pub fn pairs_since(self, before: Self) -> f64 {
        (self.pairs - before.pairs) / (self.wall_s - before.wall_s)
    }
}

/// The program; killed when dropped.
pub struct Program {
    child: Child,
    orders: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Program {
    /// Compiles it into a directory.
    pub fn compile(directory: &Path) -> anyhow::Result<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/storm.c");
        let program = directory.join("storm");
        let status = Command::new("cc")
            .args(["-O1", "-g", "-fno-omit-frame-pointer", "-pthread", "-o"])
            .arg(&program)
            .arg(&source)
            .status()
            .context("failed to start cc; remedy: install a C compiler")?;
        ensure!(status.success(), "cc failed on {}", source.display());
        Ok(program)
    }

    /// Starts it at a pace: pairs and leaked bytes a second.
    pub fn start(program: &Path, pace: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let orders = child.stdin.take().context("it has a stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("it has a stdout")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut program = Self {
            child,
            orders,
            lines,
        };
        program.set(pace)?;
        Ok(program)
    }

    /// Sets its pace.
    pub fn set(&mut self, pace: &str) -> anyhow::Result<()> {
        writeln!(self.orders, "{pace}").context("the program is gone")
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next pace, after all that it has told so far.
    pub fn pace(&self) -> anyhow::Result<Pace> {
        self.lines.try_iter().for_each(drop);
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.context("the program says nothing")?;
            let Some(figures) = line.strip_prefix("pace ") else {
                continue;
            };
            let mut figures = figures.split(' ').map_while(|it| it.parse::<f64>().ok());
            let mut next = || figures.next().context("a pace has three figures");
            return Ok(Pace {
                pairs: next()?,
                cpu_s: next()? / 1e9,
                wall_s: next()? / 1e9,
            });
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
