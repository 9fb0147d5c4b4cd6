//! Owns the BPF object in the kernel: loading it, its maps, and turning chosen points into links.
//! Must not know which processes are of interest or what the records lead to.

mod closer;
mod go;
mod links;
mod native;
mod policies;
pub mod rows;
mod tables;
mod unwind;

use std::num::NonZeroU32;

use anyhow::{Context as _, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, ProgramType, TracePoint, UProbe, uprobe::UProbeScope},
    sys::{BpfHelper, UProbeMultiFeature, is_helper_supported, is_uprobe_multi_supported},
};
use leaktrace_common::{config::ProbeConfig, limits, policy::Policy};

use self::closer::Closer;
pub use self::{closer::end_in_haste, links::Attached, native::Place};
use crate::tracefs;

/// The BPF object, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leaktrace-ebpf"));

/// The probes in the kernel. Dropping them takes every probe out.
pub struct Probes {
    ebpf: Ebpf,
    is_multi: bool,
    sends_early: bool,
    /// Who takes probes out. Dropped last, when all of them are.
    closer: Closer,
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
    /// Whether processes have policies and their hits are counted.
    pub is_governed: bool,
    /// What is recorded of a process that has no policy of its own.
    pub policy: Policy,
    /// One in so many stacks is sent with what it was walked from; 0 for none.
    pub oracle_one_in: u32,
    /// Whether stacks of new processes are sent to be walked, where the kernel's verifier bears with that.
    pub sends_early: bool,
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
            sends_early: false,
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
                // Linux 6.1 finds the programs too large with it; this came with 6.6.
                sends_early: u32::from(settings.sends_early && has_multi()?),
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
        // Without it the verifier's refusal would be pages long and name no remedy. Where the
        // question itself is denied, the load tells it better.
        let cookie =
            is_helper_supported(ProgramType::KProbe, BpfHelper::BPF_FUNC_get_attach_cookie);
        if matches!(cookie, Ok(false)) {
            bail!("this kernel's probes have no attach cookie; remedy: Linux 5.15 or later");
        }
        let is_multi = has_multi()?;
        // It cannot be left out, but takes no room where it is not used.
        let early_bytes = match config.sends_early {
            0 => limits::UNUSED_RING_BYTES,
            _ => limits::EARLY_RING_BYTES,
        };
        let ebpf = EbpfLoader::new()
            .override_global("CONFIG", config, true)
            .map_max_entries("EVENTS", settings.ring_bytes)
            .map_max_entries("LOST_FREES", settings.lost_frees)
            .map_max_entries("EARLY_STACKS", early_bytes)
            .load(OBJECT)
            .map_err(|error| refused(error.into()))?;
        let mut probes = Self {
            ebpf,
            is_multi,
            sends_early: config.sends_early != 0,
            closer: Closer::start()?,
        };
        probes.load_native()?;
        Ok(probes)
    }

    /// Hands a program to the kernel, unless it has it.
    fn load_uprobe(&mut self, name: &str) -> anyhow::Result<()> {
        let program = self.uprobe(name)?;
        if program.fd().is_ok() {
            return Ok(());
        }
        program.load().map_err(|error| refused(error.into()))
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

    /// Whether stacks of new processes are sent to be walked.
    #[must_use]
    pub fn sends_early(&self) -> bool {
        self.sends_early
    }

    fn uprobe(&mut self, name: &str) -> anyhow::Result<&mut UProbe> {
        let program = self.ebpf.program_mut(name);
        let program = program.with_context(|| format!("the object has no program {name}"))?;
        Ok(program.try_into()?)
    }
}

fn has_multi() -> anyhow::Result<bool> {
    is_uprobe_multi_supported(UProbeMultiFeature::ProcessScopedPidFilter)
        .context("failed to ask the kernel for uprobe_multi")
}

/// Set to anything, it brings all that the kernel's verifier said, which may be megabytes.
const VERIFIER_LOG: &str = "LEAKTRACE_VERIFIER_LOG";

/// As much of what the verifier said is told otherwise.
const VERDICT_CHARS_MAX: usize = 160;

/// Adds the remedy to a refusal by the kernel, and leaves the verifier's word of it.
fn refused(error: anyhow::Error) -> anyhow::Error {
    let is_of = |numbers: &[i32]| {
        error.chain().any(|cause| {
            let number = match cause.downcast_ref() {
                Some(ProgramError::LoadError { io_error, .. }) => io_error.raw_os_error(),
                _ => cause
                    .downcast_ref::<std::io::Error>()
                    .and_then(std::io::Error::raw_os_error),
            };
            number.is_some_and(|it| numbers.contains(&it))
        })
    };
    if is_of(&[nix::libc::ESRCH]) {
        return anyhow!("it ended before its probes were in place");
    }
    let is_denied = is_of(&[nix::libc::EPERM, nix::libc::EACCES]);
    if is_denied {
        return verdict(error)
            .context("the kernel denies eBPF; remedy: run as root, and see `leaktrace doctor`");
    }
    let said = format!(
        "the kernel refuses the probes; see `leaktrace doctor`, and {VERIFIER_LOG}=1 for all it says"
    );
    verdict(error).context(said)
}

/// An error without the log of the verifier, but for the line that tells why.
fn verdict(error: anyhow::Error) -> anyhow::Error {
    if std::env::var_os(VERIFIER_LOG).is_some() {
        return error;
    }
    let refusal = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(ProgramError::LoadError {
            io_error,
            verifier_log,
            ..
        }) => Some((io_error.to_string(), verifier_log.to_string())),
        _ => None,
    });
    match refusal {
        Some((why, log)) => anyhow!("a program is refused ({why}): {}", last_word(&log)),
        None => error,
    }
}

/// The line of a verifier's log that tells why, without its statistics.
fn last_word(log: &str) -> String {
    let is_statistics = |line: &&str| {
        let starts = [
            "processed ",
            "verification time",
            "stack depth",
            "max_states",
        ];
        line.is_empty() || starts.iter().any(|start| line.starts_with(start))
    };
    let mut lines = log.lines().rev().map(str::trim);
    let line = lines
        .find(|line| !is_statistics(line))
        .unwrap_or("it says nothing");
    line.chars().take(VERDICT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of pages of a log only the reason is told, and no more of it than fits.
    #[test]
    fn the_verifier_is_brief() {
        let log = "0: (b7) r0 = 1\n1: (95) exit\nR1 invalid mem access 'scalar'\n\
                   verification time 3 usec\nprocessed 2 insns (limit 1000000)\n\n";
        assert_eq!(last_word(log), "R1 invalid mem access 'scalar'");
        assert_eq!(last_word(""), "it says nothing");
        assert_eq!(last_word(&"x".repeat(1000)).len(), VERDICT_CHARS_MAX);
    }
}
