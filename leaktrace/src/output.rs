//! Owns where a report goes: to a file, a pipe or a terminal, and what a terminal can show.
//! Must not know how reports are made or what they look like.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};

use crate::{
    config::{Colour, Format},
    report::{
        model::{End, Host, Report, Start},
        sink::Sink,
        snapshot::Snapshot,
        text::Style,
    },
};

/// Width of the text where the terminal does not tell.
const WIDTH_DEFAULT: usize = 100;

/// To the top left corner.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears the rest of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// Where reports go and in which form.
pub struct Output {
    to: Box<dyn Write>,
    sink: Sink,
    style: Style,
    /// Reports take the place of the one before, but for the last.
    redraws: bool,
    has_drawn: bool,
}

/// What is asked of an output.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The form.
    pub format: Format,
    /// The file; `None` for stdout.
    pub path: Option<PathBuf>,
    /// Whether text is in colours.
    pub colour: Colour,
    /// Whether several reports come, each of which makes the one before it old.
    pub redraws: bool,
}

impl Output {
    /// Opens it, so that what is impossible is told before anything is traced.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the form is nothing for a terminal.
    pub fn open(wanted: &Wanted) -> anyhow::Result<Self> {
        let is_terminal = wanted.path.is_none() && io::stdout().is_terminal();
        ensure!(
            !(is_terminal && wanted.format.is_binary()),
            "a profile in pprof's form is nothing for a terminal; remedy: --output FILE, or a pipe"
        );
        let to: Box<dyn Write> = match &wanted.path {
            Some(path) => Box::new(File::create(path).with_context(|| {
                format!(
                    "cannot write to {}; remedy: another --output",
                    path.display()
                )
            })?),
            None => Box::new(io::stdout()),
        };
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style {
            width: terminal_size().map_or(WIDTH_DEFAULT, |(width, _)| width),
            colour: match wanted.colour {
                Colour::Always => true,
                Colour::Never => false,
                Colour::Auto => is_terminal && !is_plain,
            },
            unicode: true,
        };
        Ok(Self {
            to,
            sink: Sink::new(wanted.format, style),
            style,
            redraws: wanted.redraws && is_terminal && wanted.format == Format::Text,
            has_drawn: false,
        })
    }

    /// The beginning of a run.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn start(&mut self, host: &Host, start: &Start) -> io::Result<()> {
        let bytes = self.sink.start(host, start);
        self.write(&bytes)
    }

    /// A report; the last one stays whole on a terminal.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn report(&mut self, host: &Host, report: Report, is_last: bool) -> io::Result<()> {
        let bytes = self.sink.report(host, report);
        if !self.redraws {
            return self.write(&bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let (_, rows) = terminal_size().unwrap_or((WIDTH_DEFAULT, 24));
        let rows = if is_last { usize::MAX } else { rows };
        let drawn = redrawn(&text, rows, !self.has_drawn);
        self.has_drawn = true;
        self.write(drawn.as_bytes())
    }

    /// The last reports of a run that is over.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn snapshot(&mut self, snapshot: Snapshot) -> io::Result<()> {
        let bytes = self.sink.snapshot(snapshot);
        self.write(&bytes)
    }

    /// The end of a run.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn end(&mut self, host: &Host, end: &End) -> io::Result<()> {
        let bytes = self.sink.end(host, end);
        self.write(&bytes)
    }

    /// What is due when nothing more comes.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<()> {
        let bytes = self.sink.finish();
        self.to.write_all(&bytes)?;
        self.to.flush()
    }

    /// What text looks like here.
    #[must_use]
    pub fn style(&self) -> &Style {
        &self.style
    }

    /// Bytes that are in their form already.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.to.write_all(bytes)?;
        self.to.flush()
    }
}

/// A report in place of the one before it: line over line, so that nothing flickers, and no more of
/// them than the screen has rows.
fn redrawn(text: &str, rows: usize, is_first: bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut drawn = String::with_capacity(text.len() + 256);
    // What stood there before the first one scrolls away rather than being overwritten.
    if is_first {
        drawn.push_str("\x1b[2J");
    }
    drawn.push_str(HOME);
    let is_cut = lines.len() >= rows;
    let kept = if is_cut {
        // One row for the note, and one for the cursor.
        rows.saturating_sub(2)
    } else {
        lines.len()
    };
    for line in &lines[..kept] {
        drawn.extend([line, CLEAR_LINE, "\n"]);
    }
    if is_cut {
        let more = lines.len() - kept;
        drawn.push_str(&format!("… {more} more lines{CLEAR_LINE}\n"));
    }
    drawn.push_str(CLEAR_BELOW);
    drawn
}

/// Who reads no more has had enough: that is no error.
///
/// # Errors
///
/// Those that are none of a closed pipe.
pub fn forgive_closed_pipe(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context("failed to write the report")),
        Ok(()) => Ok(()),
    }
}

/// Columns and rows of the terminal that stdout is, if it is one.
fn terminal_size() -> Option<(usize, usize)> {
    let (terminal_size::Width(width), terminal_size::Height(height)) =
        terminal_size::terminal_size()?;
    Some((usize::from(width).max(40), usize::from(height).max(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report that is too long for the screen is cut to its rows; the last one is not.
    #[test]
    fn reports_fit_the_screen() {
        let text = "1\n2\n3\n4\n5\n";
        assert_eq!(
            redrawn(text, 4, true),
            "\x1b[2J\x1b[H1\x1b[K\n2\x1b[K\n… 3 more lines\x1b[K\n\x1b[J"
        );
        assert_eq!(
            redrawn("1\n2\n", 4, false),
            "\x1b[H1\x1b[K\n2\x1b[K\n\x1b[J"
        );
        let whole = redrawn(text, usize::MAX, false);
        assert!(whole.contains('5') && !whole.contains("more"));
    }
}
