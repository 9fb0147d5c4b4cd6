//! Owns keeping what probes cost within what they may cost: it counts, asks the governors, and does
//! what they say.
//! Must not know how they decide.

use std::io::Write as _;

use leaktrace_common::policy::{Policy, watched};
use rustc_hash::FxHashMap;

use super::Tracer;
use crate::{
    budget::{Governor, Order},
    calibration::{self, Cost},
    probes::Scope,
    report::model::Coverage,
    roster::Member,
};

/// How often costs are looked at: several times in the second within which they must fall.
const PAUSE_NS: u64 = 50_000_000;

/// What probes cost, and may cost.
#[derive(Default)]
pub(super) struct Budget {
    /// What a hit costs, where it was measured.
    pub cost: Option<Cost>,
    /// The part of one CPU that probes may take of each process.
    limit: Option<f64>,
    pub governors: FxHashMap<u32, Governor>,
    governed_ns: u64,
    /// Whether the probes that all processes share are out.
    is_host_paused: bool,
}

impl Tracer {
    /// Measures what a hit costs here, and sets what probes may cost, if anything.
    ///
    /// # Errors
    ///
    /// Where a limit is set and costs cannot be measured.
    pub fn calibrate(&mut self, limit: Option<f64>) -> anyhow::Result<()> {
        let Self { probes, source, .. } = self;
        let measured = calibration::measure(probes, self.policy.is_some(), |probes| {
            while source.drain(|_| {}).is_some() {}
            // Nobody's ledger has these blocks.
            let _ = probes.take_lost_frees();
        });
        match measured {
            Ok(cost) => self.budget.cost = Some(cost),
            Err(error) if limit.is_some() => {
                return Err(error.context("cannot tell what probes cost, as --max-overhead needs"));
            }
            Err(error) => eprintln!("leaktrace: cannot tell what probes cost: {error:#}"),
        }
        self.drain.deferred_frees_seen = self.probes.deferred_frees()?;
        self.budget.limit = limit;
        Ok(())
    }

    /// Looks at what each process pays, where that is limited and it is time to.
    pub(super) fn govern(&mut self, now_ns: u64) -> anyhow::Result<()> {
        let (Some(limit), Some(cost)) = (self.budget.limit, self.budget.cost) else {
            return Ok(());
        };
        if now_ns.saturating_sub(self.budget.governed_ns) < PAUSE_NS {
            return Ok(());
        }
        self.budget.governed_ns = now_ns;
        let sample_bytes = self.policy.map_or(0, |policy| policy.sample_bytes);
        for tgid in self.tgids() {
            let hits = self.probes.hits(tgid);
            let governor = self
                .budget
                .governors
                .entry(tgid)
                .or_insert_with(|| Governor::new(limit, cost, sample_bytes, now_ns));
            let order = governor.look(now_ns, hits.hit_count, hits.sample_count);
            let fraction = governor.fraction();
            self.obey(tgid, order, fraction, now_ns)?;
        }
        Ok(())
    }

    fn obey(&mut self, tgid: u32, order: Order, paid: f64, now_ns: u64) -> anyhow::Result<()> {
        match order {
            Order::Keep => Ok(()),
            Order::Sample(sample_bytes) => {
                self.say(
                    tgid,
                    paid,
                    &format!("recording one allocation in {} KiB", sample_bytes >> 10),
                );
                self.record_fewer(tgid, sample_bytes)
            }
            Order::Detach => self.pause(tgid, paid, now_ns),
            Order::Attach => self.resume(tgid, now_ns),
        }
    }

    /// Records one allocation in about so many bytes of a process of which more were.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn record_fewer(&mut self, tgid: u32, sample_bytes: u64) -> anyhow::Result<()> {
        // Until the probes know which blocks are recorded, they tell every free.
        let policy = Policy::sampled(sample_bytes);
        let meanwhile = Policy {
            watched: watched::ALLOCATIONS | watched::FREES,
            ..policy
        };
        self.probes.set_policy(tgid, &meanwhile)?;
        self.keeping.restrict(tgid, policy);
        Ok(())
    }

    /// Takes probes out: of one process, or, where all have the same, of all.
    fn pause(&mut self, tgid: u32, paid: f64, now_ns: u64) -> anyhow::Result<()> {
        self.say(tgid, paid, "taking the probes out for a while");
        let everyone = if self.targets.is_host() {
            self.attachments.release_host(&mut self.probes);
            self.go.release_host(&mut self.probes);
            self.budget.is_host_paused = true;
            self.tgids()
        } else {
            self.probes.set_policy(tgid, &Policy::NOTHING)?;
            self.attachments.release_at_once(&mut self.probes, tgid);
            self.go.release(&mut self.probes, tgid);
            vec![tgid]
        };
        for tgid in everyone {
            if let Some(key) = self.ledger.key(tgid) {
                let since_ns = &mut self.context.roster.get_mut(key).unwatched.1;
                since_ns.get_or_insert(now_ns);
            }
        }
        Ok(())
    }

    /// Puts probes in again. What was live is given up: nobody saw what was freed meanwhile.
    fn resume(&mut self, tgid: u32, now_ns: u64) -> anyhow::Result<()> {
        let is_host = self.targets.is_host();
        if is_host && !std::mem::take(&mut self.budget.is_host_paused) {
            return Ok(());
        }
        let everyone = if is_host { self.tgids() } else { vec![tgid] };
        for tgid in everyone {
            let Some(key) = self.ledger.key(tgid) else {
                continue;
            };
            let (before_ns, since_ns) = self.context.roster.get_mut(key).unwatched;
            let out_ns = since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
            self.context.roster.get_mut(key).unwatched = (before_ns + out_ns, None);
            if let Some(process) = self.ledger.get(key) {
                self.probes.release(tgid, process.addresses());
            }
            self.ledger.give_up_blocks(key);
            self.probes.forget_threads(tgid);
            let scope = if is_host {
                Scope::Host
            } else {
                let sample_bytes = self.policy.map_or(0, |policy| policy.sample_bytes);
                let policy = Policy::sampled(sample_bytes);
                self.probes.set_policy(tgid, &policy)?;
                self.attachments.forget(&mut self.probes, tgid);
                Scope::Process(tgid)
            };
            self.go.renew(tgid);
            // What fails is told in the report, as coverage.
            let _ = self.attach_go(tgid, scope);
            for mapping in self.file_mappings(tgid) {
                let _ = self.attach_mapping(tgid, &mapping, scope);
            }
        }
        Ok(())
    }

    /// A line for people, which tells why.
    fn say(&self, tgid: u32, paid: f64, what: &str) {
        let name = self.ledger.key(tgid).and_then(|key| {
            let member = self.context.roster.get(key)?;
            Some(member.facts.as_ref()?.comm.clone())
        });
        // Whoever closed stderr does not want to know.
        let _ = writeln!(
            std::io::stderr(),
            "leaktrace: probes take {:.1} % of a CPU in pid {tgid} ({}), {:.1} % are allowed: {what}",
            paid * 100.0,
            name.unwrap_or_default().escape_default(),
            self.budget.limit.unwrap_or(1.0) * 100.0,
        );
    }

    /// The coverage of a process, part of the time at most where its probes were out for some of it.
    pub(super) fn watched(
        &self,
        member: &Member,
        now_ns: u64,
        coverage: Coverage,
        reason: Option<String>,
    ) -> (Coverage, Option<String>) {
        let unwatched_ns = member.unwatched_ns(now_ns);
        if unwatched_ns == 0 || coverage == Coverage::None {
            return (coverage, reason);
        }
        let elapsed_ns = now_ns
            .saturating_sub(self.began_ns.max(member.start_boot_ns))
            .max(1);
        let part = 100.0 * unwatched_ns as f64 / elapsed_ns as f64;
        let state = match member.unwatched.1 {
            Some(_) => "they are out, and figures are those of the moment when they went",
            None => "figures are those since they went in again",
        };
        let why = format!(
            "its probes were out for {:.0} % of the time, to cost no more than allowed; {state}",
            part.min(100.0)
        );
        (Coverage::Partial, Some(why))
    }
}
