//! Owns what a report tells of goroutines, and which sites' blocks are held by those that stay blocked.
//! Must not know how their memory is read or how a report is written.

use std::{future::Future, time::Duration};

use rustc_hash::FxHashMap;
use tokio::time::{Instant, sleep, sleep_until};

use leaktrace_common::event::StackEnd;

use super::Tracer;
use crate::{
    go_watch::Look,
    golang::{
        goroutines::{BlockedGroup, Census, CreatedGroup, Held, HeldBlock},
        heap::Slot,
        plan::Way,
    },
    ledger::{GoBlockFound, ProcessKey, ProcessLedger},
    naming::Names,
    report::model::{self, Frame},
    stacks::Stack,
    summary::ProcessSummary,
};

/// How long a report waits for all looks together. What is late is said to be.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often records are taken in meanwhile.
const TICK: Duration = Duration::from_millis(20);

/// How many steps from a stack blocks are followed: what a goroutine works with, not all that a program has.
const STEPS_MAX: usize = 3;

/// Groups of each kind that a report lists.
const GROUPS_MAX: usize = 32;

/// Why there is nothing to tell when a look takes too long.
const LATE: &str = "its goroutines could not be looked at in time";

/// A place that has no name yet.
type Unnamed = Option<Stack>;

/// What a look at a process told, its addresses files and offsets.
pub(super) struct Seen {
    census: Result<Census, String>,
    now_ns: u64,
    /// Who made each group of `created`, and the function that it runs.
    created: Vec<(Unnamed, Unnamed)>,
    /// Who made each group of `blocked`, and where it is.
    blocked: Vec<(Unnamed, Stack)>,
    held: Held,
}

/// What was seen, by process.
pub(super) type Goroutines = FxHashMap<ProcessKey, Seen>;

impl Tracer {
    /// Looks at the goroutines of every traced Go process that runs. Records are taken in meanwhile.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub(super) async fn look_at_goroutines(
        &mut self,
        min_age: Duration,
    ) -> anyhow::Result<Goroutines> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Goroutines::default();
        for tgid in self.tgids() {
            let Some(key) = self.ledger.key(tgid) else {
                continue;
            };
            let has_exited = |it: &ProcessLedger| it.exited_ns().is_some();
            if !self.is_go(tgid) || self.ledger.get(key).is_none_or(has_exited) {
                continue;
            }
            // Of what is sampled most objects are not known, and what those point to is held too.
            let is_sampled = self.go.profile_rate(tgid).is_some()
                || self.go_way(Some(tgid)) == Way::Refills
                || self.policy.is_some_and(|policy| policy.sample_bytes != 0);
            let look = self.go_watch.look(tgid, min_age, is_sampled);
            let look = match self.meanwhile(look, deadline).await? {
                Some(Ok(look)) => look,
                _ => Err(LATE.to_owned()),
            };
            if look.is_err() {
                *self.lost.entry("goroutine_looks_failed").or_default() += 1;
            }
            let held = match &look {
                Ok(look) => self.held(key, tgid, look, deadline).await?,
                Err(_) => Held::default(),
            };
            seen.insert(key, self.resolve(tgid, look.map(|it| it.census), held));
        }
        Ok(seen)
    }

    /// Waits for an answer, and takes in what the probes record until it comes.
    async fn meanwhile<T>(
        &mut self,
        answer: impl Future<Output = T>,
        deadline: Instant,
    ) -> anyhow::Result<Option<T>> {
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(Some(answer)),
                () = sleep_until(deadline) => return Ok(None),
                () = sleep(TICK) => self.drain_some()?,
            }
        }
    }

    /// What those that stay blocked hold, as far as it was followed in time.
    async fn held(
        &mut self,
        key: ProcessKey,
        tgid: u32,
        look: &Look,
        deadline: Instant,
    ) -> anyhow::Result<Held> {
        let mut held = Held::default();
        let mut words = look.words.clone();
        for _ in 0..STEPS_MAX {
            let Some(process) = self.ledger.get(key) else {
                break;
            };
            let find = |address| {
                let slot = look.heap.slot_at(address);
                if slot.is_some_and(|it| it.is_rooted) {
                    return None;
                }
                let kept = process.go_block_at(address).map(held_block);
                kept.or_else(|| Some(self.object(process, tgid, slot?)))
            };
            let reached = held.take_in(&words, find);
            if reached.is_empty() {
                break;
            }
            let answer = self.go_watch.blocks(tgid, reached);
            match self.meanwhile(answer, deadline).await? {
                Some(Ok(found)) => words = found,
                _ => break,
            }
        }
        Ok(held)
    }

    /// An object of the heap: of a site, where the program's own profile has sampled it.
    fn object(&self, process: &ProcessLedger, tgid: u32, slot: Slot) -> HeldBlock {
        let key = slot.bucket.and_then(|bucket| self.go.bucket(tgid, bucket));
        let site = key.and_then(|key| process.profiled_site(key));
        let (number, count, bytes) = site.map_or((None, 0, 0), |(number, count, bytes)| {
            (Some(number), count, bytes)
        });
        HeldBlock {
            address: slot.address,
            size_bytes: slot.size_bytes,
            site: number,
            counts_as: count,
            counts_as_bytes: bytes,
        }
    }

    fn resolve(&mut self, tgid: u32, census: Result<Census, String>, held: Held) -> Seen {
        let mut stack = |addresses: &[u64]| Stack {
            places: self.context.places(tgid, addresses),
            end: StackEnd::Root,
        };
        let mut one = |address: u64| (address != 0).then(|| stack(&[address]));
        let (mut created, mut blocked) = (Vec::new(), Vec::new());
        if let Ok(census) = &census {
            for group in census.created.iter().take(GROUPS_MAX) {
                // A function begins where it begins; names are looked up for what a call returns to.
                created.push((one(group.created_pc), one(group.start_pc.saturating_add(1))));
            }
            for group in census.blocked.iter().take(GROUPS_MAX) {
                blocked.push((one(group.created_pc), group.stack.as_slice()));
            }
        }
        let blocked = blocked.into_iter();
        Seen {
            now_ns: crate::host::clock::Clock::now_boot_ns(),
            created,
            blocked: blocked
                .map(|(by, addresses)| (by, stack(addresses)))
                .collect(),
            held,
            census,
        }
    }
}

const fn held_block(found: GoBlockFound) -> HeldBlock {
    HeldBlock {
        address: found.address,
        size_bytes: found.size_bytes,
        site: Some(found.site),
        counts_as: found.counts_as,
        counts_as_bytes: found.counts_as_bytes,
    }
}

impl Seen {
    /// Every stack that is to be named.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let created = self
            .created
            .iter()
            .flat_map(|(by, start)| by.iter().chain(start));
        let blocked = self.blocked.iter();
        created.chain(blocked.flat_map(|(by, stack)| by.iter().chain([stack])))
    }

    /// Adds to the evidence of sites what of them is held by goroutines that stay blocked, where that tells something.
    pub fn add_evidence(&self, summary: &mut ProcessSummary) {
        for site in &mut summary.sites {
            if let Some(totals) = self.held.of(site.numbers())
                && totals.is_telling(site.counts.live_count)
            {
                let evidence = &mut site.judgement.evidence;
                for (name, count) in [
                    ("blocked_goroutines", totals.goroutine_count),
                    ("blocked_goroutines_hold_count", totals.object_count),
                    ("blocked_goroutines_hold_bytes", totals.bytes),
                ] {
                    evidence.insert(name, count as f64);
                }
            }
        }
    }

    /// As the report tells it.
    pub fn told(&self, names: &Names) -> model::Goroutines {
        let census = match &self.census {
            Ok(census) => census,
            Err(why) => {
                return model::Goroutines {
                    unavailable: Some(why.clone()),
                    ..model::Goroutines::default()
                };
            }
        };
        let created = census.created.iter().zip(&self.created);
        let blocked = census.blocked.iter().zip(&self.blocked);
        model::Goroutines {
            count: census.states.values().sum(),
            blocked_count: census.long_count(),
            states: census
                .states
                .iter()
                .map(|(state, count)| (state.word(), *count))
                .collect(),
            unread_count: census.unread,
            created: created
                .map(|(group, places)| told_created(group, places, names))
                .collect(),
            blocked: blocked
                .map(|(group, (by, stack))| self.told_blocked(group, by, stack, names))
                .collect(),
            unavailable: None,
        }
    }

    fn told_blocked(
        &self,
        group: &BlockedGroup,
        created_by: &Unnamed,
        stack: &Stack,
        names: &Names,
    ) -> model::BlockedGoroutines {
        model::BlockedGoroutines {
            count: group.count,
            blocked_count: group.long_count,
            state: group.state.word().to_owned(),
            wait_reason: group.wait_reason.map(str::to_owned),
            age: Duration::from_nanos(self.now_ns.saturating_sub(group.since_ns)),
            created_by: frame(created_by, names),
            stack: names.of(stack).0,
        }
    }
}

fn told_created(
    group: &CreatedGroup,
    (created_by, start): &(Unnamed, Unnamed),
    names: &Names,
) -> model::CreatedGoroutines {
    model::CreatedGoroutines {
        count: group.count,
        blocked_count: group.long_count,
        created_by: frame(created_by, names),
        function: frame(start, names).and_then(|frame| frame.function),
    }
}

fn frame(place: &Unnamed, names: &Names) -> Option<Frame> {
    let (frames, _) = names.of(place.as_ref()?);
    frames.into_iter().next()
}
