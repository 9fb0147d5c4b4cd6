//! Owns the reading of a child's lines without ever waiting for ever.
//! Must not know what they say.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::PATIENCE;

/// A stream of lines, read by a thread so that the child never finds a full pipe.
pub struct Lines {
    receiver: mpsc::Receiver<String>,
    /// Everything that was taken so far, for what a failure has to tell.
    taken: Vec<String>,
}

impl Lines {
    /// Reads from here on.
    pub fn of(from: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|it| it > 0) {
                let text = String::from_utf8_lossy(&line);
                if sender.send(text.trim_end_matches('\n').to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self {
            receiver,
            taken: Vec::new(),
        }
    }

    /// The next line; `None` at the end.
    pub fn next(&mut self) -> Option<String> {
        self.next_before(Instant::now() + PATIENCE)
    }

    /// The first line from here on that begins so.
    pub fn find(&mut self, prefix: &str) -> String {
        self.find_within(prefix, PATIENCE)
    }

    /// The same for what takes its time.
    pub fn find_within(&mut self, prefix: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        while let Some(line) = self.next_before(deadline) {
            if line.starts_with(prefix) {
                return line;
            }
        }
        panic!("no line begins with {prefix:?}: {:#?}", self.taken)
    }

    /// Everything up to the end, what was taken before as well.
    pub fn all(mut self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        while self.next_before(deadline).is_some() {}
        self.taken
    }

    /// Everything that came so far, without waiting: for a stream that others hold open.
    pub fn so_far(mut self) -> Vec<String> {
        self.take_waiting();
        self.taken
    }

    /// Takes what came, without waiting.
    pub fn take_waiting(&mut self) {
        self.taken.extend(self.receiver.try_iter());
    }

    fn next_before(&mut self, deadline: Instant) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.receiver.recv_timeout(left) {
            Ok(line) => {
                self.taken.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no line came in time, after {:#?}", self.taken)
            }
        }
    }
}
