//! Owns `leaktrace watch`: the daemon that looks at every process's memory, without any probe, and
//! tells whose keeps growing.
//! Must not know options as they are typed.

mod survey;
mod tell;
mod trend;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    host::clock::Clock,
    listen::{Access, Board, Listener},
    notify,
    report::{
        json::JsonStream,
        model::{End, Process, Report, Start},
    },
    session,
};
use survey::Survey;

/// Processes that grow and are told in one report, the fastest first.
const GROWING_MAX: usize = 100;

/// What `leaktrace watch` is to do.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// A report each.
    pub interval: Duration,
    /// How long; `None` until a signal comes.
    pub duration: Option<Duration>,
    /// How often the memory of every process is looked at.
    pub look_pause: Duration,
    /// So many of the largest processes are told, also where nothing grows.
    pub largest: usize,
    /// Where figures are served, and the file of the token that opens them.
    pub listen: Option<(SocketAddr, Option<PathBuf>)>,
    /// The options as the stream's first line tells them.
    pub told: BTreeMap<&'static str, String>,
}

/// Watches until a signal comes or the duration is over.
///
/// # Errors
///
/// In one line that names the object and the remedy.
pub async fn run(config: WatchConfig) -> anyhow::Result<()> {
    let stop = session::watch_signals()?;
    let board = Arc::new(Board::default());
    if let Some((address, token)) = &config.listen {
        let access = token.as_deref().map(Access::from_file).transpose()?;
        let listener = Listener::bind(*address, access.unwrap_or(Access::Open))?;
        tokio::spawn(listener.serve(Arc::clone(&board)));
    }
    let clock = Clock::anchor().context("failed to read the clocks")?;
    let mut survey = Survey::new(config.look_pause);
    survey.look()?;
    let mut run = Run {
        stream: JsonStream::new(session::host()),
        began: Instant::now(),
        began_ns: Clock::now_boot_ns(),
        reports: 0,
        refused_told: 0,
        is_read: true,
        config,
        clock,
        survey,
        board,
    };
    run.start()?;
    let reason = run.until_end(stop).await?;
    run.end(reason)
}

/// A run once everything is in place.
struct Run {
    config: WatchConfig,
    clock: Clock,
    survey: Survey,
    stream: JsonStream,
    board: Arc<Board>,
    began: Instant,
    began_ns: u64,
    reports: u32,
    /// Processes not followed that reports told of.
    refused_told: u64,
    /// Whether anybody reads.
    is_read: bool,
}

impl Run {
    fn now_unix_ns(&self) -> u64 {
        self.clock.boot_to_unix_ns(Clock::now_boot_ns())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let start = Start {
            time_unix_ns: self.now_unix_ns(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: session::kernel(),
            mode: "watch".to_owned(),
            options: self.config.told.clone(),
        };
        self.write(|stream, bytes| stream.start(&start, bytes))?;
        eprintln!(
            "leaktrace: watching {} processes, every {:?}; Ctrl-C to stop",
            self.survey.count(),
            self.config.look_pause,
        );
        self.board.set_ready();
        if let Err(error) = notify::ready() {
            eprintln!("leaktrace: failed to tell the supervisor that watching began: {error}");
        }
        Ok(())
    }

    async fn until_end(&mut self, mut stop: Receiver<bool>) -> anyhow::Result<&'static str> {
        // A deadline that is never reached stands for none.
        let far = Duration::from_secs(u64::from(u32::MAX));
        let end = self.began + self.config.duration.unwrap_or(far);
        let mut look = interval(self.config.look_pause);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut next_report = self.began + self.config.interval;
        while self.is_read {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok("signal"),
                () = sleep_until(end) => return Ok("duration"),
                () = sleep_until(next_report) => {
                    self.report()?;
                    next_report += self.config.interval;
                }
                _ = look.tick() => {
                    self.survey.look()?;
                    self.board.beat();
                }
            }
        }
        Ok("closed pipe")
    }

    /// Writes a report and shows it to those who ask.
    fn report(&mut self) -> anyhow::Result<()> {
        self.reports += 1;
        let processes = self.processes();
        let mut lost = BTreeMap::new();
        let refused = self.survey.refused_count - self.refused_told;
        self.refused_told = self.survey.refused_count;
        if refused > 0 {
            lost.insert("processes_not_followed", refused);
        }
        let report = Report {
            number: self.reports,
            time_unix_ns: self.now_unix_ns(),
            elapsed: self.began.elapsed(),
            quiet_process_count: self.survey.count().saturating_sub(processes.len()) as u64,
            processes,
            lost,
            ..Report::default()
        };
        self.write(|stream, bytes| stream.report(&report, bytes))?;
        self.board.show(Arc::new(report));
        Ok(())
    }

    /// Those that keep growing, and the largest of the others.
    fn processes(&self) -> Vec<Process> {
        let ranked = self.survey.ranked();
        let growing = ranked.iter().filter(|seen| seen.trend.is_some()).count();
        let told = growing.min(GROWING_MAX).max(self.config.largest);
        let told = ranked.iter().take(told);
        told.filter_map(|seen| tell::unprobed(seen, &self.clock, self.began_ns, None))
            .collect()
    }

    fn end(&mut self, reason: &'static str) -> anyhow::Result<()> {
        if self.is_read {
            self.report()?;
        }
        let end = End {
            time_unix_ns: self.now_unix_ns(),
            elapsed: self.began.elapsed(),
            reports: self.reports,
            processes: self.survey.count() as u64,
            events: 0,
            lost: BTreeMap::new(),
            reason: reason.to_owned(),
        };
        self.write(|stream, bytes| stream.end(&end, bytes))
    }

    /// Writes to stdout; that nobody reads any more is noted, and no error.
    fn write(&mut self, lines: impl FnOnce(&JsonStream, &mut Vec<u8>)) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        lines(&self.stream, &mut bytes);
        if !self.is_read {
            return Ok(());
        }
        let mut output = io::stdout().lock();
        match output.write_all(&bytes).and_then(|()| output.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(())
            }
            Err(error) => Err(anyhow::Error::new(error).context("failed to write the report")),
        }
    }
}
