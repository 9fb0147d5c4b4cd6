//! Owns which file is probed for whom.
//! Must not know events, ledgers or reports.

use std::{collections::BTreeSet, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{
    allocators::{Allocator, ReturnProbes},
    examine::{self, Examined},
    modules::{Module, ModuleId},
    probes::{Attached, Probes, Scope},
};

/// What became of the probes of a file.
enum Placement {
    /// They are in place.
    Live(Attached),
    /// They were, until the process ended.
    Released,
    /// They were refused, for this reason.
    Refused(String),
}

impl Placement {
    fn outcome(&self) -> Result<(), String> {
        match self {
            Self::Live(_) | Self::Released => Ok(()),
            Self::Refused(why) => Err(why.clone()),
        }
    }
}

/// Every file that was looked at and every link.
#[derive(Default)]
pub struct Attachments {
    examined: FxHashMap<ModuleId, Result<Arc<Examined>, String>>,
    /// Files whose probes fire for everyone.
    for_all: FxHashMap<ModuleId, Placement>,
    /// Files whose probes fire for one process, by process.
    for_one: FxHashMap<u32, FxHashMap<ModuleId, Placement>>,
    return_probes: ReturnProbes,
}

impl Attachments {
    /// None yet.
    #[must_use]
    pub fn new(return_probes: ReturnProbes) -> Self {
        Self {
            return_probes,
            ..Self::default()
        }
    }

    /// The allocators in a file, or why they cannot be told. Files are read once. `pid` is a
    /// process that maps it, in whose root separate symbols are looked for.
    ///
    /// # Errors
    ///
    /// In one clause, fit for the report.
    pub fn examine(&mut self, module: &Module, pid: u32) -> Result<Arc<Examined>, String> {
        if let Some(known) = self.examined.get(&module.id) {
            return known.clone();
        }
        let examined = examine::examine(module, pid, self.return_probes)
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"));
        self.examined.insert(module.id, examined.clone());
        examined
    }

    /// The allocators of a file that was looked at.
    #[must_use]
    pub fn allocators(&self, module: ModuleId) -> &[Allocator] {
        let examined = self.examined(module);
        examined.map_or(&[], |it| &it.allocators)
    }

    /// What was found in a file that was looked at.
    #[must_use]
    pub fn examined(&self, module: ModuleId) -> Option<&Examined> {
        self.examined.get(&module)?.as_deref().ok()
    }

    /// Why a file could not be looked at, where that was tried.
    #[must_use]
    pub fn unreadable(&self, module: ModuleId) -> Option<&str> {
        self.examined
            .get(&module)?
            .as_ref()
            .err()
            .map(String::as_str)
    }

    /// Puts the probes of a file in place for a scope, unless they are; `false` where the file has
    /// nothing to probe.
    ///
    /// # Errors
    ///
    /// In one clause, fit for the report. A failure is remembered and not tried again.
    pub fn attach(
        &mut self,
        probes: &mut Probes,
        module: &Module,
        pid: u32,
        scope: Scope,
    ) -> Result<bool, String> {
        let made = match scope {
            Scope::Host => self.for_all.get(&module.id),
            Scope::Process(tgid) => self.for_one.get(&tgid).and_then(|it| it.get(&module.id)),
        };
        if let Some(made) = made {
            return made.outcome().map(|()| true);
        }
        let examined = self.examine(module, pid)?;
        let has_probes = |it: &Allocator| !it.probes.is_empty();
        if !examined.allocators.iter().any(has_probes) {
            return Ok(false);
        }
        let file = module.file.as_ref().ok_or("the file could not be opened")?;
        let attached = probes
            .attach(file, &examined.allocators, scope)
            .map_err(|error| format!("{error:#}"));
        let placement = attached.map_or_else(Placement::Refused, Placement::Live);
        let outcome = placement.outcome();
        match scope {
            Scope::Host => self.for_all.insert(module.id, placement),
            Scope::Process(tgid) => self
                .for_one
                .entry(tgid)
                .or_default()
                .insert(module.id, placement),
        };
        outcome.map(|()| true)
    }

    /// The files that are probed for a process, or were until it ended.
    #[must_use]
    pub fn files_of(&self, tgid: u32) -> Vec<ModuleId> {
        let of_one = self.for_one.get(&tgid).into_iter().flatten();
        let placed = of_one
            .chain(&self.for_all)
            .filter(|(_, it)| it.outcome().is_ok());
        placed.map(|(id, _)| *id).collect()
    }

    /// Whether a file's probes are in place for a process, or were until it ended.
    #[must_use]
    pub fn is_placed(&self, tgid: u32, module: ModuleId) -> bool {
        let of_one = self.for_one.get(&tgid).and_then(|it| it.get(&module));
        let placed = of_one.or_else(|| self.for_all.get(&module));
        placed.is_some_and(|it| it.outcome().is_ok())
    }

    /// Why a file is not probed for a process, where it was tried.
    #[must_use]
    pub fn failure(&self, tgid: u32, module: ModuleId) -> Option<String> {
        let made = self.for_one.get(&tgid).and_then(|it| it.get(&module));
        made.or_else(|| self.for_all.get(&module))?.outcome().err()
    }

    /// Takes out the links that fired for one process only.
    pub fn release(&mut self, probes: &mut Probes, tgid: u32) {
        for attached in self.take_live(tgid) {
            probes.detach(attached);
        }
    }

    /// The same for a process of which nothing is recorded any more, and which runs into them as long as they are there.
    pub fn release_at_once(&mut self, probes: &mut Probes, tgid: u32) {
        for attached in self.take_live(tgid) {
            probes.detach_at_once(attached);
        }
    }

    fn take_live(&mut self, tgid: u32) -> Vec<Attached> {
        let placements = self.for_one.get_mut(&tgid).into_iter().flatten();
        let take = |(_, placement): (_, &mut Placement)| {
            matches!(placement, Placement::Live(_))
                .then(|| std::mem::replace(placement, Placement::Released))
        };
        let taken = placements.filter_map(take);
        taken
            .filter_map(|placement| match placement {
                Placement::Live(attached) => Some(attached),
                _ => None,
            })
            .collect()
    }

    /// Takes out, at once, those links of one process that tell nothing of the ends of blocks.
    pub fn release_beginnings(&mut self, probes: &mut Probes, tgid: u32) {
        let placements = self.for_one.get_mut(&tgid).into_iter().flatten();
        for (_, placement) in placements {
            if let Placement::Live(attached) = placement {
                probes.detach_beginnings(attached);
            }
        }
    }

    /// Takes out the links that fired for everyone; they can be put in again.
    pub fn release_host(&mut self, probes: &mut Probes) {
        let live = |_: &ModuleId, it: &mut Placement| matches!(it, Placement::Live(_));
        for (_, placement) in self.for_all.extract_if(live) {
            if let Placement::Live(attached) = placement {
                probes.detach(attached);
            }
        }
    }

    /// Takes out every link.
    pub fn release_all(&mut self, probes: &mut Probes) {
        self.release_host(probes);
        let tgids: Vec<u32> = self.for_one.keys().copied().collect();
        for tgid in tgids {
            self.release(probes, tgid);
        }
    }

    /// Drops what is known of a process that was reported, or whose pid another has now.
    pub fn forget(&mut self, probes: &mut Probes, tgid: u32) {
        self.release(probes, tgid);
        self.for_one.remove(&tgid);
    }

    /// Instructions that have a breakpoint in at least one process.
    #[must_use]
    pub fn probe_count(&self) -> usize {
        let of_one = self.for_one.values().flatten();
        let live = of_one
            .chain(&self.for_all)
            .filter(|(_, it)| matches!(it, Placement::Live(_)));
        let files: BTreeSet<ModuleId> = live.map(|(id, _)| *id).collect();
        let allocators = files.iter().flat_map(|id| self.allocators(*id));
        allocators.map(|allocator| allocator.probes.len()).sum()
    }
}
