//! Owns processes that are added to the trace and removed again while it runs, and the windows in which those
//! are looked at whose every call would cost too much.
//! Must not know who asks for it, or what may be spent.
//!
//! In a window some allocations are recorded. When it closes, all probes go out but those that tell of
//! the ends of blocks, and of these the records are of blocks from windows alone. When that ends too, nothing is left in
//! the process. What still lives then stays in the ledger: these are the survivors. In later windows their
//! frees are seen again.

use std::{thread, time::Duration};

use leaktrace_common::policy::{Hits, Policy, watched};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Tracer;
use crate::{
    calibration::Cost,
    host::clock::Clock,
    ledger::{ProcessKey, ProcessLedger},
    probes::Scope,
};

/// Mean bytes between samples in a window. Where traps are what is dear, records may be many: what a window
/// is for is to see blocks that survive, and those of a leak are few and often small.
const WINDOW_SAMPLE_BYTES: u64 = 64;

/// How long calls may take that are under way when a window closes.
const CALL_PATIENCE: Duration = Duration::from_millis(1);

/// The windows of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    /// When each began, in microseconds since boot.
    pub(super) begins_us: Vec<u64>,
    /// Since when there is one; for how long there were some.
    pub(super) recording: (Option<u64>, u64),
    /// The same of what followed them.
    pub(super) following: (Option<u64>, u64),
    /// How fast the process keeps growing.
    pub(super) bytes_per_second: f64,
}

/// Every process that was asked for, and the windows of those that are looked at in windows.
#[derive(Default)]
pub(super) struct Requested {
    tgids: FxHashSet<u32>,
    /// Survivors of windows that the processor watches.
    pub(super) watched: super::survivors::WatchedByKey,
    pub(super) windows: FxHashMap<ProcessKey, Windows>,
}

impl Requested {
    /// Whether a process is looked at in windows, so that its probes come and go.
    pub(super) fn has_windows(&self, key: Option<ProcessKey>) -> bool {
        key.is_some_and(|key| self.windows.contains_key(&key))
    }

    /// It is gone.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        self.windows.remove(&key);
        self.watched.remove(&key);
    }

    /// Nobody has this pid any more.
    pub(super) fn forget_tgid(&mut self, tgid: u32) {
        self.tgids.remove(&tgid);
    }
}

impl Tracer {
    /// What a hit costs, where it was measured.
    #[must_use]
    pub fn cost(&self) -> Option<Cost> {
        self.budget.cost
    }

    /// Whether it is time for another in its place: what is known of files is never dropped.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.context.modules.is_half_full()
    }

    /// Has all dropped that can be made again.
    pub fn let_go(&self) {
        self.symbolizer.let_go();
    }

    /// Begins to prepare what probes need in a process, such as tables to unwind its code by, which takes up to
    /// some seconds on another thread. It has no probe yet.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn prepare(&mut self, tgid: u32) -> anyhow::Result<()> {
        self.drain()?;
        self.probes.set_policy(tgid, &Policy::NOTHING)?;
        self.requested.tgids.insert(tgid);
        // Before its mappings are read, so that none falls between.
        self.listen_to_requested();
        self.admit(tgid);
        // Files are read now, so that probes in one need not wait for the next.
        for mapping in self.file_mappings(tgid) {
            let module = self.context.modules.resolve(tgid, &mapping);
            let module = self.context.modules.get(module).clone();
            // What cannot be read is told when probes are to go in.
            let _ = self.attachments.examine(&module, tgid);
        }
        self.publish_code()
    }

    /// Puts probes into a process that was prepared, every call of which is recorded from then on.
    ///
    /// # Errors
    ///
    /// In one clause, where it cannot be traced.
    pub fn add(&mut self, tgid: u32) -> Result<(), String> {
        self.add_with(tgid, &Policy::EVERYTHING)
    }

    /// The same, with a policy of which calls are recorded.
    pub(super) fn add_with(&mut self, tgid: u32, policy: &Policy) -> Result<(), String> {
        let told = |error: anyhow::Error| format!("{error:#}");
        if let Err(why) = self.attach_one(tgid) {
            self.remove(tgid).map_err(told)?;
            return Err(why);
        }
        self.probes.set_policy(tgid, policy).map_err(told)
    }

    /// Takes a process's probes out and forgets it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read or write its maps.
    pub fn remove(&mut self, tgid: u32) -> anyhow::Result<()> {
        self.probes.set_policy(tgid, &Policy::NOTHING)?;
        self.attachments.release_beginnings(&mut self.probes, tgid);
        self.attachments.release(&mut self.probes, tgid);
        self.drain()?;
        self.requested.tgids.remove(&tgid);
        self.listen_to_requested();
        match self.ledger.key(tgid) {
            Some(key) => self.forget(key),
            None => self.probes.forget_policy(tgid),
        }
        Ok(())
    }

    /// Hears of what those map who are asked for, and of nobody else.
    pub(super) fn listen_to_requested(&mut self) {
        if !self.targets.is_by_request {
            return;
        }
        let heard = self.context.listen_to(&self.requested.tgids);
        let _ = heard.inspect_err(super::tell_unheard);
    }

    /// Drops processes that nobody asks for, any more: their last records come after them.
    pub(super) fn forget_strangers(&mut self) {
        if !self.targets.is_by_request {
            return;
        }
        for key in self.ledger.keys() {
            let tgid = self.ledger.get(key).map(ProcessLedger::tgid);
            if tgid.is_none_or(|tgid| !self.requested.tgids.contains(&tgid)) {
                self.forget(key);
            }
        }
    }

    /// Whether a process is traced and lives.
    #[must_use]
    pub fn has(&self, tgid: u32) -> bool {
        let process = self.ledger.key(tgid).and_then(|key| self.ledger.get(key));
        process.is_some_and(|it| it.exited_ns().is_none())
    }

    /// What the probes did in a process since it was added.
    #[must_use]
    pub fn hits_of(&self, tgid: u32) -> Hits {
        self.probes.hits(tgid)
    }

    /// Live blocks of a process that were recorded.
    #[must_use]
    pub fn live_blocks(&self, tgid: u32) -> usize {
        let process = self.ledger.key(tgid).and_then(|key| self.ledger.get(key));
        process.map_or(0, ProcessLedger::live_count)
    }

    /// Whether a process is told of by its own memory profile, without a probe.
    #[must_use]
    pub fn is_profiled(&self, tgid: u32) -> bool {
        self.go.profile_rate(tgid).is_some()
    }

    /// Whether it is one of Go's, whose blocks' ends only its collections tell.
    #[must_use]
    pub fn is_of_go(&self, tgid: u32) -> bool {
        self.is_go(tgid)
    }

    /// Notes how fast a process keeps growing; 0 where it does not.
    pub fn note_growth(&mut self, tgid: u32, bytes_per_second: f64) {
        if let Some(windows) = self.windows_mut(tgid) {
            windows.bytes_per_second = bytes_per_second;
        }
    }

    /// From now on a process is looked at in windows, of which there is none yet: its probes go out, and what
    /// was live is given up.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn begin_windows(&mut self, tgid: u32) -> anyhow::Result<()> {
        self.probes.set_policy(tgid, &Policy::NOTHING)?;
        self.attachments.release_beginnings(&mut self.probes, tgid);
        self.attachments.release(&mut self.probes, tgid);
        self.drain()?;
        let Some(key) = self.ledger.key(tgid) else {
            return Ok(());
        };
        if let Some(process) = self.ledger.get(key) {
            self.probes.release(tgid, process.addresses());
        }
        self.ledger.give_up_blocks(key);
        self.requested.windows.insert(key, Windows::default());
        Ok(())
    }

    /// Puts the probes in again and begins to record, for so long at most.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn open_window(&mut self, tgid: u32, most: Duration) -> anyhow::Result<()> {
        // Probes of which some are in place must record nothing.
        self.probes.set_policy(tgid, &Policy::NOTHING)?;
        self.probes.forget_threads(tgid);
        self.attachments.forget(&mut self.probes, tgid);
        for mapping in self.file_mappings(tgid) {
            // What fails is told in the report, as coverage.
            let _ = self.attach_mapping(tgid, &mapping, Scope::Process(tgid));
        }
        let now_ns = Clock::now_boot_ns();
        if let Some(windows) = self.windows_mut(tgid) {
            windows.begins_us.push(now_ns / 1_000);
            windows.recording.0 = Some(now_ns);
        }
        let most_ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        self.probes.set_policy(
            tgid,
            &Policy {
                until_ns: now_ns.saturating_add(most_ns),
                ..Policy::sampled(WINDOW_SAMPLE_BYTES)
            },
        )
    }

    /// Records no more allocations, and waits for the frees of those that were.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn close_window(&mut self, tgid: u32) -> anyhow::Result<()> {
        let frees = Policy {
            watched: watched::FREES | watched::KEPT_ONLY,
            ..Policy::sampled(WINDOW_SAMPLE_BYTES)
        };
        self.probes.set_policy(tgid, &frees)?;
        let now_ns = Clock::now_boot_ns();
        if let Some(windows) = self.windows_mut(tgid) {
            let began_ns = windows.recording.0.take().unwrap_or(now_ns);
            windows.recording.1 += now_ns - began_ns;
            windows.following.0 = Some(now_ns);
        }
        // A call whose return nobody sees would hide the frees after it.
        thread::sleep(CALL_PATIENCE);
        self.attachments.release_beginnings(&mut self.probes, tgid);
        self.probes.forget_threads(tgid);
        Ok(())
    }

    /// Takes all probes out; what lives now has survived.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn end_window(&mut self, tgid: u32) -> anyhow::Result<()> {
        self.drain()?;
        self.probes.set_policy(tgid, &Policy::NOTHING)?;
        self.attachments.release(&mut self.probes, tgid);
        let now_ns = Clock::now_boot_ns();
        if let Some(windows) = self.windows_mut(tgid) {
            let began_ns = windows.following.0.take().unwrap_or(now_ns);
            windows.following.1 += now_ns - began_ns;
        }
        self.watch_survivors(tgid);
        Ok(())
    }

    /// From now on every call of a process is recorded that was looked at in windows: it has calmed down.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn end_windows(&mut self, tgid: u32) -> anyhow::Result<()> {
        self.begin_windows(tgid)?;
        if let Some(key) = self.ledger.key(tgid) {
            self.requested.forget(key);
        }
        self.attachments.forget(&mut self.probes, tgid);
        self.probes.forget_threads(tgid);
        for mapping in self.file_mappings(tgid) {
            // What fails is told in the report, as coverage.
            let _ = self.attach_mapping(tgid, &mapping, Scope::Process(tgid));
        }
        self.probes.set_policy(tgid, &Policy::EVERYTHING)
    }

    fn windows_mut(&mut self, tgid: u32) -> Option<&mut Windows> {
        let key = self.ledger.key(tgid)?;
        self.requested.windows.get_mut(&key)
    }
}
