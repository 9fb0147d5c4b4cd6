//! Owns the agent that watches: its lines, and the CPU that it takes.
//! Must not know whom it watches.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// The agent; killed when dropped.
pub struct Agent {
    child: Child,
    /// What it says, on both streams, each line with its time.
    lines: mpsc::Receiver<(Instant, String)>,
}

impl Agent {
    /// Starts `leaktrace watch` and waits until it is ready.
    pub fn watch(args: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leaktrace"))
            .arg("watch")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start the agent")?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().context("it has a stdout")?;
        let stderr = child.stderr.take().context("it has a stderr")?;
        read(stdout, sender.clone());
        read(stderr, sender);
        let agent = Self { child, lines };
        agent.find("leaktrace: watching ", Duration::from_secs(60))?;
        Ok(agent)
    }

    /// The first line from here on that has this in it, and when it came.
    pub fn find(&self, what: &str, patience: Duration) -> anyhow::Result<(Instant, String)> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((at, line)) if line.contains(what) => return Ok((at, line)),
                Ok(_) => {}
                Err(_) => bail!("the agent did not say {what:?} in {patience:?}"),
            }
        }
    }

    /// Seconds of CPU that all of its threads took.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()))?;
        let mut ns = 0.0;
        for task in tasks.flatten() {
            // A thread that ended meanwhile is short of what it took: none of the lasting ones does.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next();
            ns += first.and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0);
        }
        Ok(ns / 1e9)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: impl Read + Send + 'static, to: mpsc::Sender<(Instant, String)>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
}
