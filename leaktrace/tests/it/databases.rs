//! Owns a database under the load tool that comes with it.
//! Must not know what it allocates.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{PATIENCE, agent::Agent, kernel, workload::wait},
    oracle::subjects::postgres_bin,
    servers::assert_adds_up,
};

/// Whom postgres, which refuses to be root, is run as.
const NOBODY: u32 = 65_534;

/// A server with one database of its own; ended and removed when dropped.
struct Postgres {
    bin: PathBuf,
    directory: PathBuf,
    server: Child,
}

impl Postgres {
    /// Makes a database and starts its server.
    fn start() -> Self {
        let bin = postgres_bin();
        // Where nobody else can go.
        let name = format!("leaktrace-pgbench-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut initdb = as_nobody(&bin.join("initdb"));
        initdb.args(["--no-sync", "-U", "nobody", "-D"]);
        assert!(initdb.arg(&directory).status().unwrap().success());
        let mut command = as_nobody(&bin.join("postgres"));
        command
            .arg("-D")
            .arg(&directory)
            .args(["-F", "-h", "", "-k"]);
        let server = command.arg(&directory).spawn().unwrap();
        let postgres = Self {
            bin,
            directory,
            server,
        };
        let deadline = Instant::now() + PATIENCE;
        while !postgres.client("pg_isready").status().unwrap().success() {
            assert!(Instant::now() < deadline, "postgres answers");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        postgres
    }

    fn client(&self, program: &str) -> Command {
        let mut command = as_nobody(&self.bin.join(program));
        command.arg("-h").arg(&self.directory);
        command.args(["-U", "nobody", "-d", "postgres"]);
        command
    }

    /// Runs its load tool, which fails where one transaction does.
    fn load(&self, options: &[&str]) {
        let status = self.client("pgbench").args(options).status().unwrap();
        assert!(status.success(), "pgbench {options:?}: {status}");
    }

    /// Asks it to end, which it must do well.
    fn end(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        let status = wait(&mut self.server);
        assert!(status.success(), "postgres failed: {status}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its children end with it. One that has ended already is what was wanted.
        let pid = Pid::from_raw(i32::try_from(self.server.id()).unwrap_or(i32::MAX));
        if matches!(self.server.try_wait(), Ok(None)) {
            let _ = kill(pid, Signal::SIGQUIT);
            let _ = wait(&mut self.server);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// postgres under pgbench: no transaction fails, during the trace or after it, the server's figures add up, every process
/// that it started under the trace to serve them is seen in full, and the server ends well.
#[test]
fn postgres_under_its_load_tool() {
    let Some(_turn) = kernel::turn_with("pg_ctlcluster", || ()) else {
        return;
    };
    let postgres = Postgres::start();
    let pid = postgres.server.id();
    let agent = Agent::trace(&["--pid", &pid.to_string()]);
    postgres.load(&["--initialize", "--quiet", "--scale=1"]);
    postgres.load(&["--client=4", "--transactions=50", "--no-vacuum"]);
    let stream = agent.interrupt();
    let server = stream.process(pid);
    assert_adds_up(&server);
    let others = stream.lines.iter();
    let others = others.filter(|line| line["type"] == "process" && line["process"]["pid"] != pid);
    let mut served = 0;
    for line in others {
        assert_eq!(
            line["process"]["executable"]["name"], "postgres",
            "{line:#}"
        );
        if line["coverage"] == "none" {
            // One that helps for a moment may be faster than its probes.
            assert_eq!(
                line["coverage_reason"], "it ended before its probes were in place",
                "{line:#}"
            );
            continue;
        }
        assert_eq!(line["coverage"], "full", "{line:#}");
        let lost = &line["accuracy"]["lost"];
        assert!(lost["allocations_lost"].is_null(), "{line:#}");
        served += u32::from(line["allocated_bytes"].as_u64().unwrap() > 0);
    }
    assert!(served >= 4, "each client has a process: {served}");
    postgres.load(&["--client=2", "--transactions=10", "--no-vacuum"]);
    postgres.end();
}
