//! Owns `leaktrace watch`: the daemon that looks at every process's memory, without any probe, puts probes into
//! those that keep growing, and tells what was found.
//! Must not know options as they are typed.

mod account;
mod fresh;
mod groups;
mod lives;
mod probing;
mod report;
mod state;
mod survey;
mod suspects;
mod tell;
mod trend;
mod whom;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch::Receiver,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::{
    config::{Colour, Format, Targets},
    host::{
        clock::Clock,
        containers::{Containers, NameSources},
        footprint,
    },
    listen::{Access, Board, Listener},
    notify::{self, Watchdog},
    output::{Output, Wanted},
    report::model::{End, Host, Start},
    session,
    summary::View,
};
use state::State;
use survey::Survey;
use suspects::Suspects;
use whom::Whom;

/// How often what was learnt is written.
const STATE_PAUSE: Duration = Duration::from_secs(60);

/// How long a report may wait for a window to end, and how often that is looked at.
const REPORT_DELAY_MAX: Duration = Duration::from_secs(1);
const REPORT_DELAY: Duration = Duration::from_millis(10);

/// What `leaktrace watch` is to do.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// Whose memory is looked at; nobody named means everyone.
    pub targets: Targets,
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
    let mut survey = Survey::new(config.look_pause, Whom::new(config.targets.clone()));
    survey.look()?;
    if let Some(path) = &config.state {
        let state = State::read(path).unwrap_or_else(|error| {
            eprintln!("leaktrace: begins anew, because {error:#}");
            State::default()
        });
        survey.remember(&state.courses, state.lives);
        suspects.remember(state.left);
    }
    let mut run = Run {
        host: session::host(),
        output: Output::open(&Wanted {
            format: Format::Json,
            path: None,
            colour: Colour::Never,
            redraws: false,
        })?,
        began: Instant::now(),
        reports: 0,
        refused_told: [0; 2],
        is_read: true,
        config,
        clock,
        survey,
        suspects,
        containers,
        fresh: fresh::Fresh::default(),
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
    /// By what way those that grow get their memory.
    fresh: fresh::Fresh,
    host: Host,
    output: Output,
    board: Arc<Board>,
    /// Who may ask for figures, where they are served.
    access: Option<Arc<RwLock<Access>>>,
    began: Instant,
    reports: u32,
    /// Processes and groups not followed that reports told of.
    refused_told: [u64; 2],
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
        self.write(|output, host| output.start(host, &start))?;
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
                    self.suspects.let_go();
                    footprint::give_back();
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

    /// Writes what was learnt; where that fails, the old file stays, and watching goes on.
    fn save(&self) {
        if let Some(path) = &self.config.state {
            let state = State::new(
                self.survey.courses(),
                self.suspects.left(),
                self.survey.lives().clone(),
            );
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
        self.write(|output, host| output.end(host, &end))
    }

    /// Writes a piece of the stream; that nobody reads any more is noted, and no error.
    fn write(
        &mut self,
        piece: impl FnOnce(&mut Output, &Host) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.is_read {
            return Ok(());
        }
        match piece(&mut self.output, &self.host) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(())
            }
            written => written.context("failed to write the report"),
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
