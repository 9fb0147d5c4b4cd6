//! Owns who gets probes, when, and what is said where that fails.
//! Must not know blocks or reports.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::{Context as _, bail};

use super::{Todo, Tracer, context::may_hold_allocator};
use crate::{
    host::{
        clock::Clock,
        maps::{Mapping, read_maps},
        process::{self, ProcessFacts},
    },
    launch::Launch,
    modules::ModuleId,
    probes::Scope,
};

impl Tracer {
    /// Puts probes into all that the targets name, and the command, held back, into a command's.
    ///
    /// # Errors
    ///
    /// When a named target cannot be traced; the message names it.
    pub fn attach_targets(&mut self, launch: Option<&Launch>) -> anyhow::Result<()> {
        if self.targets.is_host() {
            self.attach_host()?;
        } else {
            self.attach_all_named(launch)?;
        }
        self.do_todo();
        self.began_ns = Clock::now_boot_ns();
        Ok(())
    }

    fn attach_all_named(&mut self, launch: Option<&Launch>) -> anyhow::Result<()> {
        for pid in self.targets.pids.clone() {
            self.attach_named(pid)?;
        }
        if !self.targets.comms.is_empty() {
            for pid in process::list_pids().context("failed to list processes in /proc")? {
                if self.matches_comm(pid) && pid != std::process::id() {
                    // One that is gone by now, or cannot be traced, is told in the report.
                    let _ = self.attach_one(pid);
                }
            }
        }
        if let Some(launch) = launch {
            self.attach_before_exec(launch.pid())?;
        }
        Ok(())
    }

    fn attach_host(&mut self) -> anyhow::Result<()> {
        let mut refusals = Vec::new();
        for pid in process::list_pids().context("failed to list processes in /proc")? {
            if pid == std::process::id() || process::is_kernel_thread(pid) {
                continue;
            }
            self.admit(pid);
        }
        self.settle_code()?;
        for tgid in self.tgids() {
            if let Err(why) = self.attach_go(tgid, Scope::Host) {
                refusals.push(why);
            }
            for mapping in self.allocator_mappings(tgid) {
                if let Err(why) = self.attach_mapping(tgid, &mapping, Scope::Host) {
                    refusals.push(why);
                }
            }
        }
        match refusals.first() {
            Some(why) if self.extent().1 == 0 => bail!("no probe was placed: {why}"),
            _ => Ok(()),
        }
    }

    fn attach_named(&mut self, pid: u32) -> anyhow::Result<()> {
        let facts = match ProcessFacts::read(pid) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("no process has the pid {pid}; remedy: look it up with `pgrep -a NAME`")
            }
            facts => facts.with_context(|| format!("cannot trace pid {pid}"))?,
        };
        if facts.kernel_thread {
            bail!(
                "pid {pid} ({}) is a kernel thread, which has no heap of this kind",
                facts.comm
            );
        }
        if pid == std::process::id() {
            bail!("pid {pid} is leaktrace itself, which it never traces");
        }
        self.attach_one(pid)
            .map_err(|why| anyhow::anyhow!("cannot trace pid {pid} ({}): {why}", facts.comm))
    }

    /// Traces one process through every allocator that it maps.
    fn attach_one(&mut self, pid: u32) -> Result<(), String> {
        self.admit(pid);
        let mappings = self.allocator_mappings(pid);
        // Tables first, so that the very first stacks are whole.
        self.settle_code().map_err(|error| format!("{error:#}"))?;
        let go = self.attach_go(pid, Scope::Process(pid));
        if mappings.is_empty() {
            go?;
            if self.is_go(pid) {
                return Ok(());
            }
            read_maps(pid).map_err(|error| format!("its mappings cannot be read: {error}"))?;
            return Err("it maps no C library (statically linked?); \
                        remedy: see what it maps in /proc/PID/maps"
                .to_owned());
        }
        for mapping in mappings {
            self.attach_mapping(pid, &mapping, Scope::Process(pid))?;
        }
        Ok(())
    }

    /// A command's C library is not mapped before it runs. Its probes are placed for the waiting
    /// process all the same: the kernel puts them in when the file is mapped.
    fn attach_before_exec(&mut self, pid: u32) -> anyhow::Result<()> {
        self.admit(pid);
        let libraries = self.usual_libraries();
        if libraries.is_empty() {
            bail!("no C library was found on this host; remedy: report its distribution");
        }
        for module in &libraries {
            self.unwinding.prepare(self.context.modules.get(*module));
        }
        self.settle_code()?;
        let mut refusals = Vec::new();
        for module in &libraries {
            let module = self.context.modules.get(*module).clone();
            let scope = Scope::Process(pid);
            if let Err(why) = self.attachments.attach(&mut self.probes, &module, scope) {
                refusals.push(format!("cannot trace {}: {why}", module.path));
            }
        }
        // One that only others use, and that is gone by now, is not the command's. Should it be
        // after all, the report says that it was refused.
        match refusals.first() {
            Some(why) if refusals.len() == libraries.len() => bail!("{why}"),
            _ => Ok(()),
        }
    }

    /// The C libraries that programs of this host use: those that its processes map, our own
    /// among them where we are linked to one.
    fn usual_libraries(&mut self) -> Vec<ModuleId> {
        let mut libraries = Vec::new();
        for pid in process::list_pids().unwrap_or_default() {
            if !is_in_our_root(pid) {
                continue;
            }
            let mappings = read_maps(pid).unwrap_or_default();
            for mapping in mappings.iter().filter(|it| may_hold_allocator(it)) {
                let module = self.context.modules.resolve(pid, mapping);
                if !libraries.contains(&module) {
                    libraries.push(module);
                }
            }
        }
        libraries
    }

    /// Lists a process and reads what it maps.
    fn admit(&mut self, tgid: u32) {
        let key = self.ledger.watch(tgid, Clock::now_boot_ns());
        if self.context.roster.get(key).is_none() {
            self.context.roster.note(key, tgid, None, None);
            self.context.snapshot(tgid);
        }
    }

    pub(super) fn allocator_mappings(&self, tgid: u32) -> Vec<Mapping> {
        let space = self.context.spaces.get(tgid);
        let mappings = space.into_iter().flat_map(|space| space.iter());
        mappings
            .filter(|mapping| may_hold_allocator(mapping))
            .cloned()
            .collect()
    }

    pub(super) fn attach_mapping(
        &mut self,
        tgid: u32,
        mapping: &Mapping,
        scope: Scope,
    ) -> Result<(), String> {
        let module = self.context.modules.resolve(tgid, mapping);
        let module = self.context.modules.get(module).clone();
        self.attachments.attach(&mut self.probes, &module, scope)
    }

    fn matches_comm(&self, tgid: u32) -> bool {
        let Ok(facts) = ProcessFacts::read(tgid) else {
            return false;
        };
        self.targets
            .comms
            .iter()
            .any(|glob| facts.comm_matches(glob))
    }

    /// A child that waits at its birth gets its parent's probes before its first instruction.
    pub fn attach_born(&mut self, parent: u32, child: u32) {
        let key = self.ledger.key(child);
        let living = key.filter(|key| {
            let process = self.ledger.get(*key);
            process.is_some_and(|it| it.exited_ns().is_none())
        });
        match living {
            // The record of its birth came first and took it for one that nobody holds. Its probes
            // are in place, and a second set would count everything twice.
            Some(key) => self.context.roster.get_mut(key).is_attached_late = false,
            None => {
                self.born.insert(child);
                self.place_as_parent(parent, child);
            }
        }
    }

    fn place_as_parent(&mut self, parent: u32, child: u32) {
        // Whoever had this pid before is gone, and its links with it.
        self.attachments.forget(&mut self.probes, child);
        self.go.forget(&mut self.probes, child);
        // One that cannot be traced is told in the report.
        let _ = self.attach_go(child, Scope::Process(child));
        for module in self.attachments.files_of(parent) {
            let module = self.context.modules.get(module).clone();
            // A child that is gone already needs none; any other failure is told in the report.
            let _ = self
                .attachments
                .attach(&mut self.probes, &module, Scope::Process(child));
        }
    }

    /// Acts on what the last batch told of processes.
    pub(super) fn do_todo(&mut self) {
        for todo in std::mem::take(&mut self.todo) {
            match todo {
                Todo::Forked { parent, child } => self.follow_child(parent, child),
                Todo::Executed { tgid } => {
                    self.follow_go(tgid);
                    self.follow_exec(tgid);
                }
                Todo::Exited { tgid } => {
                    self.attachments.release(&mut self.probes, tgid);
                    self.go.release(&mut self.probes, tgid);
                    self.unwinding.forget(tgid);
                    if self.ledger.key(tgid).is_none() {
                        self.context.spaces.forget(tgid);
                    }
                }
                Todo::Mapped { tgid, mapping } => self.follow_mapping(tgid, &mapping),
            }
        }
    }

    /// A child of a process that is traced by name is traced too.
    fn follow_child(&mut self, parent: u32, child: u32) {
        // One that waited for it at its birth has its probes.
        if self.targets.is_host() || self.born.remove(&child) {
            return;
        }
        self.place_as_parent(parent, child);
        self.mark_late(child);
    }

    fn follow_exec(&mut self, tgid: u32) {
        if self.targets.comms.is_empty() || self.ledger.key(tgid).is_some() {
            return;
        }
        if self.matches_comm(tgid) {
            let _ = self.attach_one(tgid);
            self.mark_late(tgid);
        }
    }

    fn follow_mapping(&mut self, tgid: u32, mapping: &Mapping) {
        if tgid == std::process::id() {
            return;
        }
        let scope = match self.targets.is_host() {
            true => Scope::Host,
            false if self.ledger.key(tgid).is_some() => Scope::Process(tgid),
            false => return,
        };
        let module = self.context.modules.resolve(tgid, mapping);
        let is_new = !self.attachments.files_of(tgid).contains(&module);
        if is_new && self.attach_mapping(tgid, mapping, scope).is_ok() {
            self.mark_late(tgid);
        }
    }

    pub(super) fn mark_late(&mut self, tgid: u32) {
        if let Some(key) = self.ledger.key(tgid) {
            self.context.roster.get_mut(key).is_attached_late = true;
        }
    }

    /// How many processes are traced and how many instructions are probed.
    #[must_use]
    pub fn extent(&self) -> (usize, usize) {
        let probe_count = self.attachments.probe_count() + self.go.probe_count();
        (self.ledger.keys().len(), probe_count)
    }

    /// Whether a named target may still come or is still there.
    #[must_use]
    pub fn has_live_targets(&self) -> bool {
        if self.targets.is_host() || !self.targets.comms.is_empty() {
            return true;
        }
        self.ledger.keys().iter().any(|key| {
            self.ledger
                .get(*key)
                .is_some_and(|process| process.exited_ns().is_none())
        })
    }
}

/// Whether a process sees the file system that a command of ours would.
fn is_in_our_root(pid: u32) -> bool {
    let root = |pid: &str| {
        let metadata = fs::metadata(format!("/proc/{pid}/root/")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    root(&pid.to_string()) == root("self")
}
