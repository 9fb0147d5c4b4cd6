//! Owns looking after those that have probes: what they cost, and whether a leak was found.
//! Must not know who gets probes, or how a report is made.

use std::time::Duration;

use super::{PATIENCE_NS, State, Suspect, Suspects, VERDICT_PAUSE_NS, say};
use crate::{
    host::clock::Clock,
    judge::SURVIVOR_EXCESS_MAX,
    report::model::{Coverage, Verdict},
    watch::probing::{Order, WINDOW_MAX_NS},
};

impl Suspects {
    /// Looks after those that have probes: what they cost, and whether a leak was found.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read or write its maps.
    pub async fn look(&mut self) -> anyhow::Result<()> {
        let Some(tracer) = &mut self.tracer else {
            return Ok(());
        };
        tracer.drain()?;
        let now_ns = Clock::now_boot_ns();
        self.account.fill(now_ns);
        let mut pids: Vec<u32> = self.by_pid.keys().copied().collect();
        // Whoever cost least has the first turn.
        pids.sort_by(|one, other| self.spent(*one).total_cmp(&self.spent(*other)));
        for pid in pids {
            self.look_at(pid, now_ns)?;
        }
        // What may take a while must not while a process runs into its probes.
        if !self.is_in_window() {
            self.add_prepared(now_ns);
            if now_ns >= self.next_verdict_ns {
                self.next_verdict_ns = now_ns + VERDICT_PAUSE_NS;
                self.ask(now_ns).await?;
            }
        }
        Ok(())
    }

    /// Whether a process is in a window or what follows it.
    pub fn is_in_window(&self) -> bool {
        self.by_pid
            .values()
            .any(|it| matches!(&it.state, State::Probed { probing, .. } if probing.is_in_window()))
    }

    fn spent(&self, pid: u32) -> f64 {
        match self.by_pid.get(&pid).map(|it| &it.state) {
            Some(State::Probed { probing, .. }) => probing.spent_ns(),
            _ => 0.0,
        }
    }

    fn look_at(&mut self, pid: u32, now_ns: u64) -> anyhow::Result<()> {
        let may_open = !self.is_in_window();
        let (Some(tracer), Some(suspect)) = (&mut self.tracer, self.by_pid.get_mut(&pid)) else {
            return Ok(());
        };
        let State::Probed { probing, since_ns } = &mut suspect.state else {
            return Ok(());
        };
        if !tracer.has(pid) {
            // It ended, as the next report tells.
            self.by_pid.remove(&pid);
            return Ok(());
        }
        tracer.look_at_survivors(pid);
        let (hits, living) = (tracer.hits_of(pid), tracer.live_blocks(pid));
        let order = probing.look(now_ns, hits, living, &mut self.account, may_open);
        let who = format!("pid {pid} ({})", suspect.name.escape_default());
        match order {
            Order::Keep => {}
            Order::Sample(sample_bytes) => tracer.record_fewer(pid, sample_bytes)?,
            // It may be others that have spent all: it has another turn, until it was looked at for long enough.
            Order::BeginWindows if tracer.has_refills(pid) => {
                if !probing.takes_refills() {
                    say(&format!(
                        "{who}: every call would cost more than allowed: it is sampled where its allocator's caches \
                         get their blocks"
                    ));
                }
                probing.take_refills();
                tracer.begin_anew(pid)?;
            }
            Order::BeginWindows if tracer.is_of_go(pid) => {
                let why =
                    "every call would cost more than allowed, and its own memory profile is off";
                say(&format!("{who} cannot be looked at: {why}"));
                tracer.remove(pid)?;
                suspect.leave(now_ns, why.to_owned());
            }
            Order::BeginWindows => {
                let spent = probing.spent_ns() / (now_ns - *since_ns).max(1) as f64;
                say(&format!(
                    "{who}: probes take {:.1} % of a CPU, {:.1} % are allowed: it is looked at in windows",
                    spent * 100.0,
                    self.account.limit() * 100.0
                ));
                tracer.begin_windows(pid)?;
            }
            Order::Refill => {
                if let Err(why) = tracer.add_refills(pid) {
                    say(&format!("{who} cannot be looked at: {why}"));
                    suspect.leave(now_ns, why);
                }
            }
            Order::Open => tracer.open_window(pid, Duration::from_nanos(WINDOW_MAX_NS))?,
            Order::Close => tracer.close_window(pid)?,
            Order::End => tracer.end_window(pid)?,
            Order::EndWindows => tracer.end_windows(pid)?,
        }
        Ok(())
    }

    /// Asks what came out so far: probes go out of a process whose leak was found, and of one in which none
    /// was for long.
    async fn ask(&mut self, now_ns: u64) -> anyhow::Result<()> {
        let probed = self.by_pid.iter().filter_map(|(pid, it)| match it.state {
            State::Probed { since_ns, .. } => Some((*pid, since_ns, it.bytes_per_second)),
            _ => None,
        });
        for (pid, since_ns, bytes_per_second) in probed.collect::<Vec<_>>() {
            let Some(tracer) = &mut self.tracer else {
                return Ok(());
            };
            tracer.note_growth(pid, bytes_per_second);
            let judgement = tracer.judgement_of(pid, self.view)?;
            let figure = |name| judgement.evidence.get(name).copied().unwrap_or(0.0);
            let growth = figure("process_bytes_per_second");
            let is_excessive =
                figure("survivor_bytes_per_second") > SURVIVOR_EXCESS_MAX * growth && growth > 0.0;
            if judgement.verdict == Verdict::Growing {
                self.found(pid, since_ns).await?;
            } else if now_ns.saturating_sub(since_ns) > PATIENCE_NS {
                let why = "probes were in for 5 minutes and found no site that keeps growing";
                say(&format!("pid {pid}: {why}; they are out"));
                tracer.remove(pid)?;
                if let Some(suspect) = self.by_pid.get_mut(&pid) {
                    suspect.leave(now_ns, why.to_owned());
                }
            } else if is_excessive
                && let Some(Suspect {
                    state: State::Probed { probing, .. },
                    ..
                }) = self.by_pid.get_mut(&pid)
            {
                probing.follow_longer();
            }
        }
        Ok(())
    }

    /// Keeps what is known of a leak, and takes the probes out.
    async fn found(&mut self, pid: u32, since_ns: u64) -> anyhow::Result<()> {
        let Some(tracer) = &mut self.tracer else {
            return Ok(());
        };
        let report = tracer.report(0, self.view).await?;
        let process = report
            .processes
            .into_iter()
            .find(|it| it.identity.pid == pid);
        tracer.remove(pid)?;
        let now_ns = Clock::now_boot_ns();
        let seconds = now_ns.saturating_sub(since_ns) as f64 / 1e9;
        let spent = self.spent(pid) / (seconds * 1e9).max(1.0);
        let Some(mut process) = process else {
            return Ok(());
        };
        let growing = process.sites.iter();
        let growing = growing.filter(|it| it.verdict == Verdict::Growing).count();
        let Some(suspect) = self.by_pid.get_mut(&pid) else {
            return Ok(());
        };
        say(&format!(
            "pid {pid} ({}) leaks at {growing} {}: probes took {:.2} % of a CPU for {seconds:.0} s and are out",
            suspect.name.escape_default(),
            if growing == 1 { "site" } else { "sites" },
            spent * 100.0
        ));
        let how = process.coverage_reason.take();
        process.coverage_reason = Some(format!(
            "a leak was found in {seconds:.0} s, for {:.2} % of a CPU, and the probes are out since: figures are \
             of then{}",
            spent * 100.0,
            how.map(|how| format!("; {how}")).unwrap_or_default()
        ));
        process.coverage = Coverage::Partial;
        suspect.state = State::Found {
            process: Box::new(process),
            out_ns: now_ns,
        };
        Ok(())
    }
}
