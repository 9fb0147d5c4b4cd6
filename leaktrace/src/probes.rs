//! Owns the BPF object in the kernel: loading it, its maps, and turning chosen points into links.
//! Must not know which processes are of interest or what the records lead to.

mod go;
mod policies;
pub mod rows;
mod tables;
mod unwind;

use std::{fs::File, num::NonZeroU32, os::fd::AsRawFd as _, path::PathBuf, sync::mpsc, thread};

use anyhow::{Context as _, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    programs::{
        ProgramError, ProgramType, TracePoint, UProbe,
        uprobe::{UProbeAttachPoint, UProbeLink, UProbeLinkId, UProbeScope},
    },
    sys::{BpfHelper, UProbeMultiFeature, is_helper_supported, is_uprobe_multi_supported},
};
use leaktrace_common::{call::Call, config::ProbeConfig, limits, policy::Policy};

use crate::{allocators::Plan, tracefs};

/// The BPF object, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leaktrace-ebpf"));

/// The probes in the kernel. Dropping them takes every probe out.
pub struct Probes {
    ebpf: Ebpf,
    is_multi: bool,
    /// Links to close, on a thread of their own: the kernel waits for every running probe of the
    /// host when one goes, some tens of milliseconds in which a new process would have to wait.
    closing: mpsc::Sender<UProbeLink>,
}

/// The links of one file; they stay until they are detached.
#[derive(Debug)]
pub struct Attached {
    programs: Programs,
    enter: Vec<UProbeLinkId>,
    exit: Vec<UProbeLinkId>,
}

/// Which programs stand at a file's points.
#[derive(Clone, Copy, Debug)]
struct Programs {
    enter: &'static str,
    exit: &'static str,
}

/// One link for all points of a file.
const NATIVE_MULTI: Programs = Programs {
    enter: "native_enter_multi",
    exit: "native_exit_multi",
};

/// One link for each point.
const NATIVE: Programs = Programs {
    enter: "native_enter",
    exit: "native_exit",
};

/// They do nothing.
const EMPTY_MULTI: Programs = Programs {
    enter: "empty_enter_multi",
    exit: "empty_exit_multi",
};

/// Whose calls are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everyone's who maps the file.
    Host,
    /// One process's; nobody else has a breakpoint.
    Process(u32),
}

impl From<Scope> for UProbeScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Process(pid) => {
                NonZeroU32::new(pid).map_or(Self::CallingProcess, Self::OneProcess)
            }
            Scope::Host => Self::AllProcesses,
        }
    }
}

/// What may be adjusted of the probes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Smallest allocation that is followed.
    pub min_size: u64,
    /// Largest allocation that is followed.
    pub max_size: u64,
    /// Bytes of the ring; a power of two of pages.
    pub ring_bytes: u32,
    /// Room for frees that the ring had none for.
    pub lost_frees: u32,
    /// Whether processes have policies and their hits are counted.
    pub is_governed: bool,
    /// What is recorded of a process that has no policy of its own.
    pub policy: Policy,
    /// One in so many stacks is sent with what it was walked from; 0 for none.
    pub oracle_one_in: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_size: 0,
            max_size: u64::MAX,
            ring_bytes: limits::EVENT_RING_BYTES,
            lost_frees: limits::LOST_FREES_MAX,
            is_governed: false,
            policy: Policy::EVERYTHING,
            oracle_one_in: 0,
        }
    }
}

impl Probes {
    /// Loads the object and starts to follow processes: their making, execs and exits.
    ///
    /// # Errors
    ///
    /// When the kernel or the privileges do not allow it; the message names the remedy.
    pub fn load(settings: &Settings) -> anyhow::Result<Self> {
        tracefs::with_tracefs(|tracefs| {
            let offset = |category, tracepoint, field| {
                tracefs::field_offset(tracefs, category, tracepoint, field)
            };
            let missing = || anyhow!("task:task_newtask lacks a field; remedy: report this kernel");
            let config = ProbeConfig {
                min_size: settings.min_size,
                max_size: settings.max_size,
                agent_tgid: std::process::id(),
                wake_up_bytes: settings.ring_bytes / limits::WAKE_UP_DIVISOR,
                newtask_pid_offset: offset("task", "task_newtask", "pid")?.ok_or_else(missing)?,
                newtask_flags_offset: offset("task", "task_newtask", "clone_flags")?
                    .ok_or_else(missing)?,
                exit_group_dead_offset: offset("sched", "sched_process_exit", "group_dead")?
                    .unwrap_or(0),
                is_governed: u32::from(settings.is_governed),
                policy: settings.policy,
                oracle_one_in: settings.oracle_one_in,
                has_loop: u32::from(unwind::has_loop()),
            };
            let mut probes = Self::load_object(&config, settings)?;
            probes.follow("process_fork", "task", "task_newtask")?;
            probes.follow("process_exec", "sched", "sched_process_exec")?;
            probes.follow("process_exit", "sched", "sched_process_exit")?;
            Ok(probes)
        })
    }

    fn load_object(config: &ProbeConfig, settings: &Settings) -> anyhow::Result<Self> {
        // Without it the verifier's refusal would be pages long and name no remedy. Where the
        // question itself is denied, the load tells it better.
        let cookie =
            is_helper_supported(ProgramType::KProbe, BpfHelper::BPF_FUNC_get_attach_cookie);
        if matches!(cookie, Ok(false)) {
            bail!("this kernel's probes have no attach cookie; remedy: Linux 5.15 or later");
        }
        let is_multi = is_uprobe_multi_supported(UProbeMultiFeature::ProcessScopedPidFilter)
            .context("failed to ask the kernel for uprobe_multi")?;
        let ebpf = EbpfLoader::new()
            .override_global("CONFIG", config, true)
            .map_max_entries("EVENTS", settings.ring_bytes)
            .map_max_entries("LOST_FREES", settings.lost_frees)
            .load(OBJECT)
            .map_err(|error| refused(error.into()))?;
        let mut probes = Self {
            ebpf,
            is_multi,
            closing: close_links()?,
        };
        probes.load_programs(probes.native())?;
        Ok(probes)
    }

    fn load_programs(&mut self, programs: Programs) -> anyhow::Result<()> {
        for name in [programs.enter, programs.exit] {
            let program = self.uprobe(name)?;
            program.load().map_err(|error| refused(error.into()))?;
        }
        Ok(())
    }

    fn follow(&mut self, program: &str, category: &str, name: &str) -> anyhow::Result<()> {
        let program: &mut TracePoint = self
            .ebpf
            .program_mut(program)
            .with_context(|| format!("the object has no program {program}"))?
            .try_into()?;
        program.load().map_err(|error| refused(error.into()))?;
        program.attach(category, name).with_context(|| {
            format!("failed to attach to the tracepoint {category}:{name}; see `leaktrace doctor`")
        })?;
        Ok(())
    }

    /// Whether one link holds all points of a file (Linux 6.6 and later).
    #[must_use]
    pub fn is_multi(&self) -> bool {
        self.is_multi
    }

    /// Puts a file's probes in place. The path is that of the held descriptor, so that nobody can
    /// put another file in its place.
    ///
    /// Returns are attached before entries: a call whose entry is seen has its return seen too.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing of this file is attached then.
    pub fn attach(&mut self, file: &File, plan: &Plan, scope: Scope) -> anyhow::Result<Attached> {
        self.attach_programs(self.native(), file, plan, scope)
    }

    /// Puts programs that do nothing where `attach` would put the real ones: the least that any
    /// tracer with these probes can cost. Once for each `Probes`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or lacks `uprobe_multi`.
    pub fn attach_empty(
        &mut self,
        file: &File,
        plan: &Plan,
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        anyhow::ensure!(
            self.is_multi,
            "the empty programs need uprobe_multi: Linux 6.6 or later"
        );
        self.load_programs(EMPTY_MULTI)?;
        self.attach_programs(EMPTY_MULTI, file, plan, scope)
    }

    fn attach_programs(
        &mut self,
        programs: Programs,
        file: &File,
        plan: &Plan,
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let point = |probe: &crate::allocators::ChosenProbe| UProbeAttachPoint {
            location: probe.file_offset.into(),
            cookie: Some(u64::from(probe.call as u8)),
        };
        let enters: Vec<_> = plan.probes.iter().map(point).collect();
        let exits: Vec<_> = plan
            .probes
            .iter()
            .filter(|probe| probe.call != Call::Free)
            .map(point)
            .collect();
        let mut attached = Attached {
            programs,
            enter: Vec::new(),
            exit: Vec::new(),
        };
        let result = self
            .attach_points(programs.exit, &exits, &path, scope, &mut attached.exit)
            .and_then(|()| {
                self.attach_points(programs.enter, &enters, &path, scope, &mut attached.enter)
            });
        match result {
            Ok(()) => Ok(attached),
            Err(error) => {
                self.detach(attached);
                Err(error)
            }
        }
    }

    /// Puts the real programs at these places of a file: entries, and returns of all that hands out.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing is attached then.
    pub fn attach_at(
        &mut self,
        file: &File,
        places: &[(u64, Call)],
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let programs = self.native();
        let mut attached = Attached {
            programs,
            enter: Vec::new(),
            exit: Vec::new(),
        };
        let point = |(offset, call): &(u64, Call)| UProbeAttachPoint {
            location: (*offset).into(),
            cookie: Some(u64::from(*call as u8)),
        };
        let enters: Vec<_> = places.iter().map(point).collect();
        let returning = places.iter().filter(|(_, call)| *call != Call::Free);
        let exits: Vec<_> = returning.map(point).collect();
        let result = self
            .attach_points(programs.exit, &exits, &path, scope, &mut attached.exit)
            .and_then(|()| {
                self.attach_points(programs.enter, &enters, &path, scope, &mut attached.enter)
            });
        match result {
            Ok(()) => Ok(attached),
            Err(error) => {
                self.detach(attached);
                Err(error)
            }
        }
    }

    /// Takes the probes of a file out again, soon.
    pub fn detach(&mut self, attached: Attached) {
        // Entries first, so that no call is left without its return.
        for (name, links) in [
            (attached.programs.enter, attached.enter),
            (attached.programs.exit, attached.exit),
        ] {
            let closing = self.closing.clone();
            if let Ok(program) = self.uprobe(name) {
                for link in links {
                    // A link that is gone is what was wanted, and one that nobody takes over is
                    // closed right here.
                    if let Ok(link) = program.take_link(link) {
                        let _ = closing.send(link);
                    }
                }
            }
        }
    }

    fn attach_points(
        &mut self,
        name: &str,
        points: &[UProbeAttachPoint<'static>],
        path: &PathBuf,
        scope: Scope,
        links: &mut Vec<UProbeLinkId>,
    ) -> anyhow::Result<()> {
        let each = if self.is_multi {
            points.len().max(1)
        } else {
            1
        };
        let program = self.uprobe(name)?;
        for points in points.chunks(each) {
            let link = program
                .attach(points.iter(), path, scope.into())
                .map_err(|error| {
                    let error = anyhow::Error::from(error);
                    refused(error.context(format!("failed to attach {name}")))
                })?;
            links.push(link);
        }
        Ok(())
    }

    fn uprobe(&mut self, name: &str) -> anyhow::Result<&mut UProbe> {
        let program = self.ebpf.program_mut(name);
        let program = program.with_context(|| format!("the object has no program {name}"))?;
        Ok(program.try_into()?)
    }

    fn native(&self) -> Programs {
        if self.is_multi { NATIVE_MULTI } else { NATIVE }
    }
}

/// Starts the thread that closes links, in the order in which it is given them; it ends with the
/// last sender.
fn close_links() -> anyhow::Result<mpsc::Sender<UProbeLink>> {
    let (sender, links) = mpsc::channel();
    thread::Builder::new()
        .name("link-closer".to_owned())
        .spawn(move || links.into_iter().for_each(drop))
        .context("failed to start the thread that closes links")?;
    Ok(sender)
}

/// Adds the remedy to a refusal by the kernel.
fn refused(error: anyhow::Error) -> anyhow::Error {
    let is_denied = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| matches!(error.raw_os_error(), Some(1 | 13)))
            || matches!(cause.downcast_ref::<ProgramError>(), Some(ProgramError::LoadError { io_error, .. }) if matches!(io_error.raw_os_error(), Some(1 | 13)))
    });
    if is_denied {
        error.context("the kernel denies eBPF; remedy: run as root, and see `leaktrace doctor`")
    } else {
        error.context("the kernel refuses the probes; see `leaktrace doctor`")
    }
}
