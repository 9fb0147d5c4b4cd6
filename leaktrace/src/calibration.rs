//! Owns the measurement of what a hit of a probe costs on this very host.
//! Must not know whose hits are counted or what follows from their cost.
//!
//! A child process, the agent's own program under a hidden command, calls two functions of its own
//! that begin as allocators do. The real programs are attached to them, so that traps, walks and
//! records cost what they cost elsewhere. What differs are stacks: here they have twelve frames.

use std::{
    arch::naked_asm,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use leaktrace_common::{
    call::Call,
    cookie::{Cookie, Family, Layout, NO_ARGUMENT, Shape},
    policy::Policy,
};
use nix::time::{ClockId, clock_gettime};

use crate::{
    host::maps::read_maps,
    probes::{Place, Probes, Scope},
};

/// The hidden command that makes the agent's program a target.
pub const COMMAND: &str = "calibration-target";

/// Calls in one round: few enough that a small ring holds their records.
const PAIRS: u64 = 500;

/// Rounds of each kind, of which the cheapest counts: whatever else the host does only adds.
const ROUNDS: u32 = 5;

/// Traps of a pair: an allocation's two ends and a free.
const HITS_OF_PAIR: f64 = 3.0;

/// Frames below the calls.
const DEPTH: u64 = 12;

/// What a probe costs whoever runs into it, in nanoseconds of CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// A trap and the decision to record nothing.
    pub ns_per_hit: f64,
    /// What an allocation costs more when it and its free are recorded.
    pub ns_per_record: f64,
}

impl Cost {
    /// What so many hits took, of which so many allocations were recorded.
    #[must_use]
    pub fn total_ns(&self, hit_count: u64, record_count: u64) -> f64 {
        self.ns_per_hit * hit_count as f64 + self.ns_per_record * record_count as f64
    }
}

/// Measures. Where every call is recorded, as `is_governed` tells, a hit's cost has all in it.
///
/// `discard` is called between rounds, to empty the ring.
///
/// # Errors
///
/// When the child cannot be started or probed.
pub fn measure(
    probes: &mut Probes,
    is_governed: bool,
    mut discard: impl FnMut(&mut Probes),
) -> anyhow::Result<Cost> {
    let mut target = Target::start()?;
    let pid = target.child.id();
    let file = File::open("/proc/self/exe").context("failed to open our own program")?;
    let points = [
        place(allocate as *const () as u64, Call::Malloc, Shape::Block)?,
        place(release as *const () as u64, Call::Free, Shape::Free)?,
    ];
    let bare = target.cheapest(probes, &mut discard)?;
    if is_governed {
        probes.set_policy(
            pid,
            &Policy::sampled(leaktrace_common::policy::SAMPLE_BYTES_MAX),
        )?;
    }
    let attached = probes.attach_at(&file, &points, Scope::Process(pid))?;
    let measured = target.cheapest(probes, &mut discard).and_then(|idle| {
        let ns_per_hit = (idle - bare).max(0.0) / HITS_OF_PAIR;
        if !is_governed {
            return Ok(Cost {
                ns_per_hit,
                ns_per_record: 0.0,
            });
        }
        probes.set_policy(pid, &Policy::EVERYTHING)?;
        let busy = target.cheapest(probes, &mut discard)?;
        Ok(Cost {
            ns_per_hit,
            ns_per_record: (busy - idle).max(0.0),
        })
    });
    probes.detach(attached);
    drop(target);
    discard(probes);
    probes.forget_policy(pid);
    probes.forget_hits(pid);
    probes.forget_losses(pid);
    measured
}

/// A function of ours, whose one argument is a size or a block.
fn place(address: u64, call: Call, shape: Shape) -> anyhow::Result<Place> {
    let (size, pointer) = match shape {
        Shape::Free => (NO_ARGUMENT, 0),
        _ => (0, NO_ARGUMENT),
    };
    let layout = Layout {
        shape,
        size,
        count: NO_ARGUMENT,
        pointer,
    };
    Ok(Place {
        file_offset: file_offset(address)?,
        cookie: Cookie::new(call as u8, layout, Family::Other, 0),
        returns: shape.returns_block(),
    })
}

/// Where an instruction of ours lies in our file.
fn file_offset(address: u64) -> anyhow::Result<u64> {
    let mappings = read_maps(std::process::id()).context("failed to read our own mappings")?;
    let mapping = mappings
        .iter()
        .find(|it| it.start <= address && address < it.end);
    let mapping = mapping.context("our own code is in no mapping")?;
    Ok(mapping.file_offset_of(address))
}

/// The child.
struct Target {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Target {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start the calibration's child")?;
        let orders = child.stdin.take().context("the child has no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("the child has no stdout")?);
        Ok(Self {
            child,
            orders,
            answers,
        })
    }

    /// CPU nanoseconds of a pair, in the cheapest of some rounds.
    fn cheapest(
        &mut self,
        probes: &mut Probes,
        discard: &mut impl FnMut(&mut Probes),
    ) -> anyhow::Result<f64> {
        let mut cheapest = f64::INFINITY;
        // The first warms up.
        for _ in 0..=ROUNDS {
            writeln!(self.orders, "{PAIRS}").context("the calibration's child is gone")?;
            let mut answer = String::new();
            self.answers.read_line(&mut answer)?;
            let spent: f64 = answer.trim().parse().context("the child did not answer")?;
            cheapest = cheapest.min(spent / PAIRS as f64);
            discard(probes);
        }
        ensure!(cheapest.is_finite(), "the calibration took no time at all");
        Ok(cheapest)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // One that is gone already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's part: for each line that tells a number, makes as many pairs and answers with the CPU
/// nanoseconds that they took; ends with its input.
///
/// # Errors
///
/// When the clock or the streams fail.
pub fn be_target(
    orders: impl std::io::Read,
    mut answers: impl std::io::Write,
) -> anyhow::Result<()> {
    for line in BufReader::new(orders).lines() {
        let pairs: u64 = line?.trim().parse().context("no number of pairs")?;
        let before = cpu_ns()?;
        spin(pairs.max(1), DEPTH);
        writeln!(answers, "{}", cpu_ns()? - before)?;
        answers.flush()?;
    }
    Ok(())
}

fn cpu_ns() -> anyhow::Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// Stands for `malloc`: begins with an instruction that the kernel emulates, and gives the same
/// address each time, where nothing ever is.
#[unsafe(naked)]
extern "C" fn allocate(_size: u64) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "lea rax, [rdi + 4096]",
        "pop rbp",
        "ret"
    )
}

/// Stands for `free`.
#[unsafe(naked)]
extern "C" fn release(_address: u64) {
    naked_asm!("push rbp", "mov rbp, rsp", "pop rbp", "ret")
}

/// Makes pairs below so many frames, which are linked by frame pointers.
#[unsafe(naked)]
extern "C" fn spin(_pairs: u64, _depth: u64) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "test rsi, rsi",
        "jz 2f",
        "dec rsi",
        "call {spin}",
        "pop rbp",
        "ret",
        "2:",
        "push rbx",
        // Twice, so that the stack stays aligned as calls want it.
        "push rbx",
        "mov rbx, rdi",
        "3:",
        "mov edi, 64",
        "call {allocate}",
        "mov rdi, rax",
        "call {release}",
        "dec rbx",
        "jnz 3b",
        "pop rbx",
        "pop rbx",
        "pop rbp",
        "ret",
        spin = sym spin,
        allocate = sym allocate,
        release = sym release,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The child answers each order with a time, and ends with its input.
    #[test]
    fn the_child_answers() {
        let mut answers = Vec::new();
        be_target(&b"10\n100000\n"[..], &mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        let times: Vec<i64> = answers.lines().map(|it| it.parse().unwrap()).collect();
        assert_eq!(times.len(), 2);
        assert!(times[1] > times[0] && times[0] >= 0, "{times:?}");
        assert!(be_target(&b"many\n"[..], Vec::new()).is_err());
    }

    /// Our functions lie in our file, where it has the bytes that they begin with.
    #[test]
    fn functions_are_found_in_the_file() {
        use std::os::unix::fs::FileExt as _;
        let offset = file_offset(allocate as *const () as u64).unwrap();
        let mut bytes = [0; 4];
        let file = File::open("/proc/self/exe").unwrap();
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert_eq!(bytes, [0x55, 0x48, 0x89, 0xe5], "push rbp; mov rbp, rsp");
    }

    /// What was recorded costs more than what was not.
    #[test]
    fn records_add_to_hits() {
        let cost = Cost {
            ns_per_hit: 700.0,
            ns_per_record: 2_000.0,
        };
        assert!((cost.total_ns(30, 10) - 41_000.0).abs() < 1e-9);
    }
}
