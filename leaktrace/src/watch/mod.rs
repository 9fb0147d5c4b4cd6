//! Owns `leaktrace watch`: the daemon that looks at every process's memory, without any probe, puts probes into
//! those that keep growing, and tells what was found.
//! Must not know options as they are typed.

mod account;
mod probing;
mod state;
mod survey;
mod suspects;
mod tell;
mod trend;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use rustc_hash::FxHashSet;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch::Receiver,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::{
    host::{
        clock::Clock,
        containers::{Containers, NAMES_PATIENCE, NameSources},
        process::ProcessFacts,
    },
    listen::{Access, Board, Listener},
    notify::{self, Watchdog},
    places,
    report::{
        json::JsonStream,
        model::{End, Process, Report, Start},
    },
    session,
    summary::View,
};
use state::State;
use survey::{Seen, Survey};
use suspects::Suspects;

/// Processes that grow and are told in one report, the fastest first.
const GROWING_MAX: usize = 100;

/// How often what was learnt is written.
const STATE_PAUSE: Duration = Duration::from_secs(60);

/// How long a report may wait for a window to end, and how often that is looked at.
const REPORT_DELAY_MAX: Duration = Duration::from_secs(1);
const REPORT_DELAY: Duration = Duration::from_millis(10);

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
    /// The part of one CPU that probes may take of the host, and so of each process.
    pub max_overhead: f64,
    /// Sites told of each process, and what counts as long-lived.
    pub view: View,
    /// Where the names of containers come from.
    pub names: NameSources,
    /// Where figures are served, and the file of the token that opens them.
    pub listen: Option<(SocketAddr, Option<PathBuf>)>,
    /// The file in which what was learnt outlives a restart.
    pub state: Option<PathBuf>,
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
    let hangup = signal(SignalKind::hangup()).context("failed to watch SIGHUP")?;
    let board = Arc::new(Board::default());
    let access = serve(&config, &board)?;
    let clock = Clock::anchor().context("failed to read the clocks")?;
    let mut containers = Containers::default();
    containers.name_by(config.names.clone());
    let mut suspects = Suspects::new(config.max_overhead, config.view, config.names.clone())?;
    let mut survey = Survey::new(config.look_pause);
    survey.look()?;
    if let Some(path) = &config.state {
        let state = State::read(path).unwrap_or_else(|error| {
            eprintln!("leaktrace: begins anew, because {error:#}");
            State::default()
        });
        survey.remember(&state.courses);
        suspects.remember(state.left);
    }
    let mut run = Run {
        stream: JsonStream::new(session::host()),
        began: Instant::now(),
        reports: 0,
        refused_told: 0,
        is_read: true,
        config,
        clock,
        survey,
        suspects,
        containers,
        board,
        access,
    };
    run.start()?;
    let reason = run.until_end(stop, hangup).await?;
    run.end(reason).await
}

/// A run once everything is in place.
struct Run {
    config: WatchConfig,
    clock: Clock,
    survey: Survey,
    suspects: Suspects,
    /// The names of those without probes.
    containers: Containers,
    stream: JsonStream,
    board: Arc<Board>,
    /// Who may ask for figures, where they are served.
    access: Option<Arc<RwLock<Access>>>,
    began: Instant,
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
            "leaktrace: watching {} processes, every {:?}, and no probe is in place; a trap costs {:.0} ns here; \
             Ctrl-C to stop",
            self.survey.count(),
            self.config.look_pause,
            self.suspects.ns_per_hit(),
        );
        self.board.set_ready();
        if let Err(error) = notify::ready() {
            eprintln!("leaktrace: failed to tell the supervisor that watching began: {error}");
        }
        Ok(())
    }

    async fn until_end(
        &mut self,
        mut stop: Receiver<bool>,
        mut hangup: Signal,
    ) -> anyhow::Result<&'static str> {
        let mut watchdog = Watchdog::from_env();
        let mut sign_of_life = interval(watchdog.pause().unwrap_or(STATE_PAUSE));
        let mut next_state = self.began + STATE_PAUSE;
        // A deadline that is never reached stands for none.
        let far = Duration::from_secs(u64::from(u32::MAX));
        let end = self.began + self.config.duration.unwrap_or(far);
        let mut look = interval(self.config.look_pause);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut next_report = self.began + self.config.interval;
        let mut delay = Duration::ZERO;
        while self.is_read {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok("signal"),
                () = sleep_until(end) => return Ok("duration"),
                () = sleep_until(next_report + delay) => {
                    // Names take a while, in which no window must go on.
                    if self.suspects.is_in_window() && delay < REPORT_DELAY_MAX {
                        delay += REPORT_DELAY;
                        continue;
                    }
                    self.report().await?;
                    next_report = Instant::now().max(next_report + self.config.interval);
                    delay = Duration::ZERO;
                }
                _ = sign_of_life.tick() => watchdog.beat(),
                () = sleep_until(next_state) => {
                    self.save();
                    next_state += STATE_PAUSE;
                }
                Some(()) = hangup.recv() => {
                    self.renew_access();
                    self.save();
                    self.report().await?;
                }
                _ = look.tick() => {
                    self.survey.look()?;
                    self.suspects.consider(&self.survey.ranked())?;
                    self.board.beat();
                }
                () = pause(&self.suspects) => self.suspects.look().await?,
                called = self.suspects.wait() => {
                    called.context("failed to wait for the ring")?;
                    self.suspects.look().await?;
                }
            }
        }
        Ok("closed pipe")
    }

    /// Writes a report and shows it to those who ask.
    async fn report(&mut self) -> anyhow::Result<()> {
        self.reports += 1;
        let ranked = self.survey.ranked();
        let Report {
            mut processes,
            mut lost,
            ..
        } = self.suspects.report(self.reports, &ranked).await?;
        self.add_unprobed(&mut processes, &ranked);
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
            min_age: self.config.view.min_age,
            lost,
        };
        self.write(|stream, bytes| stream.report(&report, bytes))?;
        self.board.show(Arc::new(report));
        Ok(())
    }

    /// Adds those that keep growing, and the largest of the others, as far as they are not told yet.
    fn add_unprobed(&mut self, processes: &mut Vec<Process>, ranked: &[Seen]) {
        let told: FxHashSet<u32> = processes.iter().map(|it| it.identity.pid).collect();
        let growing = ranked.iter().filter(|seen| seen.trend.is_some()).count();
        let listed = growing.min(GROWING_MAX).max(self.config.largest);
        let began_ns = self.suspects.began_ns();
        let mut unprobed = Vec::new();
        for seen in ranked.iter().take(listed) {
            // One that is gone meanwhile has no memory to tell of.
            let facts = ProcessFacts::read(seen.pid).ok();
            let is_same = |it: &ProcessFacts| it.start_ticks == seen.start_ticks;
            if let Some(facts) = facts.filter(is_same)
                && !told.contains(&seen.pid)
            {
                if let Some(container) = &facts.container {
                    self.containers.ask(container, seen.pid);
                }
                unprobed.push((seen, facts));
            }
        }
        self.containers.settle(NAMES_PATIENCE);
        for (seen, facts) in unprobed {
            let place = places::place(&self.containers, facts.container.as_ref());
            let why = self.suspects.why_left(seen.pid);
            let process = tell::unprobed(seen, facts, &self.clock, began_ns, why);
            processes.push(Process {
                container: place.0,
                k8s: place.1,
                ..process
            });
        }
    }

    /// Writes what was learnt; where that fails, the old file stays, and watching goes on.
    fn save(&self) {
        if let Some(path) = &self.config.state {
            let state = State::new(self.survey.courses(), self.suspects.left());
            if let Err(error) = state.write(path) {
                eprintln!("leaktrace: what was learnt is not kept: {error:#}");
            }
        }
    }

    /// Reads the token again; where that fails, the old one holds.
    fn renew_access(&self) {
        let token = self.config.listen.as_ref().and_then(|it| it.1.as_deref());
        if let (Some(access), Some(path)) = (&self.access, token) {
            match Access::from_file(path) {
                Ok(renewed) => *access.write().unwrap_or_else(PoisonError::into_inner) = renewed,
                Err(error) => eprintln!("leaktrace: the old token still holds: {error:#}"),
            }
        }
    }

    async fn end(&mut self, reason: &'static str) -> anyhow::Result<()> {
        // Whoever cannot be told will see it.
        let _ = notify::stopping();
        self.save();
        if self.is_read {
            self.report().await?;
        }
        let end = End {
            time_unix_ns: self.now_unix_ns(),
            elapsed: self.began.elapsed(),
            reports: self.reports,
            processes: self.survey.count() as u64,
            events: self.suspects.event_count(),
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

/// Begins to serve what the board shows, where that is asked for; gives who may ask.
fn serve(config: &WatchConfig, board: &Arc<Board>) -> anyhow::Result<Option<Arc<RwLock<Access>>>> {
    let Some((address, token)) = &config.listen else {
        return Ok(None);
    };
    let access = token.as_deref().map(Access::from_file).transpose()?;
    let listener = Listener::bind(*address, access.unwrap_or(Access::Open))?;
    let access = listener.access();
    tokio::spawn(listener.serve(Arc::clone(board)));
    Ok(Some(access))
}

/// Waits until those that have probes are to be looked at; for ever where there are none.
async fn pause(suspects: &Suspects) {
    match suspects.pause() {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}
