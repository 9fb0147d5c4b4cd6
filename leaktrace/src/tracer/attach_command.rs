//! Owns who gets probes of a command that leaktrace starts: before its first image runs, and before
//! each image that it or its children execute.
//! Must not know blocks or reports.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::bail;

use super::Tracer;
use crate::{
    host::{
        maps::{Mapping, read_maps},
        process,
    },
    modules::ModuleId,
    probes::Scope,
};

impl Tracer {
    /// A command's C library is not mapped before it runs. Its probes are placed for the waiting
    /// process all the same: the kernel puts them in when the file is mapped.
    pub(super) fn attach_before_exec(&mut self, pid: u32) -> anyhow::Result<()> {
        self.admit(pid);
        self.entering.insert(pid);
        let libraries = self.usual_libraries();
        for module in &libraries {
            self.unwinding.prepare(self.context.modules.get(*module));
        }
        self.settle_code()?;
        let mut refusals = Vec::new();
        for module in &libraries {
            let module = self.context.modules.get(*module).clone();
            let scope = Scope::Process(pid);
            if let Err(why) = self
                .attachments
                .attach(&mut self.probes, &module, pid, scope)
            {
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
            for mapping in mappings.iter().filter(|it| is_c_library(it)) {
                let module = self.context.modules.resolve(pid, mapping);
                if !libraries.contains(&module) {
                    libraries.push(module);
                }
            }
        }
        libraries
    }

    /// Probes what a process maps that is held until this is done.
    pub(super) fn attach_entered(&mut self, tgid: u32) {
        let is_ours = !self.targets.is_host() && self.ledger.key(tgid).is_some();
        if is_ours {
            // A failure is told in the report.
            let _ = self.attach_image(tgid);
        }
        self.entering.remove(&tgid);
    }
}

/// Whether a mapping's file is called as C libraries are.
fn is_c_library(mapping: &Mapping) -> bool {
    let name = mapping.path.rsplit('/').next().unwrap_or_default();
    let is_libc = name.starts_with("libc.") || name.starts_with("libc-2.");
    mapping.is_file() && (is_libc || name.starts_with("ld-musl-"))
}

/// Whether a process sees the file system that a command of ours would.
fn is_in_our_root(pid: u32) -> bool {
    let root = |pid: &str| {
        let metadata = fs::metadata(format!("/proc/{pid}/root/")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    root(&pid.to_string()) == root("self")
}
