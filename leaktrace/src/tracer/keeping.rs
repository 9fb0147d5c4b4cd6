//! Owns the blocks that the probes are told to wait for, and what estimates are called.
//! Must not know why a process has the policy that it has.

use leaktrace_common::policy::{Hits, Policy};

use super::Tracer;
use crate::{
    ledger::{Ledger, ProcessKey, ProcessLedger},
    report::model::{Accuracy, AccuracyKind, Overhead},
};

/// Two-sided 95 % of a normal distribution, in standard errors.
const ERRORS_OF_95_PERCENT: f64 = 1.96;

/// What is to be told to the probes of recorded blocks, once the batch that told of it is taken in.
#[derive(Default)]
pub(super) struct Keeping {
    /// Processes whose blocks the probes do not know yet, or know as their parents', and the policy
    /// that they get once they do.
    unknown: Vec<(u32, Option<Policy>)>,
    /// Blocks whose image is gone.
    ended: Vec<(u32, Vec<u64>)>,
}

impl Keeping {
    /// A child has blocks that the probes know as its parent's.
    pub(super) fn forked(&mut self, child: u32) {
        self.unknown.push((child, None));
    }

    /// A process of which all was recorded is to have a policy by which only some is.
    pub(super) fn restrict(&mut self, tgid: u32, policy: Policy) {
        self.unknown.push((tgid, Some(policy)));
    }

    /// To be called before the ledger drops what a process held.
    pub(super) fn ends(&mut self, ledger: &Ledger, tgid: u32) {
        let process = ledger.key(tgid).and_then(|key| ledger.get(key));
        if let Some(process) = process.filter(|it| it.live_count() > 0) {
            self.ended.push((tgid, process.addresses().collect()));
        }
    }
}

impl Tracer {
    /// Tells the probes which recorded blocks have come and gone with their processes.
    pub(super) fn tell_kept(&mut self) -> anyhow::Result<()> {
        let Keeping { unknown, ended } = std::mem::take(&mut self.keeping);
        let Some(by_default) = self.policy else {
            return Ok(());
        };
        for (tgid, addresses) in ended {
            self.probes.release(tgid, addresses.into_iter());
        }
        for (tgid, policy) in unknown {
            let policy = policy.unwrap_or(by_default);
            // Where every free is told, nobody waits for some.
            if policy.keeps() {
                self.take_over(tgid, &policy)?;
            }
        }
        Ok(())
    }

    /// From here on only frees of recorded blocks are told of a process of which all were.
    fn take_over(&mut self, tgid: u32, policy: &Policy) -> anyhow::Result<()> {
        let process = self.ledger.key(tgid).and_then(|key| self.ledger.get(key));
        let Some(process) = process.filter(|it| it.exited_ns().is_none()) else {
            return Ok(());
        };
        let refused = self.probes.keep(tgid, process.addresses())?;
        if refused > 0 {
            *self.lost.entry("kept_table_full").or_default() += refused;
            // All of its frees are told as before: that costs, but loses nothing.
            return Ok(());
        }
        self.probes.set_policy(tgid, policy)
    }

    /// Drops what the probes keep of a process that was reported or forgotten.
    pub(super) fn forget_governed(&mut self, key: ProcessKey, tgid: u32) {
        if self.policy.is_none() {
            return;
        }
        if let Some(process) = self.ledger.get(key) {
            self.probes.release(tgid, process.addresses());
        }
        self.probes.forget_policy(tgid);
        self.probes.forget_hits(tgid);
        self.budget.governors.remove(&tgid);
    }

    /// What the probes did for a process since it is traced.
    pub(super) fn hits(&self, process: &ProcessLedger) -> Hits {
        match self.policy {
            Some(_) => self.probes.hits(process.tgid()),
            None => Hits {
                hit_count: process.hit_count(),
                sample_count: 0,
            },
        }
    }

    /// What that cost, since an earlier count of `passed_ns` ago.
    pub(super) fn overhead(&self, before: Hits, now: Hits, passed_ns: u64) -> Overhead {
        let hits = now.hit_count.saturating_sub(before.hit_count);
        let records = now.sample_count.saturating_sub(before.sample_count);
        Overhead {
            hits_per_second: hits as f64 * 1e9 / passed_ns.max(1) as f64,
            ns_per_hit: self.budget.cost.map(|cost| match hits {
                0 => cost.ns_per_hit,
                _ => cost.total_ns(hits, records) / hits as f64,
            }),
        }
    }

    /// Says that figures are estimates, where they are.
    pub(super) fn estimated(
        &self,
        mut accuracy: Accuracy,
        (sample_bytes, variance): (u64, f64),
        profile_bytes: Option<u64>,
    ) -> Accuracy {
        let by_default = self.policy.map_or(0, |policy| policy.sample_bytes);
        // A profile has samples as far apart as its own program wants them.
        accuracy.sample_bytes = profile_bytes.unwrap_or(sample_bytes.max(by_default));
        if accuracy.sample_bytes == 0 {
            return accuracy;
        }
        if accuracy.kind == AccuracyKind::Exact {
            accuracy.kind = AccuracyKind::Sampled;
        }
        accuracy.live_bytes_error = Some((ERRORS_OF_95_PERCENT * variance.sqrt()).round() as u64);
        accuracy
    }
}
