//! Owns one run of `leaktrace top`: the trace, the terminal and the keys, brought together.
//! Must not know how the trace works inside or how the screen looks.

mod draw;
mod screen;
#[cfg(test)]
mod tests;

use std::{fs::OpenOptions, io::Write as _, time::Duration};

use anyhow::Context as _;
use leaktrace_common::{limits, policy::Policy};
use ratatui::{
    DefaultTerminal,
    backend::Backend as _,
    crossterm::event::{self, Event, KeyEventKind},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::screen::{Action, Screen};
use crate::{
    config::Targets, host::containers::NameSources, probes::Settings, report::json::JsonStream,
    session, summary::View, tracer::Tracer,
};

/// How often the ring is read when the probes do not call.
const TICK: Duration = Duration::from_millis(20);

/// Keys that wait to be done; who types faster waits in the terminal.
const KEYS: usize = 16;

/// What `leaktrace top` is to do.
#[derive(Clone, Debug)]
pub struct TopConfig {
    /// Whom to trace.
    pub targets: Targets,
    /// Where the names of containers come from.
    pub names: NameSources,
    /// How often the screen is made anew.
    pub interval: Duration,
    /// What counts as long-lived.
    pub min_age: Duration,
    /// Sites listed of each process.
    pub sites: usize,
}

/// The terminal, given back however the run ends.
struct Borrowed(DefaultTerminal);

impl Drop for Borrowed {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Traces and shows until a key or a signal ends it, or the targets are gone.
///
/// # Errors
///
/// In one line that names the object and the remedy.
pub async fn run(config: TopConfig) -> anyhow::Result<()> {
    let mut stop = session::watch_signals()?;
    let settings = Settings {
        min_size: 0,
        max_size: u64::MAX,
        ring_bytes: limits::EVENT_RING_BYTES,
        lost_frees: (limits::EVENT_RING_BYTES / 256).max(16),
        is_governed: false,
        policy: Policy::sampled(0),
        oracle_one_in: 0,
        sends_early: config.targets.is_host(),
    };
    let mut tracer = Tracer::new(config.targets.clone(), &settings)?;
    tracer.name_by(config.names);
    tracer.calibrate(None)?;
    tracer.attach_targets(None)?;
    session::announce(&tracer, None);
    let terminal = ratatui::try_init().context("failed to take over the terminal")?;
    let mut terminal = Borrowed(terminal);
    // A console without a second screen still shows what was printed before.
    // `Terminal::clear` would ask for the cursor's place, which not every terminal tells.
    terminal
        .0
        .backend_mut()
        .clear()
        .context("failed to clear the terminal")?;
    let mut keys = read_keys();
    let mut screen = Screen::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refresh = interval(config.interval);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while tracer.has_live_targets() {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind == KeyEventKind::Press => match screen.key(key) {
                    Action::Quit => break,
                    Action::Save => screen.message = save(&screen),
                    Action::Draw => {}
                },
                Some(_) => {}
                None => anyhow::bail!("the terminal gives no keys any more; remedy: run `leaktrace top` in a terminal"),
            },
            _ = refresh.tick() => {
                tracer.drain()?;
                number += 1;
                let view = View { min_age: config.min_age, top: config.sites };
                screen.update(tracer.report(number, view).await?);
                tracer.settle();
            }
            _ = tick.tick() => {
                tracer.drain_some()?;
                continue;
            }
            ready = tracer.wait() => {
                ready.context("failed to wait for the ring")?;
                tracer.drain_some()?;
                continue;
            }
        }
        terminal
            .0
            .draw(|frame| draw::draw(frame, &screen))
            .context("failed to draw")?;
    }
    tracer.detach_all();
    Ok(())
}

/// Keys from a thread of its own, because reading them blocks. It ends with the process.
fn read_keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Writes the report that is shown as a JSON stream to a new file here; tells what came of it.
fn save(screen: &Screen) -> String {
    let name = format!(
        "leaktrace-{}-{}.ndjson",
        std::process::id(),
        screen.report.number
    );
    let mut bytes = Vec::new();
    JsonStream::new(session::host()).report(&screen.report, &mut bytes);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&name)
        .and_then(|mut file| file.write_all(&bytes));
    match written {
        Ok(()) => format!("written to {name}"),
        Err(error) => format!("cannot write to {name}: {error}"),
    }
}
