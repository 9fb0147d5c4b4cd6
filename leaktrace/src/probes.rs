//! Owns the BPF object in the kernel: loading it, its maps, and turning chosen points into links.
//! Must not know which processes are of interest or what the records lead to.

use std::{fs::File, num::NonZeroU32, os::fd::AsRawFd as _, path::PathBuf};

use anyhow::{Context as _, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, RingBuf},
    programs::{
        ProgramError, TracePoint, UProbe,
        uprobe::{UProbeAttachPoint, UProbeLinkId, UProbeScope},
    },
    sys::{UProbeMultiFeature, is_uprobe_multi_supported},
};
use leaktrace_common::{
    call::Call,
    config::ProbeConfig,
    counter::{Counter, LossKey, LostFreeKey, total},
    limits,
};

use crate::{allocators::Plan, tracefs};

/// The BPF object, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leaktrace-ebpf"));

/// The probes in the kernel. Dropping them takes every probe out.
pub struct Probes {
    ebpf: Ebpf,
    is_multi: bool,
}

/// The links of one file; they stay until they are detached.
#[derive(Debug, Default)]
pub struct Attached {
    enter: Vec<UProbeLinkId>,
    exit: Vec<UProbeLinkId>,
}

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_size: 0,
            max_size: u64::MAX,
            ring_bytes: limits::EVENT_RING_BYTES,
            lost_frees: limits::LOST_FREES_MAX,
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
                reserved: 0,
            };
            let mut probes = Self::load_object(&config, settings)?;
            probes.follow("process_fork", "task", "task_newtask")?;
            probes.follow("process_exec", "sched", "sched_process_exec")?;
            probes.follow("process_exit", "sched", "sched_process_exit")?;
            Ok(probes)
        })
    }

    fn load_object(config: &ProbeConfig, settings: &Settings) -> anyhow::Result<Self> {
        let is_multi = is_uprobe_multi_supported(UProbeMultiFeature::ProcessScopedPidFilter)
            .context("failed to ask the kernel for uprobe_multi")?;
        let ebpf = EbpfLoader::new()
            .override_global("CONFIG", config, true)
            .map_max_entries("EVENTS", settings.ring_bytes)
            .map_max_entries("LOST_FREES", settings.lost_frees)
            .load(OBJECT)
            .map_err(|error| refused(error.into()))?;
        let mut probes = Self { ebpf, is_multi };
        for name in [probes.enter_program(), probes.exit_program()] {
            probes
                .uprobe(name)?
                .load()
                .map_err(|error| refused(error.into()))?;
        }
        Ok(probes)
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
        let mut attached = Attached::default();
        let result = self
            .attach_points(
                self.exit_program(),
                &exits,
                &path,
                scope,
                &mut attached.exit,
            )
            .and_then(|()| {
                self.attach_points(
                    self.enter_program(),
                    &enters,
                    &path,
                    scope,
                    &mut attached.enter,
                )
            });
        match result {
            Ok(()) => Ok(attached),
            Err(error) => {
                self.detach(attached);
                Err(error)
            }
        }
    }

    /// Takes the probes of a file out again.
    pub fn detach(&mut self, attached: Attached) {
        // Entries first, so that no call is left without its return.
        for (name, links) in [
            (self.enter_program(), attached.enter),
            (self.exit_program(), attached.exit),
        ] {
            if let Ok(program) = self.uprobe(name) {
                for link in links {
                    // A link that is gone is what was wanted.
                    let _ = program.detach(link);
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

    fn enter_program(&self) -> &'static str {
        if self.is_multi {
            "native_enter_multi"
        } else {
            "native_enter"
        }
    }

    fn exit_program(&self) -> &'static str {
        if self.is_multi {
            "native_exit_multi"
        } else {
            "native_exit"
        }
    }

    /// The reading end of the ring. Can be had once.
    ///
    /// # Errors
    ///
    /// When it was taken before.
    pub fn take_ring(&mut self) -> anyhow::Result<RingBuf<MapData>> {
        let map = self
            .ebpf
            .take_map("EVENTS")
            .context("the ring was taken before")?;
        Ok(map.try_into()?)
    }

    /// Fetches and removes the frees that the ring had no room for: process, address and time.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read the map.
    pub fn take_lost_frees(&mut self) -> anyhow::Result<Vec<(u32, u64, u64)>> {
        let map = self
            .ebpf
            .map_mut("LOST_FREES")
            .context("the object has no LOST_FREES")?;
        let mut map: HashMap<_, LostFreeKey, u64> = HashMap::try_from(map)?;
        let keys: Vec<LostFreeKey> = map.keys().filter_map(Result::ok).collect();
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            // Read just before it is removed, so that the latest time counts.
            if let Ok(time_ns) = map.get(&key, 0) {
                let _ = map.remove(&key);
                taken.push((key.tgid, key.address, time_ns));
            }
        }
        Ok(taken)
    }

    /// How many frees were put aside so far: asking this is much cheaper than fetching them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read the map.
    pub fn deferred_frees(&self) -> anyhow::Result<u64> {
        self.total(total::FREES_DEFERRED)
    }

    fn total(&self, index: u32) -> anyhow::Result<u64> {
        let totals = self
            .ebpf
            .map("TOTALS")
            .context("the object has no TOTALS")?;
        let totals: Array<_, u64> = Array::try_from(totals)?;
        Ok(totals.get(&index, 0)?)
    }

    /// Everything that was lost so far, by process (0 where it is not known) and reason.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read the maps.
    pub fn losses(&self) -> anyhow::Result<Vec<(u32, Counter, u64)>> {
        let map = self
            .ebpf
            .map("LOSSES")
            .context("the object has no LOSSES")?;
        let map: HashMap<_, LossKey, u64> = HashMap::try_from(map)?;
        let mut losses: Vec<_> = map
            .iter()
            .filter_map(Result::ok)
            .filter_map(|(key, count)| Some((key.tgid, Counter::from_number(key.counter)?, count)))
            .collect();
        let untold = self.total(total::LOSSES_UNTOLD)?;
        if untold > 0 {
            losses.push((0, Counter::LossTableFull, untold));
        }
        Ok(losses)
    }

    /// Drops what the probes keep of stacks that nobody refers to any more.
    pub fn forget_stacks(&mut self, ids: impl Iterator<Item = u64>) {
        let Some(map) = self.ebpf.map_mut("STACKS") else {
            return;
        };
        if let Ok(mut map) = HashMap::<_, u64, u64>::try_from(map) {
            for id in ids {
                // One that is not there is what was wanted.
                let _ = map.remove(&id);
            }
        }
    }

    /// Drops what the probes count for a process that was reported and is gone.
    pub fn forget_losses(&mut self, tgid: u32) {
        let Some(map) = self.ebpf.map_mut("LOSSES") else {
            return;
        };
        if let Ok(mut map) = HashMap::<_, LossKey, u64>::try_from(map) {
            for counter in Counter::ALL {
                let _ = map.remove(&LossKey {
                    tgid,
                    counter: counter as u32,
                });
            }
        }
    }
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
