//! Owns what is known of each traced process besides its blocks, kept also when it is gone.
//! Must not know allocations.

use leaktrace_common::policy::Hits;
use rustc_hash::FxHashMap;

use crate::{
    decode::Image,
    host::{
        containers::Containers,
        process::{self, ProcessFacts},
    },
    ledger::ProcessKey,
};

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// What `/proc` told while it lived; `None` when it was gone before we looked.
    pub facts: Option<ProcessFacts>,
    /// When it was created, in nanoseconds since boot: with the pid, its identity.
    pub start_boot_ns: u64,
    /// The command name, where only an event told it.
    pub comm: String,
    /// The user's number, where only an event told it.
    pub uid: Option<u32>,
    /// Whether it ran before its probes were in place, though it began during the trace.
    pub is_attached_late: bool,
    /// Probes hit and the time at the last report, for the rate since.
    pub reported_hits: (Hits, u64),
    /// Nanoseconds during which its probes were out, and since when they are.
    pub unwatched: (u64, Option<u64>),
}

impl Member {
    /// How long its probes were out up to `now_ns`.
    #[must_use]
    pub fn unwatched_ns(&self, now_ns: u64) -> u64 {
        let (before_ns, since_ns) = self.unwatched;
        before_ns + since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns))
    }
}

/// Every traced process.
#[derive(Debug, Default)]
pub struct Roster {
    /// What their containers are called.
    pub containers: Containers,
    members: FxHashMap<ProcessKey, Member>,
}

impl Roster {
    /// Notes a process, as far as `/proc` still knows it. A process that was seen being made at
    /// `born_ns` is dated by that, since its entry there may be gone or another's.
    pub fn note(&mut self, key: ProcessKey, tgid: u32, born_ns: Option<u64>, uid: Option<u32>) {
        let member = self.members.entry(key).or_default();
        member.uid = uid.or(member.uid);
        // The kernel stamps a process a little before the probe does, in ticks of 10 ms.
        let is_same = |facts: &ProcessFacts| {
            born_ns.is_none_or(|born| facts.start_boot_ns.abs_diff(born) < 1_000_000_000)
        };
        let facts = ProcessFacts::read(tgid).ok().filter(is_same);
        if member.start_boot_ns == 0 {
            // Set once: an identity must not change between reports. What was seen being made is
            // dated by that: `/proc` counts in ticks of 10 ms, in which a pid can be used twice.
            let found_ns = facts.as_ref().map(|facts| facts.start_boot_ns);
            member.start_boot_ns = born_ns.or(found_ns).unwrap_or(0);
        }
        if let Some(facts) = facts {
            if let Some(container) = &facts.container {
                // Now, while it lives: its pod may be gone by the time of the report.
                self.containers.ask(container, tgid);
            }
            member.facts = Some(facts);
        }
    }

    /// Notes a new image of a process.
    pub fn note_image(&mut self, key: ProcessKey, image: &Image, born_ns: Option<u64>) {
        let member = self.members.entry(key).or_default();
        // What was read of the former image is wrong from here on.
        member.facts = None;
        let length = image
            .comm
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(image.comm.len());
        member.comm = String::from_utf8_lossy(&image.comm[..length]).into_owned();
        self.note(key, image.tgid, born_ns, Some(image.uid));
    }

    /// What is known of a process.
    #[must_use]
    pub fn get(&self, key: ProcessKey) -> Option<&Member> {
        self.members.get(&key)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: ProcessKey) -> &mut Member {
        self.members.entry(key).or_default()
    }

    /// Drops a process that was reported and is gone.
    pub fn forget(&mut self, key: ProcessKey) {
        self.members.remove(&key);
    }

    /// Resident memory of a process, unless it is gone.
    #[must_use]
    pub fn rss_bytes(&self, key: ProcessKey) -> Option<u64> {
        let facts = self.members.get(&key)?.facts.as_ref()?;
        let is_alive = process::is_alive(facts.pid, facts.start_ticks);
        is_alive.then(|| process::rss_bytes(facts.pid).ok())?
    }
}
