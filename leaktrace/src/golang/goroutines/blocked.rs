//! Owns what several looks at a process's goroutines tell together: which stay where they are, since
//! when, and who made them.
//! Must not know how memory is read or how addresses are named.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{Goroutine, Snapshot, State};

/// As many goroutines as are followed; beyond, those that are not known yet have no age.
const FOLLOWED_MAX: usize = 1 << 17;

/// As many goroutines that stay as are told one by one.
const STAYING_MAX: usize = 4096;

/// As many different stacks as are kept of one process.
const STACKS_MAX: usize = 1 << 14;

/// A goroutine that has not run since it was first seen like this.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sp: u64,
    pc: u64,
    turns: u8,
    since_ns: u64,
    stack: u32,
}

impl Seen {
    /// Whether the goroutine has not run since. Where it waits alone does not tell: a loop waits at one
    /// place. The number of turns has 8 bits, so one that ran exactly 256 times would pass.
    fn is_still(&self, goroutine: &Goroutine) -> bool {
        (self.sp, self.pc, self.turns) == (goroutine.sp, goroutine.pc, goroutine.turns)
    }
}

/// Goroutines that block at one place, made at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedGroup {
    /// What they do.
    pub state: State,
    /// Why they wait.
    pub wait_reason: Option<&'static str>,
    /// Return addresses, innermost first.
    pub stack: Vec<u64>,
    /// The address after the `go` statement.
    pub created_pc: u64,
    /// The function that they run.
    pub start_pc: u64,
    /// How many there are.
    pub count: u64,
    /// How many of them have not run for the minimum age.
    pub long_count: u64,
    /// When the first of them was first seen there.
    pub since_ns: u64,
}

/// Goroutines that one `go` statement made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedGroup {
    /// The address after the statement; 0 for the first goroutine.
    pub created_pc: u64,
    /// The function that they run.
    pub start_pc: u64,
    /// How many there are.
    pub count: u64,
    /// How many of them have not run for the minimum age.
    pub long_count: u64,
}

/// All goroutines of a process at one moment, with what earlier looks told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many there are in each state.
    pub states: BTreeMap<State, u64>,
    /// By who made them, most first.
    pub created: Vec<CreatedGroup>,
    /// Those that block, most first.
    pub blocked: Vec<BlockedGroup>,
    /// Those that have not run for the minimum age, up to a limit; without the program's first goroutine, which
    /// holds all that the program works with, for as long as it runs.
    pub staying: Vec<Goroutine>,
    /// How many were not read.
    pub unread: u64,
}

impl Census {
    /// How many have not run for the minimum age.
    #[must_use]
    pub fn long_count(&self) -> u64 {
        self.blocked.iter().map(|group| group.long_count).sum()
    }
}

/// The goroutines of a process that were seen to wait.
#[derive(Debug, Default)]
pub struct Blocked {
    seen: FxHashMap<u64, Seen>,
    stacks: Vec<Vec<u64>>,
    by_stack: FxHashMap<Vec<u64>, u32>,
}

impl Blocked {
    /// Takes in a look and says what is known now. `read_stack` is asked for those that were not seen
    /// like this before; `is_wanted` says by the function that a goroutine runs whether it counts.
    pub fn take_in(
        &mut self,
        snapshot: &Snapshot,
        now_ns: u64,
        min_age_ns: u64,
        mut is_wanted: impl FnMut(&Goroutine) -> bool,
        mut read_stack: impl FnMut(&Goroutine) -> Vec<u64>,
    ) -> Census {
        if self.stacks.len() >= STACKS_MAX {
            *self = Self::default();
        }
        let mut census = Census {
            unread: snapshot.unread,
            ..Census::default()
        };
        let before = std::mem::take(&mut self.seen);
        let mut created: FxHashMap<(u64, u64), CreatedGroup> = FxHashMap::default();
        let mut groups: FxHashMap<(State, u64, u32), BlockedGroup> = FxHashMap::default();
        for goroutine in snapshot.goroutines.iter().filter(|it| is_wanted(it)) {
            *census.states.entry(goroutine.state).or_default() += 1;
            let mut is_long = false;
            if goroutine.state.is_blocked() {
                let known = before
                    .get(&goroutine.id)
                    .filter(|it| it.is_still(goroutine));
                let seen = known.copied().unwrap_or_else(|| Seen {
                    sp: goroutine.sp,
                    pc: goroutine.pc,
                    turns: goroutine.turns,
                    since_ns: now_ns,
                    stack: self.intern(read_stack(goroutine)),
                });
                is_long = known.is_some() && now_ns.saturating_sub(seen.since_ns) >= min_age_ns;
                let is_first = goroutine.created_pc == 0;
                if is_long && !is_first && census.staying.len() < STAYING_MAX {
                    census.staying.push(*goroutine);
                }
                if self.seen.len() < FOLLOWED_MAX {
                    self.seen.insert(goroutine.id, seen);
                }
                let key = (goroutine.state, goroutine.created_pc, seen.stack);
                let group = groups
                    .entry(key)
                    .or_insert_with(|| self.group(goroutine, seen));
                group.count += 1;
                group.long_count += u64::from(is_long);
                group.since_ns = group.since_ns.min(seen.since_ns);
            }
            let key = (goroutine.created_pc, goroutine.start_pc);
            let group = created.entry(key).or_insert(CreatedGroup {
                created_pc: goroutine.created_pc,
                start_pc: goroutine.start_pc,
                count: 0,
                long_count: 0,
            });
            group.count += 1;
            group.long_count += u64::from(is_long);
        }
        census.created = created.into_values().collect();
        census
            .created
            .sort_unstable_by_key(|it| (std::cmp::Reverse(it.count), it.created_pc, it.start_pc));
        census.blocked = groups.into_values().collect();
        census.blocked.sort_by(|one, other| {
            let key = |it: &BlockedGroup| (std::cmp::Reverse(it.count), it.since_ns);
            key(one)
                .cmp(&key(other))
                .then_with(|| one.stack.cmp(&other.stack))
        });
        census
    }

    /// A group without anyone in it yet.
    fn group(&self, goroutine: &Goroutine, seen: Seen) -> BlockedGroup {
        BlockedGroup {
            state: goroutine.state,
            wait_reason: goroutine.wait_reason,
            stack: self.stacks[seen.stack as usize].clone(),
            created_pc: goroutine.created_pc,
            start_pc: goroutine.start_pc,
            count: 0,
            long_count: 0,
            since_ns: seen.since_ns,
        }
    }

    fn intern(&mut self, stack: Vec<u64>) -> u32 {
        if let Some(index) = self.by_stack.get(&stack) {
            return *index;
        }
        // Fewer than goroutines that are read.
        let index = u32::try_from(self.stacks.len()).expect("stacks are bounded");
        self.stacks.push(stack.clone());
        self.by_stack.insert(stack, index);
        index
    }
}
