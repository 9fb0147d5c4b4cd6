//! Owns which mapped files need a look for an allocator, and telling these files apart while their process lives.
//! Must not know what an allocator is.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;

use crate::{
    host::maps::{BuildId, Mapping, read_maps},
    mapping_watch::MappingWatch,
    mmap_events::MmapEvents,
};

/// Pages of the ring of mapping events on each CPU: 512 KiB hold some thousands of mappings.
const MAP_RING_PAGES: u32 = 128;

/// Build ids of files without an allocator that are remembered: beyond that, files are looked at by
/// name and number again, which costs but loses nothing.
const WITHOUT_MAX: usize = 16_384;

/// Build ids of files that define no allocator: most files, which need no second look wherever they are.
#[derive(Clone, Default)]
pub struct Without(Arc<Mutex<FxHashSet<BuildId>>>);

impl Without {
    /// Adds one, while there is room.
    pub fn insert(&self, build_id: BuildId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < WITHOUT_MAX {
            known.insert(build_id);
        }
    }

    /// Whether a mapping's file is worth a look.
    pub fn may_hold_allocator(&self, mapping: &Mapping) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mapping.is_file() && mapping.build_id.is_none_or(|it| !known.contains(&it))
    }
}

/// Listens to what is mapped on the whole host. Where that is unhurried, whoever wants to know must ask.
pub fn watch_mappings(without: Without, is_unhurried: bool) -> anyhow::Result<MappingWatch> {
    let mut last = Look {
        tgid: 0,
        at: Instant::now(),
        mappings: Vec::new(),
    };
    let prepare = move |tgid, mapping: &mut Mapping| {
        if without.may_hold_allocator(mapping) {
            identify(tgid, mapping, &mut last);
        }
    };
    let events = match is_unhurried {
        true => MmapEvents::open_unhurried(MAP_RING_PAGES)?,
        false => MmapEvents::open(MAP_RING_PAGES)?,
    };
    MappingWatch::spawn(events, Box::new(prepare))
}

/// How long a look at a process's mappings serves for others of it: as it loads its libraries.
const LOOK_SERVES: Duration = Duration::from_millis(50);

/// What a process mapped, and when.
struct Look {
    tgid: u32,
    at: Instant,
    mappings: Vec<Mapping>,
}

/// Adds which file a new mapping shows, where the kernel told only its build id. That is enough
/// for names, but probes lie in one file, and another with the same build id, as in the image of
/// another container, has none. A process that is gone keeps the build id.
///
/// A process's mappings are read again only where those that were read last do not have this one.
fn identify(tgid: u32, mapping: &mut Mapping, last: &mut Look) {
    if mapping.inode != 0 {
        return;
    }
    let same = |it: &&Mapping| it.start == mapping.start && it.path == mapping.path;
    let serves = last.tgid == tgid && last.at.elapsed() < LOOK_SERVES;
    if !serves || !last.mappings.iter().any(|it| same(&it)) {
        *last = Look {
            tgid,
            at: Instant::now(),
            mappings: read_maps(tgid).unwrap_or_default(),
        };
    }
    if let Some(known) = last.mappings.iter().find(same) {
        (mapping.device, mapping.inode) = (known.device, known.inode);
        mapping.build_id = None;
    }
}
