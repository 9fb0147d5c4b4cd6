//! Owns who gets probes, when, and what is said where that fails.
//! Must not know blocks or reports.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::{Context as _, bail};

use super::{Todo, Tracer, selectors::Meant};
use crate::{
    allocators::{Allocator, ReturnProbes},
    attachments::Attachments,
    host::{
        clock::Clock,
        maps::{Mapping, read_maps},
        process::{self, ProcessFacts},
    },
    launch::Launch,
    modules::Module,
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

    /// Takes every probe out, those of many files at a time; dropping the tracer would do so one after the other. It is
    /// done when the tracer is dropped.
    pub fn detach_all(&mut self) {
        self.attachments.release_all(&mut self.probes);
    }

    /// Has results at the instructions by which functions return.
    pub fn avoid_return_probes(&mut self) {
        self.attachments = Attachments::new(ReturnProbes::Avoided);
    }

    fn attach_all_named(&mut self, launch: Option<&Launch>) -> anyhow::Result<()> {
        for pid in self.targets.pids.clone() {
            self.attach_named(pid)?;
        }
        if self.targets.has_patterns() {
            let mut pids = process::list_pids().context("failed to list processes in /proc")?;
            pids.retain(|pid| *pid != std::process::id());
            // All names are asked for before the first is waited for.
            pids.retain(|pid| self.is_meant(*pid) != Meant::No);
            self.settle_names();
            for pid in pids {
                match self.is_meant(pid) {
                    // One that is gone by now, or cannot be traced, is told in the report.
                    Meant::Yes => drop(self.attach_one(pid)),
                    Meant::No => {}
                    Meant::Later => self.undecided.push(pid),
                }
            }
        }
        if let Some(launch) = launch {
            self.holds_images = launch.follows_children();
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
            for mapping in self.file_mappings(tgid) {
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
    pub(super) fn attach_one(&mut self, pid: u32) -> Result<(), String> {
        self.admit(pid);
        // Tables first, so that the very first stacks are whole.
        self.settle_code().map_err(|error| format!("{error:#}"))?;
        let go = self.attach_go(pid, Scope::Process(pid));
        if self.attach_image(pid)? || self.is_go(pid) {
            return Ok(());
        }
        go?;
        read_maps(pid).map_err(|error| format!("its mappings cannot be read: {error}"))?;
        let why = self.why_nothing_is_seen(pid);
        Err(format!(
            "{why}; remedy: see `leaktrace inspect --pid {pid}`"
        ))
    }

    /// Probes every allocator that a process maps, for that process; `false` where it maps none
    /// that makes blocks.
    pub(super) fn attach_image(&mut self, tgid: u32) -> Result<bool, String> {
        let mut makes_blocks = false;
        for mapping in self.file_mappings(tgid) {
            let attached = self.attach_mapping(tgid, &mapping, Scope::Process(tgid))?;
            makes_blocks |= attached == Some(true);
        }
        Ok(makes_blocks)
    }

    /// Lists a process and reads what it maps.
    pub(super) fn admit(&mut self, tgid: u32) {
        let key = self.ledger.watch(tgid, Clock::now_boot_ns());
        if self.context.roster.get(key).is_none() {
            self.context.roster.note(key, tgid, None, None);
            self.context.snapshot(tgid);
        }
    }

    /// Everything of files that a process maps for execution: any of it may define an allocator.
    pub(super) fn file_mappings(&self, tgid: u32) -> Vec<Mapping> {
        let space = self.context.spaces.get(tgid);
        let mappings = space.into_iter().flat_map(|space| space.iter());
        mappings
            .filter(|mapping| mapping.is_file())
            .cloned()
            .collect()
    }

    /// Looks at one executable mapping of a process, and probes what it finds: every such mapping
    /// comes by here, once for each file and scope. `None` where there is nothing to probe, else
    /// whether that makes blocks.
    pub(super) fn attach_mapping(
        &mut self,
        tgid: u32,
        mapping: &Mapping,
        scope: Scope,
    ) -> Result<Option<bool>, String> {
        let module = self.context.modules.resolve(tgid, mapping);
        let module = self.context.modules.get(module).clone();
        if scope == Scope::Host && is_our_program(&module) {
            return Ok(None);
        }
        let Ok(examined) = self.attachments.examine(&module, tgid) else {
            // What is no program of this machine's kind has no allocator either; should nothing
            // else of the process have one, the report says why.
            return Ok(None);
        };
        if examined.allocators.is_empty() {
            // Anyone can write another file's build id into one of their own: only root's files speak for others.
            if let Some(build_id) = examined.build_id.filter(|_| module.trusted) {
                self.context.note_without(build_id);
            }
            return Ok(None);
        }
        let is_probed = self
            .attachments
            .attach(&mut self.probes, &module, tgid, scope)?;
        Ok(is_probed.then(|| examined.allocators.iter().any(Allocator::makes_blocks)))
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
            let scope = Scope::Process(child);
            let _ = self
                .attachments
                .attach(&mut self.probes, &module, child, scope);
        }
    }

    /// Acts on what the last batch told of processes.
    pub(super) fn do_todo(&mut self) {
        self.decide_undecided();
        for todo in std::mem::take(&mut self.todo) {
            match todo {
                // One that is held until all is mapped is not late, whatever is mapped until then.
                Todo::Imaged { tgid } if self.holds_images => {
                    self.entering.insert(tgid);
                }
                Todo::Imaged { .. } => {}
                Todo::Forked { parent, child } => self.follow_child(parent, child),
                Todo::Executed { tgid } => {
                    self.follow_go(tgid);
                    self.follow_exec(tgid);
                }
                Todo::Exited { tgid } => {
                    self.attachments.release(&mut self.probes, tgid);
                    self.go.release(&mut self.probes, tgid);
                    self.entering.remove(&tgid);
                    self.unwinding.forget(tgid);
                    if self.ledger.key(tgid).is_none() {
                        self.context.spaces.forget(tgid);
                    }
                }
                Todo::Mapped { tgid, mapping } => {
                    self.follow_mapping(tgid, &mapping);
                }
            }
        }
    }

    /// A child of a process that is traced by name is traced too.
    fn follow_child(&mut self, parent: u32, child: u32) {
        if self.targets.is_by_request {
            if let Some(key) = self.ledger.key(child) {
                self.forget(key);
            }
            return;
        }
        // One that waited for it at its birth has its probes.
        if self.targets.is_host() || self.born.remove(&child) {
            return;
        }
        self.place_as_parent(parent, child);
        self.mark_late(child);
    }

    fn follow_exec(&mut self, tgid: u32) {
        if self.targets.has_patterns() {
            self.follow_if_meant(tgid);
        }
    }

    fn follow_mapping(&mut self, tgid: u32, mapping: &Mapping) {
        if tgid == std::process::id() || self.requested.has_windows(self.ledger.key(tgid)) {
            return;
        }
        let scope = match self.targets.is_host() {
            true => Scope::Host,
            false if self.ledger.key(tgid).is_some() => Scope::Process(tgid),
            false => return,
        };
        let module = self.context.modules.resolve(tgid, mapping);
        if self.attachments.is_placed(tgid, module) {
            return;
        }
        let attached = self.attach_mapping(tgid, mapping, scope);
        if matches!(attached, Ok(Some(_))) && !self.entering.contains(&tgid) {
            self.mark_late(tgid);
        }
    }

    /// Says of a process that its probes were in place only after it had begun.
    pub fn mark_late(&mut self, tgid: u32) {
        if let Some(key) = self.ledger.key(tgid) {
            self.context.roster.get_mut(key).is_attached_late = true;
        }
    }

    /// How many processes are traced and how many instructions are probed.
    #[must_use]
    pub fn extent(&self) -> (usize, usize) {
        let probe_count = self.attachments.probe_count() + self.go.probe_count(self.go_way(None));
        (self.ledger.keys().len(), probe_count)
    }

    /// Whether a named target may still come or is still there.
    #[must_use]
    pub fn has_live_targets(&self) -> bool {
        if self.targets.is_host() || self.targets.has_patterns() {
            return true;
        }
        self.ledger.keys().iter().any(|key| {
            self.ledger
                .get(*key)
                .is_some_and(|process| process.exited_ns().is_none())
        })
    }
}

/// Whether a file is the one that we execute, as others may too: probes for everyone would stop us at
/// each of our own allocations, and show us nothing that we look at.
fn is_our_program(module: &Module) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let file = module.file.as_ref().and_then(|it| it.metadata().ok());
    let own = fs::metadata("/proc/self/exe").ok();
    file.is_some() && file.map(identity) == own.map(identity)
}
