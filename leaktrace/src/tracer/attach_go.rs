//! Owns which Go programs are probed for whom, and why others are not.
//! Must not know blocks or reports.

use std::{fs, os::unix::fs::FileExt as _, sync::Arc};

use leaktrace_common::policy::REFILL_SAMPLE_BYTES_MIN;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Tracer;
use crate::{
    golang::{
        binary::{GoBinary, GoError},
        peek::may_be_go,
        plan::{self, GoPlan, Way},
    },
    host::maps::{Mapping, read_maps},
    modules::{Module, ModuleId},
    probes::{Attached, Probes, Scope},
};

/// Largest program that is read: the largest of Kubernetes have 200 megabytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a program is, as far as Go goes.
#[derive(Clone, Debug)]
pub enum GoProgram {
    /// None of Go's.
    Other,
    /// One that cannot be traced, for this reason.
    Refused(String),
    /// One with these probes.
    Planned(Arc<GoPlan>),
}

/// Every program that was looked at and every link to one of Go's.
#[derive(Default)]
pub struct GoAttachments {
    programs: FxHashMap<ModuleId, GoProgram>,
    /// Links that fire for everyone, or why there are none.
    for_all: FxHashMap<ModuleId, Result<Option<Attached>, String>>,
    /// Links that fire for one process, or why there are none; with which program it is.
    for_one: FxHashMap<u32, (ModuleId, Result<Option<Attached>, String>)>,
    /// The program of each process that was looked at.
    program_of: FxHashMap<u32, (ModuleId, String)>,
    /// Those that are told of by their own memory profile: how many bytes its samples are apart, or why it can
    /// be read no more.
    profiles: FxHashMap<u32, Result<u64, String>>,
    /// The buckets of their profiles by address: which site each is of.
    buckets: FxHashMap<u32, FxHashMap<u64, u64>>,
    /// Those that are sampled where their caches get their blocks, whoever else is not.
    refilled: FxHashSet<u32>,
}

impl GoAttachments {
    /// The program of a process, where it is one of Go's, and its path.
    pub fn of(&self, tgid: u32) -> Option<(&GoProgram, &str)> {
        let (module, path) = self.program_of.get(&tgid)?;
        let program = self.programs.get(module)?;
        (!matches!(program, GoProgram::Other)).then_some((program, path.as_str()))
    }

    /// Notes that a process is told of by its own memory profile, or why it is no more.
    pub fn note_profile(&mut self, tgid: u32, rate_bytes: Result<u64, String>) {
        self.profiles.insert(tgid, rate_bytes);
    }

    /// How many bytes the samples of a process's own memory profile are apart, where that is what is told of it.
    pub fn profile_rate(&self, tgid: u32) -> Option<u64> {
        self.profiles.get(&tgid)?.as_ref().ok().copied()
    }

    /// Notes which sites the buckets of a process's profile are of.
    pub fn note_buckets(&mut self, tgid: u32, buckets: FxHashMap<u64, u64>) {
        self.buckets.insert(tgid, buckets);
    }

    /// The site that a bucket of a process's profile is of.
    pub fn bucket(&self, tgid: u32, address: u64) -> Option<u64> {
        self.buckets.get(&tgid)?.get(&address).copied()
    }

    /// Why a process is not seen.
    pub fn failure(&self, tgid: u32) -> Option<&str> {
        if let Some(profile) = self.profiles.get(&tgid) {
            return profile.as_ref().err().map(String::as_str);
        }
        if let Some((_, made)) = self.for_one.get(&tgid) {
            return made.as_ref().err().map(String::as_str);
        }
        let (module, _) = self.program_of.get(&tgid)?;
        match self.for_all.get(module) {
            Some(made) => made.as_ref().err().map(String::as_str),
            None => Some("it was not probed in time"),
        }
    }

    /// Instructions that have a breakpoint in at least one process.
    pub fn probe_count(&self, way: Way) -> usize {
        let of_one = self.for_one.values();
        let of_one = of_one.filter(|(_, made)| matches!(made, Ok(Some(_))));
        let of_all = self.for_all.iter();
        let of_all = of_all.filter(|(_, made)| matches!(made, Ok(Some(_))));
        let mut modules: Vec<ModuleId> = of_one.map(|(module, _)| *module).collect();
        modules.extend(of_all.map(|(module, _)| *module));
        modules.sort_unstable();
        modules.dedup();
        let plans = modules.iter().map(|module| self.programs.get(module));
        let count = |program: Option<&GoProgram>| match program {
            Some(GoProgram::Planned(plan)) => plan.blocks(way).len() + plan.sweeps.len(),
            _ => 0,
        };
        plans.map(count).sum()
    }

    /// Takes out the links that fired for one process only.
    pub fn release(&mut self, probes: &mut Probes, tgid: u32) {
        if let Some((_, Ok(attached))) = self.for_one.get_mut(&tgid)
            && let Some(attached) = attached.take()
        {
            probes.detach(attached);
        }
    }

    /// Takes out the links that fire for everyone, until `renew`.
    pub fn release_host(&mut self, probes: &mut Probes) {
        for attached in self.for_all.values_mut().flatten() {
            if let Some(attached) = attached.take() {
                probes.detach(attached);
            }
        }
    }

    /// What was taken out of a process, or of everyone, may be put in again.
    pub fn renew(&mut self, tgid: u32) {
        let is_out = |made: &Result<Option<Attached>, String>| matches!(made, Ok(None));
        self.for_all.retain(|_, made| !is_out(made));
        if self.for_one.get(&tgid).is_some_and(|it| is_out(&it.1)) {
            self.for_one.remove(&tgid);
        }
    }

    /// From now on a process that has no links is sampled where its caches get their blocks.
    pub fn sample_refills(&mut self, tgid: u32) {
        self.refilled.insert(tgid);
    }

    /// Drops what is known of a process that was reported, or whose pid another has now.
    pub fn forget(&mut self, probes: &mut Probes, tgid: u32) {
        self.release(probes, tgid);
        self.for_one.remove(&tgid);
        self.profiles.remove(&tgid);
        self.buckets.remove(&tgid);
        self.refilled.remove(&tgid);
        self.program_of.remove(&tgid);
    }

    /// What the program is that a process runs.
    fn program(&mut self, module: &Module, tgid: u32) -> GoProgram {
        let program = self.programs.entry(module.id);
        let program = program.or_insert_with(|| examine(module)).clone();
        self.program_of
            .insert(tgid, (module.id, module.path.clone()));
        program
    }

    /// Puts a program's probes in place for a scope, unless they are; `false` where it is not Go's,
    /// or where there was nothing to do.
    fn attach(
        &mut self,
        probes: &mut Probes,
        module: &Module,
        tgid: u32,
        way: Way,
        scope: Scope,
    ) -> Result<bool, String> {
        let plan = match self.program(module, tgid) {
            GoProgram::Other => return Ok(false),
            GoProgram::Refused(why) => return Err(why),
            GoProgram::Planned(plan) => plan,
        };
        let made = match scope {
            Scope::Host => self.for_all.get(&module.id).map(|it| it.as_ref().err()),
            Scope::Process(_) => match self.for_one.get(&tgid) {
                Some((known, made)) if *known == module.id => Some(made.as_ref().err()),
                _ => None,
            },
        };
        if let Some(failure) = made {
            return failure.map_or(Ok(false), |why| Err(why.clone()));
        }
        let file = module.file.as_ref().ok_or("the file could not be opened")?;
        let attached = probes.attach_go(file, &plan, way, scope);
        let attached = attached.map_err(|error| format!("{error:#}"));
        let outcome = attached.as_ref().map(|_| true).map_err(String::clone);
        match scope {
            Scope::Host => {
                self.for_all.insert(module.id, attached.map(Some));
            }
            Scope::Process(_) => {
                // One that executed another program before has no use for its links.
                self.release(probes, tgid);
                self.for_one.insert(tgid, (module.id, attached.map(Some)));
            }
        }
        outcome
    }
}

/// Reads a program of Go's at once, so that nobody can change it between two looks.
fn examine(module: &Module) -> GoProgram {
    let Some(file) = &module.file else {
        return GoProgram::Other;
    };
    let length = file.metadata().map_or(0, |it| it.len());
    if length > FILE_BYTES_MAX {
        return GoProgram::Other;
    }
    let read = |offset: u64, buffer: &mut [u8]| file.read_exact_at(buffer, offset);
    if !may_be_go(length, &read) {
        return GoProgram::Other;
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        return GoProgram::Other;
    }
    match GoBinary::parse(&bytes) {
        Ok(program) => match plan::plan(&program) {
            Ok(plan) => GoProgram::Planned(Arc::new(plan)),
            Err(error) => GoProgram::Refused(error.to_string()),
        },
        Err(GoError::NotElf(_) | GoError::NotGo) => GoProgram::Other,
        Err(error @ GoError::Malformed(_)) => GoProgram::Refused(error.to_string()),
    }
}

/// The mapping of the program that a process executes.
fn program_mapping(tgid: u32) -> Option<Mapping> {
    let path = fs::read_link(format!("/proc/{tgid}/exe")).ok()?;
    let path = path.to_string_lossy();
    let mappings = read_maps(tgid).ok()?;
    let mut programs = mappings.into_iter().filter(|it| it.is_file());
    programs.find(|it| *it.path == *path)
}

impl Tracer {
    /// Puts probes into a process where it is one of Go's; `true` where they are new.
    ///
    /// # Errors
    ///
    /// In one clause, fit for the report, where it is Go's and cannot be traced.
    pub(super) fn attach_go(&mut self, tgid: u32, scope: Scope) -> Result<bool, String> {
        let Some(mapping) = program_mapping(tgid) else {
            return Ok(false);
        };
        let module = self.context.modules.resolve(tgid, &mapping);
        let module = self.context.modules.get(module).clone();
        if let GoProgram::Planned(_) = self.go.program(&module, tgid) {
            // An image before had links or a profile of its own.
            self.go.profiles.remove(&tgid);
            self.go.buckets.remove(&tgid);
            if self.attach_profile(tgid, &module) {
                self.go.release(&mut self.probes, tgid);
                return Ok(false);
            }
        }
        let way = self.go_way(Some(tgid));
        if let (Way::Refills, GoProgram::Planned(plan)) = (way, self.go.program(&module, tgid)) {
            self.context.leave_out(module.id, &plan.own_code);
        }
        let probes = &mut self.probes;
        let outcome = self.go.attach(probes, &module, tgid, way, scope);
        match self.is_go(tgid) {
            true => self.go_watch.follow(tgid, &module),
            false => self.go_watch.forget(tgid),
        }
        outcome
    }

    /// Where the blocks of a Go heap are seen, or of all: where samples are far enough apart, a trap in many will do.
    pub(super) fn go_way(&self, tgid: Option<u32>) -> Way {
        if tgid.is_some_and(|tgid| self.go.refilled.contains(&tgid)) {
            return Way::Refills;
        }
        match self.policy {
            Some(policy) if policy.sample_bytes >= REFILL_SAMPLE_BYTES_MIN => Way::Refills,
            _ => Way::Every,
        }
    }

    /// Whether a process is one of Go's that is traced.
    pub(super) fn is_go(&self, tgid: u32) -> bool {
        matches!(self.go.of(tgid), Some((GoProgram::Planned(_), _)))
            && self.go.failure(tgid).is_none()
    }

    /// A traced process executes another program, or, of a host, any process any.
    pub(super) fn follow_go(&mut self, tgid: u32) {
        // What a command executes waits, and has its probes before it goes on.
        if !self.targets.command.is_empty() && !self.targets.pids.contains(&tgid) {
            return;
        }
        let scope = match self.targets.is_host() {
            true => Scope::Host,
            false if self.ledger.key(tgid).is_some() => Scope::Process(tgid),
            false => return,
        };
        if tgid != std::process::id() && self.attach_go(tgid, scope) == Ok(true) {
            self.mark_late(tgid);
        }
    }
}
