//! Owns what is kept beside the blocks: who the processes are, what they map, and their stacks.
//! Must not know probes or blocks.

use leaktrace_common::event::StackEnd;
use rustc_hash::FxHashMap;

use crate::{
    address_spaces::AddressSpaces,
    host::{clock::Clock, maps::read_maps},
    mappings::AddressSpace,
    modules::Modules,
    roster::Roster,
    stacks::{Place, Stack, Stacks},
};

/// A process whose stacks do not fit its known mappings is looked at again no more often than
/// this: code that no file holds, as of a JIT, would otherwise cost a look for each stack.
const REFRESH_PAUSE_NS: u64 = 1_000_000_000;

/// What is kept beside the blocks.
#[derive(Default)]
pub struct Context {
    /// Who the processes are.
    pub roster: Roster,
    /// What they map.
    pub spaces: AddressSpaces,
    /// The files that they map.
    pub modules: Modules,
    /// Their stacks.
    pub stacks: Stacks,
    refreshed_ns: FxHashMap<u32, u64>,
}

impl Context {
    /// Turns a new stack's addresses into files and offsets, by what was mapped at its time.
    pub fn resolve(&mut self, tgid: u32, id: u64, frames: &[u64], end: StackEnd, time_ns: u64) {
        self.spaces.advance(time_ns);
        let is_known = |it: &Self, address: &u64| {
            it.spaces
                .get(tgid)
                .is_some_and(|space| space.lookup(address.wrapping_sub(1)).is_some())
        };
        if !frames.iter().all(|address| is_known(self, address)) {
            self.refresh(tgid, time_ns);
        }
        let places = frames
            .iter()
            .map(|address| self.place(tgid, *address))
            .collect();
        self.stacks.insert(id, Stack { places, end });
    }

    fn place(&mut self, tgid: u32, address: u64) -> Place {
        // A return address may be the first byte after its mapping; the call is inside.
        let mapping = self
            .spaces
            .get(tgid)
            .and_then(|it| it.lookup(address.wrapping_sub(1)));
        let Some(mapping) = mapping else {
            return Place::Unmapped { address };
        };
        let module = self.modules.resolve(tgid, mapping);
        Place::Code {
            module,
            file_offset: mapping.file_offset_of(address),
        }
    }

    /// Reads a process's mappings, if it is still there.
    pub fn snapshot(&mut self, tgid: u32) {
        let now_ns = Clock::now_boot_ns();
        if let Ok(mappings) = read_maps(tgid)
            && !mappings.is_empty()
        {
            self.spaces
                .snapshot(tgid, AddressSpace::from_mappings(mappings), now_ns);
        }
    }

    /// Reads the mappings of processes again because records of changes were lost.
    pub fn refresh_all(&mut self, tgids: impl Iterator<Item = u32>) {
        tgids.for_each(|tgid| self.snapshot(tgid));
    }

    fn refresh(&mut self, tgid: u32, time_ns: u64) {
        let last_ns = self.refreshed_ns.entry(tgid).or_default();
        if time_ns.saturating_sub(*last_ns) > REFRESH_PAUSE_NS {
            *last_ns = time_ns;
            self.snapshot(tgid);
        }
    }
}
