//! Owns which file is probed for whom.
//! Must not know events, ledgers or reports.

use std::{collections::BTreeSet, fs::File, os::unix::fs::FileExt as _, sync::Arc};

use anyhow::Context as _;
use rustc_hash::FxHashMap;

use crate::{
    allocators::{self, Plan},
    binary::elf::Elf,
    modules::{Module, ModuleId},
    probes::{Attached, Probes, Scope},
};

/// Largest file that is read for its entry points: the largest C library is a few megabytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// An allocator in a file.
#[derive(Debug)]
pub struct Allocator {
    /// `glibc`
    pub name: &'static str,
    /// Where it is probed and where not.
    pub plan: Plan,
}

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
    allocators: FxHashMap<ModuleId, Result<Arc<Allocator>, String>>,
    /// Files whose probes fire for everyone.
    for_all: FxHashMap<ModuleId, Placement>,
    /// Files whose probes fire for one process, by process.
    for_one: FxHashMap<u32, FxHashMap<ModuleId, Placement>>,
}

impl Attachments {
    /// The allocator in a file, or why it cannot be traced. Files are read once.
    ///
    /// # Errors
    ///
    /// In one clause, fit for the report.
    pub fn allocator(&mut self, module: &Module) -> Result<Arc<Allocator>, String> {
        self.allocators
            .entry(module.id)
            .or_insert_with(|| {
                examine(module)
                    .map(Arc::new)
                    .map_err(|error| format!("{error:#}"))
            })
            .clone()
    }

    /// What is known of a file that was looked at.
    #[must_use]
    pub fn known(&self, module: ModuleId) -> Option<&Result<Arc<Allocator>, String>> {
        self.allocators.get(&module)
    }

    /// Puts the probes of a file in place for a scope, unless they are.
    ///
    /// # Errors
    ///
    /// In one clause, fit for the report. A failure is remembered and not tried again.
    pub fn attach(
        &mut self,
        probes: &mut Probes,
        module: &Module,
        scope: Scope,
    ) -> Result<(), String> {
        let made = match scope {
            Scope::Host => self.for_all.get(&module.id),
            Scope::Process(tgid) => self.for_one.get(&tgid).and_then(|it| it.get(&module.id)),
        };
        if let Some(made) = made {
            return made.outcome();
        }
        let attached = self.allocator(module).and_then(|allocator| {
            let file = module.file.as_ref().ok_or("the file could not be opened")?;
            probes
                .attach(file, &allocator.plan, scope)
                .map_err(|error| format!("{error:#}"))
        });
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
        outcome
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

    /// Why a file is not probed for a process, where it was tried.
    #[must_use]
    pub fn failure(&self, tgid: u32, module: ModuleId) -> Option<String> {
        let made = self.for_one.get(&tgid).and_then(|it| it.get(&module));
        made.or_else(|| self.for_all.get(&module))?.outcome().err()
    }

    /// Takes out the links that fired for one process only.
    pub fn release(&mut self, probes: &mut Probes, tgid: u32) {
        for placement in self
            .for_one
            .get_mut(&tgid)
            .into_iter()
            .flat_map(|it| it.values_mut())
        {
            if matches!(placement, Placement::Live(_))
                && let Placement::Live(attached) = std::mem::replace(placement, Placement::Released)
            {
                probes.detach(attached);
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
        let plans = files
            .iter()
            .filter_map(|id| self.allocators.get(id)?.as_ref().ok());
        plans.map(|allocator| allocator.plan.probes.len()).sum()
    }
}

/// Reads a file and chooses its probes.
fn examine(module: &Module) -> anyhow::Result<Allocator> {
    let file = module.file.as_ref().with_context(|| {
        let why = module
            .missing
            .map_or("it could not be opened", |missing| missing.reason());
        format!("{}: {why}", module.name)
    })?;
    let bytes = read_whole(file).with_context(|| format!("failed to read {}", module.path))?;
    let elf =
        Elf::parse(&bytes).with_context(|| format!("{} is no readable program", module.path))?;
    let plan = allocators::plan(&elf, &allocators::GLIBC);
    anyhow::ensure!(
        !plan.probes.is_empty(),
        "{} defines no entry point of malloc",
        module.path
    );
    Ok(Allocator {
        name: allocators::GLIBC.name,
        plan,
    })
}

/// Reads a file at once, so that nobody can change it between two looks.
fn read_whole(file: &File) -> anyhow::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    anyhow::ensure!(
        length <= FILE_BYTES_MAX,
        "it is larger than {FILE_BYTES_MAX} bytes"
    );
    let mut bytes = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
