//! Owns whom probes are put into, for how long, and what was found: of those whose memory keeps growing.
//! Must not know how memory is watched, or how a report is written.

mod look;
mod told;
mod turn;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use leaktrace_common::policy::Policy;
use rustc_hash::FxHashMap;

use super::{account::Account, probing::Probing, state::Left, survey::Seen};
use crate::{
    calibration::Cost,
    config::Targets,
    host::{clock::Clock, containers::NameSources, process::ProcessFacts},
    probes::Settings,
    report::model::Process,
    summary::View,
    tracer::Tracer,
};

const SECOND_NS: u64 = 1_000_000_000;

/// Processes that have probes at once: each has its share of what may be spent.
const PROBED_MAX: usize = 8;

/// How often it is asked whether a leak was found.
const VERDICT_PAUSE_NS: u64 = 2 * SECOND_NS;

/// As long is looked for a leak: all the time, a verdict takes about half a minute.
const PATIENCE_NS: u64 = 300 * SECOND_NS;

/// In whom no leak was found is left alone for so long, and each time for twice as long.
const LEFT_NS: u64 = 600 * SECOND_NS;
const LEFT_MAX_NS: u64 = 6 * 3_600 * SECOND_NS;

/// Probes stay in the kernel, in nobody's code, for so long after they were needed.
const IDLE_NS: u64 = 120 * SECOND_NS;

/// As long it takes to prepare most processes; what is not ready then is waited for.
const PREPARATION_NS: u64 = SECOND_NS;

/// How often probes are looked after, and how often while there is a window.
const PAUSE: Duration = Duration::from_millis(20);
const WINDOW_PAUSE: Duration = Duration::from_millis(2);

/// What became of a process that kept growing.
enum State {
    /// It gets probes then: what they need is being prepared.
    Prepared { at_ns: u64 },
    /// It has probes since then.
    Probed {
        probing: Box<Probing>,
        since_ns: u64,
    },
    /// A leak was found, and its probes went out then.
    Found { process: Box<Process>, out_ns: u64 },
    /// It is left alone until then, for this reason.
    Left { until_ns: u64, why: String },
}

struct Suspect {
    start_ticks: u64,
    name: String,
    /// How fast it keeps growing; 0 where it does not.
    bytes_per_second: f64,
    /// Whether it got its probes for growing fast, or else for growing long.
    is_for_speed: bool,
    /// For how long it was left alone the last time.
    left_before_ns: u64,
    state: State,
}

impl Suspect {
    /// Leaves it alone, for longer than the last time.
    fn leave(&mut self, now_ns: u64, why: String) {
        self.left_before_ns = (2 * self.left_before_ns).clamp(LEFT_NS, LEFT_MAX_NS);
        self.state = State::Left {
            until_ns: now_ns + self.left_before_ns,
            why,
        };
    }
}

/// Everyone who was suspected and still runs.
pub struct Suspects {
    tracer: Option<Tracer>,
    idle_since_ns: u64,
    cost: Cost,
    account: Account,
    view: View,
    names: NameSources,
    by_pid: FxHashMap<u32, Suspect>,
    /// Since when each keeps growing.
    growing: turn::Growing,
    next_verdict_ns: u64,
    began_ns: u64,
}

impl Suspects {
    /// Loads the probes, so that what does not work is told at once, and measures what they cost here.
    ///
    /// # Errors
    ///
    /// When the kernel or the privileges do not allow it.
    pub fn new(limit: f64, view: View, names: NameSources) -> anyhow::Result<Self> {
        let mut tracer = load(&names)?;
        tracer.calibrate(None)?;
        let cost = tracer.cost().context(
            "cannot tell what probes cost, as --max-overhead needs; remedy: see `leaktrace doctor`",
        )?;
        let now_ns = Clock::now_boot_ns();
        // Until somebody is suspected, nothing of ours is in the kernel.
        drop(tracer);
        Ok(Self {
            tracer: None,
            idle_since_ns: now_ns,
            cost,
            account: Account::new(limit, now_ns),
            view,
            names,
            by_pid: FxHashMap::default(),
            growing: turn::Growing::default(),
            next_verdict_ns: 0,
            began_ns: now_ns,
        })
    }

    /// What a trap costs here, in nanoseconds.
    pub fn ns_per_hit(&self) -> f64 {
        self.cost.ns_per_hit
    }

    /// How long to wait before the next look; `None` where nobody has probes.
    pub fn pause(&self) -> Option<Duration> {
        let probed = self.by_pid.values().filter_map(|it| match &it.state {
            State::Probed { probing, .. } => Some(probing.is_in_window()),
            State::Prepared { .. } => Some(false),
            _ => None,
        });
        probed
            .map(|is_in_window| if is_in_window { WINDOW_PAUSE } else { PAUSE })
            .min()
    }

    /// Waits until the probes call; for ever where nobody has any.
    pub async fn wait(&self) -> io::Result<()> {
        match (&self.tracer, self.pause()) {
            (Some(tracer), Some(_)) => tracer.wait().await,
            _ => std::future::pending().await,
        }
    }

    /// Puts probes into those that keep growing, and forgets those that are gone.
    ///
    /// # Errors
    ///
    /// When the kernel no longer allows it.
    pub fn consider(&mut self, ranked: &[Seen]) -> anyhow::Result<()> {
        let now_ns = Clock::now_boot_ns();
        let seen: FxHashMap<u32, &Seen> = ranked.iter().map(|it| (it.pid, it)).collect();
        let gone: Vec<u32> = self
            .by_pid
            .iter()
            .filter(|(pid, it)| {
                let seen = seen.get(pid);
                seen.is_none_or(|seen| seen.start_ticks != it.start_ticks)
            })
            .map(|(pid, _)| *pid)
            .collect();
        for pid in gone {
            self.by_pid.remove(&pid);
        }
        for (pid, suspect) in &mut self.by_pid {
            if let Some(seen) = seen.get(pid) {
                suspect.bytes_per_second = seen.bytes_per_second();
            }
        }
        self.growing.note(ranked, now_ns);
        while !self.is_in_window()
            && !self.is_worn()
            && let Some((seen, is_for_speed)) = self.next_due(ranked, now_ns)
        {
            if !self.prepare(seen, is_for_speed, now_ns)? {
                break;
            }
        }
        self.rest(now_ns)
    }

    fn probed_count(&self) -> usize {
        let is_probed =
            |it: &&Suspect| matches!(it.state, State::Probed { .. } | State::Prepared { .. });
        self.by_pid.values().filter(is_probed).count()
    }

    /// Has what probes need in a process prepared; `false` where it is gone.
    fn prepare(&mut self, seen: &Seen, is_for_speed: bool, now_ns: u64) -> anyhow::Result<bool> {
        let Ok(facts) = ProcessFacts::read(seen.pid) else {
            return Ok(false);
        };
        let name = facts.executable_name();
        let tracer = match &mut self.tracer {
            Some(tracer) => tracer,
            none => none.insert(load(&self.names)?),
        };
        tracer.prepare(seen.pid)?;
        say(&format!(
            "pid {} ({}) keeps growing, by {:.0} KiB/s: probes go in",
            seen.pid,
            name.escape_default(),
            seen.bytes_per_second() / 1024.0
        ));
        let suspect = Suspect {
            start_ticks: seen.start_ticks,
            name,
            bytes_per_second: seen.bytes_per_second(),
            is_for_speed,
            left_before_ns: self.by_pid.get(&seen.pid).map_or(0, |it| it.left_before_ns),
            state: State::Prepared {
                at_ns: now_ns + PREPARATION_NS,
            },
        };
        self.by_pid.insert(seen.pid, suspect);
        Ok(true)
    }

    /// Puts probes into those that are prepared. While another is in a window that must not wait.
    fn add_prepared(&mut self, now_ns: u64) {
        let due = self.by_pid.iter().find_map(|(pid, it)| match it.state {
            State::Prepared { at_ns } if at_ns <= now_ns => Some(*pid),
            _ => None,
        });
        let (Some(pid), Some(tracer)) = (due, &mut self.tracer) else {
            return;
        };
        let added = tracer.add(pid);
        let Some(suspect) = self.by_pid.get_mut(&pid) else {
            return;
        };
        match added {
            Ok(()) => {
                suspect.state = State::Probed {
                    probing: Box::new(Probing::new(self.cost, self.account.limit(), now_ns)),
                    since_ns: now_ns,
                };
            }
            Err(why) => {
                say(&format!(
                    "pid {pid} ({}) has no probes: {why}",
                    suspect.name.escape_default()
                ));
                suspect.leave(now_ns, why);
            }
        }
    }

    /// Whether another tracer is to be loaded once those that have probes are done, in five minutes at most: until then nobody
    /// else gets any.
    fn is_worn(&self) -> bool {
        self.tracer.as_ref().is_some_and(Tracer::is_worn)
    }

    /// Has all dropped that can be made again.
    pub fn let_go(&self) {
        if let Some(tracer) = &self.tracer {
            tracer.let_go();
        }
    }

    /// Takes the probes out of the kernel when nobody had any for long.
    fn rest(&mut self, now_ns: u64) -> anyhow::Result<()> {
        if self.probed_count() > 0 {
            self.idle_since_ns = now_ns;
        } else if self.is_worn() || now_ns.saturating_sub(self.idle_since_ns) > IDLE_NS {
            self.tracer = None;
        } else if let Some(tracer) = &mut self.tracer {
            tracer.drain()?;
        }
        Ok(())
    }

    /// Why a process has no probes, where that was decided.
    pub fn why_left(&self, pid: u32) -> Option<&str> {
        match &self.by_pid.get(&pid)?.state {
            State::Left { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Who is to be left alone after a restart too.
    #[must_use]
    pub fn left(&self) -> Vec<Left> {
        let left = |(pid, it): (&u32, &Suspect)| {
            let (until_ns, for_ns, why) = match &it.state {
                State::Left { until_ns, why } => (*until_ns, it.left_before_ns, why.clone()),
                State::Found { out_ns, .. } => {
                    let why = "a leak was found before leaktrace was started again, and told then";
                    (out_ns + LEFT_MAX_NS, LEFT_MAX_NS, why.to_owned())
                }
                State::Prepared { .. } | State::Probed { .. } => return None,
            };
            Some(Left {
                pid: *pid,
                start_ticks: it.start_ticks,
                until_ns,
                for_ns,
                why,
            })
        };
        self.by_pid.iter().filter_map(left).collect()
    }

    /// Leaves those alone that were left alone before, each no longer than that may be.
    pub fn remember(&mut self, left: Vec<Left>) {
        let latest_ns = Clock::now_boot_ns() + LEFT_MAX_NS;
        for it in left {
            let Ok(facts) = ProcessFacts::read(it.pid) else {
                continue;
            };
            let suspect = Suspect {
                start_ticks: it.start_ticks,
                name: facts.executable_name(),
                bytes_per_second: 0.0,
                is_for_speed: false,
                left_before_ns: it.for_ns.min(LEFT_MAX_NS),
                state: State::Left {
                    until_ns: it.until_ns.min(latest_ns),
                    why: it.why,
                },
            };
            self.by_pid.insert(it.pid, suspect);
        }
    }

    /// Events taken in, since the probes were loaded.
    pub fn event_count(&self) -> u64 {
        self.tracer.as_ref().map_or(0, Tracer::event_count)
    }

    /// Since when this watches, in boot-clock nanoseconds.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }
}

/// Loads the probes; nobody has any yet.
fn load(names: &NameSources) -> anyhow::Result<Tracer> {
    let targets = Targets {
        is_by_request: true,
        ..Targets::default()
    };
    let settings = Settings {
        is_governed: true,
        policy: Policy::NOTHING,
        ..Settings::default()
    };
    let mut tracer = Tracer::new(targets, &settings)?;
    tracer.name_by(names.clone());
    Ok(tracer)
}

/// A line for people.
fn say(what: &str) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(io::stderr(), "leaktrace: {what}");
}
