//! Owns the conversation with a workload, as `tests/workloads/workload.h` defines it.
//! Must not know whether or how it is traced.

use std::{
    io::Write as _,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::Instant,
};

use serde_json::Value;

use super::{PATIENCE, lines::Lines, programs};

/// What a site holds, as the program itself knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Whose site it is.
    pub pid: u32,
    /// The function that allocates.
    pub function: String,
    /// Blocks.
    pub live_count: u64,
    /// Bytes asked for.
    pub live_bytes: u64,
}

impl Truth {
    /// From the JSON that follows the word `truth`.
    fn parse(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).unwrap();
        let number = |name: &str| json[name].as_u64().unwrap();
        Self {
            pid: u32::try_from(number("pid")).unwrap(),
            function: json["function"].as_str().unwrap().to_owned(),
            live_count: number("live_count"),
            live_bytes: number("live_bytes"),
        }
    }
}

/// What a workload said until it settled.
#[derive(Debug, Default)]
pub struct Phase {
    /// What its sites hold.
    pub truths: Vec<Truth>,
    /// All other lines.
    pub notes: Vec<String>,
}

impl Phase {
    /// The truths of one process.
    pub fn of(&self, pid: u32) -> Vec<Truth> {
        let of_it = self.truths.iter().filter(|truth| truth.pid == pid);
        of_it.cloned().collect()
    }

    /// The JSON that follows a word, of the first line that begins with it.
    pub fn note(&self, word: &str) -> Value {
        let mut rests = self.notes.iter().filter_map(|it| it.strip_prefix(word));
        serde_json::from_str(rests.next().expect(word)).unwrap()
    }

    /// Every process that told a truth, once each.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self.truths.iter().map(|truth| truth.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

/// Both ends of a conversation.
pub struct Talk {
    input: Option<ChildStdin>,
    lines: Lines,
}

impl Talk {
    /// With a child whose streams are pipes.
    pub fn new(input: ChildStdin, output: ChildStdout) -> Self {
        Self {
            input: Some(input),
            lines: Lines::of(output),
        }
    }

    /// Says a line.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open until it is closed");
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Says that nothing more will be said, which ends every workload.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Passes over what was said up to now.
    pub fn forget(&mut self) {
        self.lines.take_waiting();
    }

    /// Waits for a line that begins so.
    pub fn hear(&mut self, prefix: &str) -> String {
        self.lines.find(prefix)
    }

    /// Waits for `ready`, and gives the pid that it tells.
    pub fn ready(&mut self) -> u32 {
        let line = self.hear("ready ");
        line["ready ".len()..].parse().unwrap()
    }

    /// Lets the next phase begin, and waits until it is over.
    pub fn phase(&mut self) -> Phase {
        self.say("");
        let mut phase = Phase::default();
        loop {
            let line = self.lines.next().expect("it settles before it ends");
            match line.strip_prefix("truth ") {
                Some(truth) => phase.truths.push(Truth::parse(truth)),
                None if line == "settled" => return phase,
                None => phase.notes.push(line),
            }
        }
    }
}

/// A running program; killed when dropped.
pub struct Workload {
    child: Child,
    pid: u32,
    /// The conversation with it.
    pub talk: Talk,
}

impl Workload {
    /// Starts a program of `tests/workloads` and waits until it is ready.
    pub fn start(name: &str, args: &[&str]) -> Self {
        Self::run(Command::new(programs::workload(name)).args(args))
    }

    /// Starts a command that is one, and waits until it is ready.
    pub fn run(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut workload = Self {
            pid: child.id(),
            child,
            talk: Talk::new(input.unwrap(), output.unwrap()),
        };
        workload.pid = workload.talk.ready();
        workload
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its pid as an argument.
    pub fn pid_text(&self) -> String {
        self.pid.to_string()
    }

    /// It has neither ended nor crashed.
    pub fn assert_runs(&mut self) {
        let status = self.child.try_wait().unwrap();
        assert!(status.is_none(), "the workload ended: {status:?}");
    }

    /// Lets it end and waits until it has, well.
    pub fn finish(mut self) {
        self.talk.close();
        let status = wait(&mut self.child);
        assert!(status.success(), "the workload failed: {status}");
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child's end, which must come.
pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("process {} did not end in time", child.id());
        }
        // std has no wait with a deadline; this one ends with the child's end.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
