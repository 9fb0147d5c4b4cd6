//! Owns `leaktrace watch`: the daemon that looks at every process's memory, without any probe, and
//! tells whose keeps growing.
//! Must not know options as they are typed.

mod survey;
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
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::{
    host::{clock::Clock, process::ProcessFacts},
    listen::{Access, Board, Listener},
    notify,
    report::{
        json::JsonStream,
        model::{Coverage, End, Executable, Process, ProcessIdentity, Report, Start, Verdict},
    },
    session,
};
use survey::{Survey, Suspect};

/// How often memory is looked at: at ten microseconds a process, a thousand take 0.2 % of a CPU.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Processes that are told in one report.
const TOLD_MAX: usize = 100;

/// What `leaktrace watch` is to do.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// A report each.
    pub interval: Duration,
    /// How long; `None` until a signal comes.
    pub duration: Option<Duration>,
    /// Where figures are served.
    pub listen: Option<SocketAddr>,
    /// The file of the token that beyond loopback must be shown.
    pub token_file: Option<PathBuf>,
    /// The options as the stream's first line tells them.
    pub told: BTreeMap<&'static str, String>,
}

/// Watches until a signal comes or the duration is over.
///
/// # Errors
///
/// In one line that names the object and the remedy.
pub async fn run(config: WatchConfig) -> anyhow::Result<()> {
    let mut stop = session::watch_signals()?;
    let board = Arc::new(Board::default());
    serve(&config, &board)?;
    let clock = Clock::anchor().context("failed to read the clocks")?;
    let stream = JsonStream::new(session::host());
    let began = Instant::now();
    let mut survey = Survey::default();
    survey.look(0.0)?;
    let start = Start {
        time_unix_ns: clock.boot_to_unix_ns(Clock::now_boot_ns()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: session::kernel(),
        mode: "watch".to_owned(),
        options: config.told.clone(),
    };
    if !write(|bytes| stream.start(&start, bytes))? {
        return Ok(());
    }
    eprintln!(
        "leaktrace: watching {} processes, without probes",
        survey.count()
    );
    board.set_ready();
    if let Err(error) = notify::ready() {
        eprintln!("leaktrace: failed to tell the supervisor that watching began: {error}");
    }
    let far = Duration::from_secs(u64::from(u32::MAX));
    let end = began + config.duration.unwrap_or(far);
    let mut look = interval(LOOK_PAUSE);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_report = began + config.interval;
    let mut reports = 0;
    let reason = loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break "signal",
            () = sleep_until(end) => break "duration",
            () = sleep_until(next_report) => {
                reports += 1;
                if !tell(&survey, reports, began, &clock, &stream, &board)? {
                    return Ok(());
                }
                next_report += config.interval;
            }
            _ = look.tick() => {
                survey.look(began.elapsed().as_secs_f64())?;
                board.beat();
            }
        }
    };
    reports += 1;
    let end = End {
        time_unix_ns: clock.boot_to_unix_ns(Clock::now_boot_ns()),
        elapsed: began.elapsed(),
        reports,
        processes: survey.count() as u64,
        events: 0,
        lost: BTreeMap::new(),
        reason: reason.to_owned(),
    };
    if tell(&survey, reports, began, &clock, &stream, &board)? {
        write(|bytes| stream.end(&end, bytes))?;
    }
    Ok(())
}

/// Serves figures, where that was asked for.
fn serve(config: &WatchConfig, board: &Arc<Board>) -> anyhow::Result<()> {
    let Some(address) = config.listen else {
        return Ok(());
    };
    let access = match &config.token_file {
        Some(path) => Access::from_file(path)?,
        None => Access::Open,
    };
    let listener = Listener::bind(address, access)?;
    eprintln!("leaktrace: serving figures on {}", listener.address()?);
    tokio::spawn(listener.serve(Arc::clone(board)));
    Ok(())
}

/// Writes a report and shows it to those who ask; `false` when nobody reads any more.
fn tell(
    survey: &Survey,
    number: u32,
    began: Instant,
    clock: &Clock,
    stream: &JsonStream,
    board: &Board,
) -> anyhow::Result<bool> {
    let suspects = survey.suspects();
    let processes: Vec<Process> = suspects
        .iter()
        .take(TOLD_MAX)
        .filter_map(|suspect| described(suspect, clock))
        .collect();
    let mut lost = BTreeMap::new();
    for (name, count) in [
        ("processes_not_followed", survey.refused_count),
        (
            "suspects_not_told",
            suspects.len().saturating_sub(TOLD_MAX) as u64,
        ),
    ] {
        if count > 0 {
            lost.insert(name, count);
        }
    }
    let report = Report {
        number,
        time_unix_ns: clock.boot_to_unix_ns(Clock::now_boot_ns()),
        elapsed: began.elapsed(),
        quiet_process_count: survey.count().saturating_sub(processes.len()) as u64,
        processes,
        lost,
        ..Report::default()
    };
    let is_read = write(|bytes| stream.report(&report, bytes))?;
    board.show(Arc::new(report));
    Ok(is_read)
}

/// A process that keeps growing, as the report tells it; `None` where it is gone by now.
fn described(suspect: &Suspect, clock: &Clock) -> Option<Process> {
    let facts = ProcessFacts::read(suspect.pid).ok()?;
    let path = facts.executable.as_ref();
    let path = path.map(|path| path.to_string_lossy().into_owned());
    let trend = suspect.trend;
    Some(Process {
        identity: ProcessIdentity {
            pid: suspect.pid,
            start_time_unix_ns: clock.boot_to_unix_ns(facts.start_boot_ns),
        },
        executable: Executable {
            name: facts.executable_name(),
            path: path.unwrap_or_default(),
            build_id: None,
        },
        command_line: facts.command_line,
        owner: facts.owner,
        coverage: Coverage::None,
        coverage_reason: Some(format!(
            "watched without probes: its anonymous memory rose by {} KiB in {:.0} s; \
             to see which code: leaktrace trace --pid {}",
            (trend.growth_bytes / 1024.0) as u64,
            trend.span_seconds,
            suspect.pid
        )),
        rss_bytes: Some(suspect.memory.rss_bytes),
        verdict: Verdict::Growing,
        growth_bytes_per_second: Some(trend.bytes_per_second),
        ..Process::default()
    })
}

/// Writes to stdout; `false` when nobody reads any more, which is no error.
fn write(lines: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<bool> {
    let mut bytes = Vec::new();
    lines(&mut bytes);
    let mut output = io::stdout().lock();
    match output.write_all(&bytes).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context("failed to write the report")),
    }
}
