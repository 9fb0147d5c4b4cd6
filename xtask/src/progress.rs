//! Owns the one line that tells how far a long cargo run is.
//! Must not know what is built.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::time::{Duration, Instant};

/// How often a log, which cannot be overwritten like a terminal, gets a line.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// How often a terminal is redrawn: more would only flicker.
const REDRAW_EVERY: Duration = Duration::from_millis(250);

/// What is known of a running build.
pub struct Progress {
    what: &'static str,
    started: Instant,
    shown: Option<Instant>,
    crates: Option<(u32, u32)>,
    is_terminal: bool,
}

impl Progress {
    /// Starts to follow a build.
    pub fn new(what: &'static str, started: Instant) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self {
            what,
            started,
            shown: None,
            crates: None,
            is_terminal,
        }
    }

    /// Reads what cargo says until it ends, keeps it in `log` and shows the state.
    ///
    /// # Errors
    /// Fails where cargo's words cannot be read or logged.
    pub fn follow(&mut self, mut said: impl Read, mut log: File) -> io::Result<()> {
        let mut chunk = [0; 4096];
        let mut line = Vec::new();
        loop {
            let length = said.read(&mut chunk)?;
            if length == 0 {
                return log.flush();
            }
            for &byte in &chunk[..length] {
                // Cargo redraws its bar behind a carriage return, without a new line.
                if byte == b'\n' || byte == b'\r' {
                    self.line(&String::from_utf8_lossy(&line), &mut log)?;
                    line.clear();
                } else {
                    line.push(byte);
                }
            }
        }
    }

    /// Takes one line: the bar goes to the display, all else to the log.
    fn line(&mut self, line: &str, log: &mut File) -> io::Result<()> {
        if let Some(crates) = crates_of(line) {
            self.crates = Some(crates);
        } else if !line.trim().is_empty() {
            writeln!(log, "{}", line.trim_start_matches("\u{1b}[K"))?;
        }
        self.show();
        Ok(())
    }

    /// Shows the state, unless it was shown a moment ago.
    fn show(&mut self) {
        let pause = if self.is_terminal {
            REDRAW_EVERY
        } else {
            LOG_EVERY
        };
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let state = state(self.what, self.started.elapsed(), self.crates);
        if self.is_terminal {
            eprint!("\r\u{1b}[K{state}");
        } else {
            eprintln!("{state}");
        }
    }

    /// Takes the line off a terminal again.
    pub fn finish(&self) {
        if self.is_terminal {
            eprint!("\r\u{1b}[K");
        }
    }
}

/// The line that a user sees.
fn state(what: &str, elapsed: Duration, crates: Option<(u32, u32)>) -> String {
    let seconds = elapsed.as_secs();
    match crates {
        Some((done, all)) => format!("xtask: {what}: {done} of {all} crates built, {seconds} s"),
        None => format!("xtask: {what}: downloading, {seconds} s"),
    }
}

/// The counts in cargo's bar: `Building [==>  ] 12/97: syn, quote`.
fn crates_of(line: &str) -> Option<(u32, u32)> {
    let (_, behind) = line.split_once("Building [")?;
    let (_, behind) = behind.split_once(']')?;
    let (counts, _) = behind.split_once(':').unwrap_or((behind, ""));
    let (done, all) = counts.trim().split_once('/')?;
    Some((done.parse().ok()?, all.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts are found in cargo's bar, and in nothing else that it prints.
    #[test]
    fn cargos_bar_tells_the_counts() {
        assert_eq!(
            crates_of("    Building [====>     ] 12/97: syn, quote"),
            Some((12, 97))
        );
        assert_eq!(crates_of("    Building [==========] 96/97"), Some((96, 97)));
        assert_eq!(crates_of("   Compiling serde v1.0.228"), None);
        assert_eq!(crates_of("Downloading [==>  ] 3/9"), None);
    }

    /// Before the first crate is counted, the time alone says that something goes on.
    #[test]
    fn the_state_tells_time_and_crates() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            state("tool", minute, Some((3, 9))),
            "xtask: tool: 3 of 9 crates built, 60 s"
        );
        assert_eq!(
            state("tool", minute, None),
            "xtask: tool: downloading, 60 s"
        );
    }
}
