//! Owns what is kept beside the blocks: who the processes are, what they map, and their stacks.
//! Must not know probes or blocks.

use std::{fs::File, ops::Range, sync::Arc};

use leaktrace_common::event::StackEnd;
use rustc_hash::{FxHashMap, FxHashSet};

use super::without::{Without, watch_mappings};
use crate::{
    address_spaces::AddressSpaces,
    host::{
        clock::Clock,
        maps::{BuildId, Mapping, read_maps},
    },
    mapping_watch::{MappingWatch, Seen},
    mappings::AddressSpace,
    mmap_events::MapChange,
    modules::{ModuleId, Modules},
    roster::Roster,
    stacks::{Place, Stack, Stacks},
};

/// A process whose stacks do not fit its known mappings is looked at again no more often than
/// this: code that no file holds, as of a JIT, would otherwise cost a look for each stack.
const REFRESH_PAUSE_NS: u64 = 1_000_000_000;

/// What is kept beside the blocks.
pub struct Context {
    /// Who the processes are.
    pub roster: Roster,
    /// What they map.
    pub spaces: AddressSpaces,
    /// The files that they map.
    pub modules: Modules,
    /// Their stacks.
    pub stacks: Stacks,
    /// New images and new mappings of files, by process, not acted on yet; `None` is a new image.
    pub mapped_files: Vec<(u32, Option<Mapping>)>,
    /// Records of mappings that the kernel dropped.
    pub map_records_lost: u64,
    /// Where stacks go that are to be checked.
    pub oracle: Option<File>,
    mapping_watch: Option<MappingWatch>,
    refreshed_ns: FxHashMap<u32, u64>,
    /// Files that define no allocator.
    without: Without,
    /// Where in a file an allocator's own code is, by which stacks begin that were taken in its depths.
    own_code: FxHashMap<ModuleId, Arc<[Range<u64>]>>,
}

impl Context {
    /// Begins to take in what is mapped, where the kernel tells.
    pub fn new(mapping_watch: Option<MappingWatch>, without: Without) -> Self {
        Self {
            roster: Roster::default(),
            spaces: AddressSpaces::default(),
            modules: Modules::default(),
            stacks: Stacks::default(),
            mapped_files: Vec::new(),
            map_records_lost: 0,
            oracle: None,
            mapping_watch,
            refreshed_ns: FxHashMap::default(),
            without,
            own_code: FxHashMap::default(),
        }
    }

    /// Leaves these parts of a file out at the beginning of stacks from now on.
    pub fn leave_out(&mut self, module: ModuleId, own_code: &Arc<[Range<u64>]>) {
        self.own_code.insert(module, Arc::clone(own_code));
    }

    /// Listens to what these processes map, and to nothing where there are none.
    pub fn listen_to(&mut self, tgids: &FxHashSet<u32>) -> anyhow::Result<()> {
        if tgids.is_empty() {
            self.mapping_watch = None;
            return Ok(());
        }
        let watch = match &mut self.mapping_watch {
            Some(watch) => watch,
            none => {
                self.map_records_lost = 0;
                let watch = watch_mappings(self.without.clone(), true)?;
                none.insert(watch)
            }
        };
        watch.want_only(tgids.iter().copied().collect());
        Ok(())
    }

    /// Takes in what was mapped since the last time; `true` when records of it were lost.
    pub fn take_mappings(&mut self) -> bool {
        let Some(watch) = &self.mapping_watch else {
            return false;
        };
        let (seen, until_ns) = watch.take();
        let lost = watch.lost();
        for Seen { event, file } in seen {
            match &event.change {
                MapChange::Mapped(mapping) => {
                    if self.without.may_hold_allocator(mapping) {
                        self.mapped_files.push((event.tgid, Some(mapping.clone())));
                    }
                    if let Some(file) = file {
                        self.modules.keep_early(mapping, file);
                    }
                }
                MapChange::Executed => self.mapped_files.push((event.tgid, None)),
                MapChange::Forked { .. } => {}
            }
            self.spaces.push(event);
        }
        self.spaces.complete(until_ns);
        std::mem::replace(&mut self.map_records_lost, lost) != lost
    }

    /// Notes that files with this build id define no allocator, which only a file that is trusted can tell.
    pub fn note_without(&mut self, build_id: BuildId) {
        self.without.insert(build_id);
    }

    /// Waits until something is mapped; for ever, where the kernel does not tell.
    pub async fn wait_for_mapping(&self) {
        match &self.mapping_watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Turns a new stack's addresses into files and offsets, by what was mapped at its time.
    pub fn resolve(&mut self, tgid: u32, id: u64, frames: &[u64], end: StackEnd, time_ns: u64) {
        if !self.spaces.is_complete(time_ns) {
            // The process may have begun after mappings were last taken in.
            self.take_mappings();
        }
        self.spaces.advance(time_ns);
        if !self.maps_all(tgid, frames) {
            self.refresh(tgid, time_ns);
        }
        let mut places = self.places(tgid, frames);
        let own = places.iter().take_while(|it| self.is_own(**it)).count();
        // A stack of nothing else is kept.
        if own < places.len() {
            places.drain(..own);
        }
        self.stacks.insert(id, Stack { places, end });
    }

    /// Forgets a process that has ended.
    pub fn forget(&mut self, tgid: u32) {
        self.spaces.forget(tgid);
        self.modules.forget_process(tgid);
        self.refreshed_ns.remove(&tgid);
    }

    /// Whether it is within an allocator that is left out.
    fn is_own(&self, place: Place) -> bool {
        let Place::Code {
            module,
            file_offset,
        } = place
        else {
            return false;
        };
        let own = self.own_code.get(&module);
        // A return address may be the first byte behind its function.
        own.is_some_and(|own| {
            own.iter()
                .any(|it| it.contains(&file_offset.wrapping_sub(1)))
        })
    }

    /// Turns addresses into files and offsets, by what is mapped now.
    pub fn places(&mut self, tgid: u32, addresses: &[u64]) -> Vec<Place> {
        let places = addresses.iter().map(|address| self.place(tgid, *address));
        places.collect()
    }

    fn maps_all(&self, tgid: u32, frames: &[u64]) -> bool {
        self.spaces.get(tgid).is_some_and(|space| {
            frames
                .iter()
                .all(|address| space.lookup(address.wrapping_sub(1)).is_some())
        })
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
        // Memory without a file, which programs can give a name.
        if (mapping.path.is_empty() || mapping.path.starts_with("[anon:"))
            && let Some(module) = self.modules.perf_map(tgid)
        {
            // Generated code: its map goes by addresses.
            return Place::Code {
                module,
                file_offset: address,
            };
        }
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

    fn refresh(&mut self, tgid: u32, time_ns: u64) {
        let last_ns = self.refreshed_ns.entry(tgid).or_default();
        if time_ns.saturating_sub(*last_ns) > REFRESH_PAUSE_NS {
            *last_ns = time_ns;
            self.snapshot(tgid);
        }
    }
}
