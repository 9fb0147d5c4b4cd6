//! Owns what the probes are told to record of whom, and the blocks that they are told to wait for.
//! Must not know why: budgets and samples are decided elsewhere.

use leaktrace_common::policy::Policy;

use super::Tracer;
use crate::{
    ledger::{Ledger, ProcessKey, ProcessLedger},
    report::model::{Accuracy, AccuracyKind},
};

/// Two-sided 95 % of a normal distribution, in standard errors.
const ERRORS_OF_95_PERCENT: f64 = 1.96;

/// What is to be told to the probes of recorded blocks, once the batch that told of it is taken in.
#[derive(Default)]
pub(super) struct Keeping {
    /// Children, whose blocks the probes know as their parents'.
    forked: Vec<u32>,
    /// Blocks whose image is gone.
    ended: Vec<(u32, Vec<u64>)>,
}

impl Keeping {
    pub(super) fn forked(&mut self, child: u32) {
        self.forked.push(child);
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
        let Keeping { forked, ended } = std::mem::take(&mut self.keeping);
        let Some(policy) = self.policy else {
            return Ok(());
        };
        for (tgid, addresses) in ended {
            self.probes.release(tgid, addresses.into_iter());
        }
        for child in forked {
            self.take_over(child, &policy)?;
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
    }

    /// Traps of a process since it is traced.
    pub(super) fn hit_count(&self, process: &ProcessLedger) -> u64 {
        match self.policy {
            Some(_) => self.probes.hits(process.tgid()).hit_count,
            None => process.hit_count(),
        }
    }

    /// Says that figures are estimates, where they are.
    pub(super) fn estimated(
        &self,
        mut accuracy: Accuracy,
        (sample_bytes, variance): (u64, f64),
    ) -> Accuracy {
        let by_default = self.policy.map_or(0, |policy| policy.sample_bytes);
        accuracy.sample_bytes = sample_bytes.max(by_default);
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
