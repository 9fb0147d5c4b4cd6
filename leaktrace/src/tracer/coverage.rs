//! Owns what is said of how much of a process is seen: its allocators, and what stays unseen and
//! why.
//! Must not know blocks or how a report is written.

use super::Tracer;
use crate::{
    allocators::Allocator,
    modules::ModuleId,
    report::model::{self, Coverage},
};

/// How much of a process is seen.
pub(super) struct Covered {
    /// Its allocators, those that make blocks first.
    pub allocators: Vec<model::Allocator>,
    /// All, some or nothing.
    pub coverage: Coverage,
    /// Why not all.
    pub reason: Option<String>,
}

impl Tracer {
    /// The allocators that a process maps, how much of them is probed, and why not all.
    pub(super) fn coverage(&mut self, tgid: u32) -> Covered {
        let mut allocators: Vec<(bool, model::Allocator)> = Vec::new();
        let mut why_not = None;
        let mut is_partial = false;
        match self.go_coverage(tgid) {
            Some(Ok(go)) => {
                is_partial |= !go.not_covered.is_empty();
                allocators.push((true, go));
            }
            Some(Err(why)) => {
                is_partial = true;
                why_not = Some(why);
            }
            None => {}
        }
        for (module, path) in self.mapped_modules(tgid) {
            if let Some(examined) = self.attachments.examined(module)
                && !examined.hidden.is_empty()
            {
                is_partial = true;
                let why = examined.why_hidden(&path);
                why_not.get_or_insert_with(|| why.clone());
                let hidden = examined.hidden.iter();
                allocators.extend(hidden.map(|it| (false, unseen(it.name(), &path, &why))));
            }
            if self.attachments.allocators(module).is_empty() {
                continue;
            }
            let mut found = self.attachments.allocators(module).iter();
            let has_probes = found.any(|it| !it.probes.is_empty());
            if has_probes && !self.attachments.is_placed(tgid, module) {
                let failure = self.attachments.failure(tgid, module);
                why_not.get_or_insert_with(|| {
                    failure.unwrap_or_else(|| format!("{path} was not probed in time"))
                });
                is_partial = true;
                continue;
            }
            for allocator in self.attachments.allocators(module) {
                is_partial |= !allocator.not_covered.is_empty();
                if let Some(missing) = allocator.not_covered.first()
                    && allocator.probes.is_empty()
                {
                    let why = || format!("{} of {path}: {}", missing.name, missing.reason);
                    why_not.get_or_insert_with(why);
                }
                allocators.push((allocator.makes_blocks(), described(allocator, &path)));
            }
        }
        // What makes blocks comes first, else in the order of addresses.
        allocators.sort_by_key(|(makes_blocks, _)| !makes_blocks);
        let is_seen = allocators.iter().any(|(makes_blocks, _)| *makes_blocks);
        if !is_seen && why_not.is_none() {
            why_not = Some(self.why_nothing_is_seen(tgid));
        }
        let coverage = match (is_seen, is_partial) {
            (false, _) => Coverage::None,
            (true, true) => Coverage::Partial,
            (true, false) => Coverage::Full,
        };
        Covered {
            allocators: allocators.into_iter().map(|(_, it)| it).collect(),
            coverage,
            reason: why_not,
        }
    }

    /// Why no allocator of a process can be told.
    pub(super) fn why_nothing_is_seen(&mut self, tgid: u32) -> String {
        let modules = self.mapped_modules(tgid);
        let Some((module, path)) = modules.first().cloned() else {
            return "what it maps is not known".to_owned();
        };
        if let Some(why) = self.attachments.unreadable(module) {
            return why.to_owned();
        }
        let module = self.context.modules.get(module).clone();
        match self.attachments.examine(&module, tgid) {
            Ok(examined) => examined.why_nothing_is_seen(&path),
            Err(why) => why,
        }
    }

    /// The files that a process maps, each once, with the path that it knows them by.
    fn mapped_modules(&mut self, tgid: u32) -> Vec<(ModuleId, String)> {
        let mut modules: Vec<(ModuleId, String)> = Vec::new();
        for mapping in self.file_mappings(tgid) {
            let module = self.context.modules.resolve(tgid, &mapping);
            if !modules.iter().any(|(known, _)| *known == module) {
                modules.push((module, mapping.path));
            }
        }
        modules
    }
}

/// An allocator of which nothing can be probed.
fn unseen(name: &str, path: &str, why: &str) -> model::Allocator {
    model::Allocator {
        name: name.to_owned(),
        path: path.to_owned(),
        entry_points: Vec::new(),
        not_covered: vec![model::NotCovered {
            name: "all of its functions".to_owned(),
            reason: why.to_owned(),
        }],
    }
}

fn described(allocator: &Allocator, path: &str) -> model::Allocator {
    let not_covered = allocator.not_covered.iter();
    model::Allocator {
        name: allocator.name().to_owned(),
        path: path.to_owned(),
        entry_points: allocator.entry_points().map(str::to_owned).collect(),
        not_covered: not_covered
            .map(|it| model::NotCovered {
                name: it.name.clone(),
                reason: it.reason.clone(),
            })
            .collect(),
    }
}
