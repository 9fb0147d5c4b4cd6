//! Owns one run of `leaktrace trace`: its beginning, its loop and its end.
//! Must not know how options are typed or how the trace works inside.

use std::{io, sync::Arc, time::Duration};

use anyhow::Context as _;
use leaktrace_common::policy::Policy;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    config::TraceConfig,
    host::{clock::Clock, node},
    launch::{self, Launch},
    listen::{Access, Board, Listener},
    notify,
    output::{Output, Wanted, forgive_closed_pipe},
    probes::{self, Settings},
    report::{
        model::{End, Host, Start},
        suppressions::{Suppressions, has_leak, keep_top},
    },
    saved,
    summary::View,
    tracer::Tracer,
};

/// How often the ring is read when the probes do not call: short enough that a new file is
/// probed and a new process looked at well within 100 ms.
const TICK: Duration = Duration::from_millis(20);

/// Sites listed where more are looked at than are shown: a suppressed one must not take the place of
/// another, and a leak must not hide below larger sites.
const SITES_LOOKED_AT: usize = 4_096;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// A site was judged to be growing.
    LeakFound,
}

/// Why the loop ended.
enum Reason {
    Duration,
    Signal,
    TargetsExited,
}

impl Reason {
    const fn name(&self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Signal => "signal",
            Self::TargetsExited => "targets exited",
        }
    }
}

/// Traces until the duration is over, a signal comes or the targets are gone.
///
/// # Errors
///
/// In one line that names the object and the remedy.
pub async fn run(config: TraceConfig) -> anyhow::Result<Outcome> {
    let stop = watch_signals()?;
    let suppressions = saved::suppressions(config.suppressions.as_deref())?;
    let mut output = Output::open(&Wanted {
        format: config.format,
        path: config.output.clone(),
        colour: config.colour,
        redraws: config.interval.is_some(),
    })?;
    let host = host();
    let mut tracer = load(&config)?;
    let mut launch = match config.targets.command.as_slice() {
        [] => None,
        command => Some(Launch::spawn(command)?),
    };
    let board = serve(&config)?;
    tracer.attach_targets(launch.as_ref())?;
    let clock = Clock::anchor().context("failed to read the clocks")?;
    let now_unix_ns = || clock.boot_to_unix_ns(Clock::now_boot_ns());
    let start = Start {
        time_unix_ns: now_unix_ns(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel(),
        mode: "trace".to_owned(),
        options: config.told.clone(),
    };
    if let Err(error) = output.start(&host, &start) {
        return closed_pipe(error);
    }
    announce(&tracer, launch.as_ref());
    if let Some(launch) = &mut launch {
        launch.start()?;
    }
    let began = Instant::now();
    let mut run = Run {
        config,
        tracer,
        launch,
        host,
        output,
        suppressions,
        board,
        reports: 0,
        found_leak: false,
    };
    let reason = match run.until_end(stop).await {
        Ok(reason) => reason,
        Err(error) => return error.downcast::<io::Error>().map_or_else(Err, closed_pipe),
    };
    let end = End {
        time_unix_ns: now_unix_ns(),
        elapsed: began.elapsed(),
        reports: run.reports,
        processes: run.tracer.extent().0 as u64,
        events: run.tracer.event_count(),
        lost: run.tracer.total_losses()?,
        reason: reason.name().to_owned(),
    };
    let written = run.output.end(&run.host, &end);
    forgive_closed_pipe(written.and_then(|()| run.output.finish()))?;
    run.tracer.detach_all();
    Ok(if run.config.fail_on_leak && run.found_leak {
        Outcome::LeakFound
    } else {
        Outcome::Done
    })
}

/// Loads the probes as the user asked for; nobody is traced yet.
fn load(config: &TraceConfig) -> anyhow::Result<Tracer> {
    let mut tracer = Tracer::new(config.targets.clone(), &settings(config))?;
    tracer.name_by(config.names.clone());
    tracer.write_oracle(config.oracle.as_ref().map(|(path, _)| path.as_path()))?;
    tracer.use_unwind_tables(config.has_unwind_tables);
    if config.avoids_return_probes {
        tracer.avoid_return_probes();
    }
    tracer.calibrate(config.max_overhead)?;
    if let Some(bytes) = config.max_memory {
        tracer.keep_within(bytes);
    }
    Ok(tracer)
}

/// Begins to serve what the board shows, where that is asked for.
fn serve(config: &TraceConfig) -> anyhow::Result<Arc<Board>> {
    let board = Arc::new(Board::default());
    if let Some((address, token)) = &config.listen {
        let access = token.as_deref().map(Access::from_file).transpose()?;
        let listener = Listener::bind(*address, access.unwrap_or(Access::Open))?;
        tokio::spawn(listener.serve(Arc::clone(&board)));
    }
    Ok(board)
}

/// What the probes are told of what was asked for.
fn settings(config: &TraceConfig) -> Settings {
    Settings {
        min_size: config.min_size,
        max_size: config.max_size,
        ring_bytes: config.ring_bytes,
        // As many as the ring holds records of the smallest kind, to the nearest power of two.
        lost_frees: (config.ring_bytes / 256).max(16),
        is_governed: config.sample_bytes != 0 || config.max_overhead.is_some(),
        policy: Policy::sampled(config.sample_bytes),
        oracle_one_in: config.oracle.as_ref().map_or(0, |(_, one_in)| *one_in),
        sends_early: config.targets.is_host(),
    }
}

/// A run once everything is in place.
struct Run {
    config: TraceConfig,
    tracer: Tracer,
    launch: Option<Launch>,
    host: Host,
    output: Output,
    suppressions: Suppressions,
    board: Arc<Board>,
    reports: u32,
    found_leak: bool,
}

impl Run {
    async fn until_end(&mut self, mut stop: watch::Receiver<bool>) -> anyhow::Result<Reason> {
        self.board.set_ready();
        let mut watchdog = notify::Watchdog::from_env();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A deadline that is never reached stands for none.
        let far = Duration::from_secs(u64::from(u32::MAX));
        let end = Instant::now() + self.config.duration.unwrap_or(far);
        let pause = self.config.interval.unwrap_or(far);
        let mut next_report = Instant::now() + pause;
        let mut command_ended = false;
        let reason = loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break Reason::Signal,
                () = sleep_until(end) => break Reason::Duration,
                event = next_event(&mut self.launch) => {
                    command_ended |= self.follow(event)?;
                }
                () = sleep_until(next_report) => {
                    self.tracer.drain()?;
                    self.report(false).await?;
                    self.tracer.settle();
                    next_report += pause;
                }
                _ = tick.tick() => {
                    self.board.beat();
                    watchdog.beat();
                    self.tracer.drain_some()?;
                }
                ready = self.tracer.wait() => {
                    ready.context("failed to wait for the ring")?;
                    self.tracer.drain_some()?;
                }
            }
            if command_ended || !self.tracer.has_live_targets() {
                break Reason::TargetsExited;
            }
        };
        self.tracer.drain()?;
        self.report(true).await?;
        Ok(reason)
    }

    /// Lets a new process go once its probes are in place, and a new image once its code is known;
    /// `true` when the command has ended.
    fn follow(&mut self, event: launch::Event) -> anyhow::Result<bool> {
        let pid = match event {
            launch::Event::Born { pid, parent, .. } => {
                self.tracer.attach_born(parent, pid);
                pid
            }
            launch::Event::Entered { pid } => {
                self.tracer.settle_process(pid)?;
                pid
            }
            launch::Event::Exited { .. } => return Ok(true),
        };
        if let Some(launch) = &self.launch {
            launch.resume(pid);
            for pid in launch.take_overdue() {
                self.tracer.mark_late(pid);
            }
        }
        Ok(false)
    }

    async fn report(&mut self, is_last: bool) -> anyhow::Result<()> {
        self.reports += 1;
        let top = self.config.top;
        let looks_further = self.config.fail_on_leak || !self.suppressions.is_empty();
        let view = View {
            min_age: self.config.min_age,
            top: if looks_further {
                top.max(SITES_LOOKED_AT)
            } else {
                top
            },
        };
        let mut report = self.tracer.report(self.reports, view).await?;
        self.suppressions.apply(&mut report);
        self.found_leak |= has_leak(&report);
        keep_top(&mut report, top);
        if self.config.listen.is_some() {
            self.board.show(Arc::new(report.clone()));
        }
        self.output.report(&self.host, report, is_last)?;
        Ok(())
    }
}

/// The command's next event; for ever none where there is no command.
async fn next_event(launch: &mut Option<Launch>) -> launch::Event {
    if let Some(launch) = launch
        && let Some(event) = launch.events().recv().await
    {
        return event;
    }
    std::future::pending().await
}

/// Tells people and supervisors that every probe is in place.
pub(crate) fn announce(tracer: &Tracer, launch: Option<&Launch>) {
    let (processes, probes) = tracer.extent();
    let plural = |count: usize, one: &str, many: &str| {
        format!("{count} {}", if count == 1 { one } else { many })
    };
    eprintln!(
        "leaktrace: tracing {} through {}; Ctrl-C to stop and report",
        plural(processes, "process", "processes"),
        plural(probes, "probe", "probes"),
    );
    if launch.is_some_and(|launch| !launch.follows_children()) {
        eprintln!(
            "leaktrace: ptrace is not allowed: children are traced a moment after their birth"
        );
    }
    if let Err(error) = notify::ready() {
        eprintln!("leaktrace: failed to tell the supervisor that tracing began: {error}");
    }
}

/// The first SIGINT or SIGTERM asks for the last report; the second ends everything at once.
pub(crate) fn watch_signals() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch SIGTERM")?;
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if *sender.borrow() {
                probes::end_in_haste();
                // The kernel takes every probe out with the descriptors.
                std::process::exit(130);
            }
            sender.send_replace(true);
        }
    });
    Ok(receiver)
}

/// A run that nobody reads is over and no error.
fn closed_pipe(error: io::Error) -> anyhow::Result<Outcome> {
    forgive_closed_pipe(Err(error)).map(|()| Outcome::Done)
}

/// Which machine this is.
pub(crate) fn host() -> Host {
    Host {
        name: node::name(),
        id: node::id(),
    }
}

/// The kernel release.
pub(crate) fn kernel() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
