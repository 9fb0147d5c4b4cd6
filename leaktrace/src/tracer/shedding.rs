//! Owns when processes that ended are dropped.
//! Must not know what is said of them before.

use super::Tracer;
use crate::ledger::ProcessKey;

/// Processes that ended and still wait for a report. Beyond it those with the fewest live bytes
/// are dropped and counted.
const ENDED_MAX: usize = 4_096;

impl Tracer {
    /// Drops processes that ended and left nothing, and the least of those that did when there
    /// are too many.
    pub(super) fn shed_ended(&mut self) {
        if self.ended_count == 0 {
            return;
        }
        self.ended_count = 0;
        let ended = |it: &Self| -> Vec<_> {
            let keys = it.ledger.keys();
            keys.into_iter()
                .filter_map(|key| {
                    let process = it.ledger.get(key)?;
                    process.exited_ns()?;
                    let bytes: u64 = process.sites().iter().map(|site| site.live_bytes()).sum();
                    Some((key, bytes, process.live_count()))
                })
                .collect()
        };
        let is_host = self.targets.is_host();
        for (key, _, live_count) in ended(self) {
            if is_host && live_count == 0 {
                self.forget(key);
            }
        }
        let mut left = ended(self);
        if left.len() > ENDED_MAX {
            left.sort_by_key(|(_, bytes, _)| *bytes);
            for (key, ..) in &left[..left.len() - ENDED_MAX] {
                *self.lost.entry("ended_processes_dropped").or_default() += 1;
                self.forget(*key);
            }
        }
    }

    /// Drops all that is known of a process.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        if let Some(process) = self.ledger.get(key) {
            let tgid = process.tgid();
            if self.ledger.key(tgid) == Some(key) {
                self.context.forget(tgid);
                self.attachments.forget(&mut self.probes, tgid);
                self.go.forget(&mut self.probes, tgid);
                self.go_watch.forget(tgid);
                self.unwinding.forget(tgid);
                self.probes.forget_losses(tgid);
                self.forget_governed(key, tgid);
                self.requested.forget_tgid(tgid);
                self.listen_to_requested();
            }
        }
        self.requested.forget(key);
        self.courses.forget(key);
        self.ledger.forget(key);
        self.context.roster.forget(key);
    }
}
