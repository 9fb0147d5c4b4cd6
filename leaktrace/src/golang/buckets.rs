//! Owns reading a Go program's own memory profile (`runtime.mbuckets`) from outside: which stacks
//! allocated how much, and how much of it the collector has not freed, without a probe.
//! Must not know names, probes or reports.
//!
//! The runtime keeps one bucket for each stack and size and adds new ones at the front of a list; none is
//! ever taken out. So the list can be followed while the program runs. A bucket holds what was counted
//! up to the last collection (`published`, what `pprof` prints) and what is counted since.

use std::{error, fmt};

use super::{
    memory::{MemoryError, word_at},
    program::GoProcess,
};

/// As many sites as are read; programs have some thousand.
const BUCKETS_MAX: usize = 200_000;

/// The deepest stack: `GODEBUG=profstackdepth` allows for 1024.
const STACK_MAX: usize = 1024;

/// As much memory as one look may read: a bucket takes about 500 bytes.
const BUDGET_BYTES: u64 = 256 << 20;

/// As much as is read at once, in the hope that it holds the whole bucket.
const FIRST_READ_BYTES: usize = 1024;

/// `memProfile` in `bucket.typ`.
const MEMORY_BUCKET: u64 = 1;

/// The cycles of a `memRecord`: `active` and three of `future`.
const CYCLES: usize = 4;

/// A rate beyond this is none that anyone sets: the variable is then not the one.
const RATE_MAX: u64 = 1 << 40;

/// Objects and bytes, as sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects allocated.
    pub alloc_count: u64,
    /// Objects freed.
    pub free_count: u64,
    /// Bytes allocated.
    pub alloc_bytes: u64,
    /// Bytes freed.
    pub free_bytes: u64,
}

impl Tally {
    /// Objects not freed. Reads of a running process can be between two of its writes.
    #[must_use]
    pub fn live_count(&self) -> u64 {
        self.alloc_count.saturating_sub(self.free_count)
    }

    /// Their bytes.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.alloc_bytes.saturating_sub(self.free_bytes)
    }

    fn add(&mut self, other: Self) {
        self.alloc_count = self.alloc_count.saturating_add(other.alloc_count);
        self.free_count = self.free_count.saturating_add(other.free_count);
        self.alloc_bytes = self.alloc_bytes.saturating_add(other.alloc_bytes);
        self.free_bytes = self.free_bytes.saturating_add(other.free_bytes);
    }
}

/// One stack that allocated objects of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Where it is in the process: it stays there.
    pub address: u64,
    /// The size of each object, as the runtime rounds it.
    pub object_bytes: u64,
    /// Return addresses in the process, innermost first; inlined callers have entries of their own.
    pub stack: Vec<u64>,
    /// Up to the last completed collection: what `pprof` prints.
    pub published: Tally,
    /// Since: objects that no collection has judged.
    pub pending: Tally,
}

/// A memory profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The mean bytes between samples.
    pub rate_bytes: u64,
    /// Its sites.
    pub buckets: Vec<Bucket>,
    /// Whether there were more buckets than are read.
    pub is_cut: bool,
}

/// Why there is no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoProfile {
    /// `MemProfileRate` is 0: the linker switches it off where nothing in the program reads it.
    Off,
    /// The runtime's variables were not found in the program.
    NotFound,
    /// What was found there is no list of buckets.
    Implausible,
    /// The memory could not be read.
    Memory(MemoryError),
}

impl fmt::Display for NoProfile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("its memory profile is off (MemProfileRate is 0)"),
            Self::NotFound => formatter.write_str("its memory profile was not found"),
            Self::Implausible => formatter.write_str("its memory profile is not as expected"),
            Self::Memory(error) => error.fmt(formatter),
        }
    }
}

impl error::Error for NoProfile {}

impl From<MemoryError> for NoProfile {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

/// The mean bytes between samples of the program's own memory profile; 0 where it is off.
///
/// # Errors
///
/// When it is not found or cannot be read.
pub fn read_rate(process: &GoProcess) -> Result<u64, NoProfile> {
    let svma = process.program.globals.mem_profile_rate;
    let svma = svma.ok_or(NoProfile::NotFound)?;
    process.memory.refill(8);
    let rate = process.memory.word(process.avma(svma))?;
    // The variable is a signed number, and what is not positive switches the profile off.
    match i64::try_from(rate) {
        Ok(_) if rate > RATE_MAX => Err(NoProfile::Implausible),
        Ok(_) => Ok(rate),
        Err(_) => Ok(0),
    }
}

/// Reads the whole profile.
///
/// # Errors
///
/// When there is none, or not all of it can be read: then nothing of it is told.
pub fn read_profile(process: &GoProcess) -> Result<Profile, NoProfile> {
    let rate_bytes = read_rate(process)?;
    if rate_bytes == 0 {
        return Err(NoProfile::Off);
    }
    let head = process
        .program
        .globals
        .mbuckets
        .ok_or(NoProfile::NotFound)?;
    process.memory.refill(BUDGET_BYTES);
    let mut profile = Profile {
        rate_bytes,
        ..Profile::default()
    };
    let mut next = process.memory.word(process.avma(head))?;
    while next != 0 {
        if profile.buckets.len() >= BUCKETS_MAX {
            profile.is_cut = true;
            break;
        }
        let bucket;
        (bucket, next) = read_bucket(process, next)?;
        profile.buckets.push(bucket);
    }
    Ok(profile)
}

/// Reads one bucket; gives the address of the next too.
fn read_bucket(process: &GoProcess, avma: u64) -> Result<(Bucket, u64), NoProfile> {
    let layout = &process.layout.bucket;
    let header_bytes = usize::from(layout.header_bytes);
    let cycle_bytes = usize::from(layout.cycle_bytes);
    // Most buckets fit into the first read, but it may go beyond what is mapped.
    let mut bytes = match process.memory.bytes(avma, FIRST_READ_BYTES) {
        Err(MemoryError::Unmapped) => process.memory.bytes(avma, header_bytes)?,
        bytes => bytes?,
    };
    let field = |offset: u16| word_at(&bytes, usize::from(offset));
    let (kind, depth) = (field(layout.typ), field(layout.nstk));
    let (object_bytes, next) = (field(layout.size), field(layout.allnext));
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    if kind != MEMORY_BUCKET || depth > STACK_MAX {
        return Err(NoProfile::Implausible);
    }
    let record = header_bytes + depth * 8;
    let total = record + CYCLES * cycle_bytes;
    if bytes.len() < total {
        bytes = process.memory.bytes(avma, total)?;
    }
    let cycle = |index: usize| {
        let word = |word: usize| word_at(&bytes, record + index * cycle_bytes + word * 8);
        let (alloc_count, free_count) = (word(0), word(1));
        // All objects of a bucket have its size; since Go 1.27 their bytes are not kept apart.
        let of_bytes = |count: u64, at| match cycle_bytes {
            16 => count.wrapping_mul(object_bytes),
            _ => word(at),
        };
        Tally {
            alloc_count,
            free_count,
            alloc_bytes: of_bytes(alloc_count, 2),
            free_bytes: of_bytes(free_count, 3),
        }
    };
    let mut pending = Tally::default();
    for index in 1..CYCLES {
        pending.add(cycle(index));
    }
    let bucket = Bucket {
        address: avma,
        object_bytes,
        stack: (0..depth)
            .map(|at| word_at(&bytes, header_bytes + at * 8))
            .collect(),
        published: cycle(0),
        pending,
    };
    Ok((bucket, next))
}

/// The return addresses of a bucket's stack that are those of real calls: the runtime gives a function that was
/// inlined an entry of its own, and whoever names an address tells what was inlined there anyhow.
#[must_use]
pub fn called(process: &GoProcess, stack: &[u64]) -> Vec<u64> {
    let table = &process.program.table;
    let frames = |avma: &u64| table.frames(process.svma(*avma).wrapping_sub(1));
    let mut called = Vec::with_capacity(stack.len());
    let mut rest = stack;
    while let Some((first, behind)) = rest.split_first() {
        called.push(*first);
        let callers = frames(first).into_iter().skip(1);
        let is_entry = |(entry, caller): &(&u64, super::binary::GoFrame<'_>)| {
            frames(entry)
                .first()
                .is_some_and(|it| it.function == caller.function)
        };
        let inlined = behind.iter().zip(callers).take_while(is_entry).count();
        rest = &behind[inlined..];
    }
    called
}

/// How many objects one sampled object of this size stands for.
///
/// The runtime samples once in `rate_bytes` on average, exponentially spread: an object is hit with
/// probability 1 - exp(-size/rate). <https://github.com/golang/go/blob/go1.27.0/src/runtime/pprof/protomem.go>
#[must_use]
pub fn weight(object_bytes: u64, rate_bytes: u64) -> f64 {
    if rate_bytes <= 1 || object_bytes == 0 {
        return 1.0;
    }
    let share = object_bytes as f64 / rate_bytes as f64;
    -1.0 / (-share).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each sampled object stands for as many as `runtime/pprof` takes it for: `1 / (1 - exp(-size / rate))`, so that
    /// the sum over those that chance samples is the truth on the whole.
    #[test]
    fn weights_are_those_of_pprof() {
        for (object_bytes, rate_bytes, expected) in [
            // Of small objects, nearly rate / size.
            (16, 524_288, 32_768.5),
            (1_024, 524_288, 512.500_16),
            (524_288, 524_288, 1.581_976_7),
            // A large one is sampled for certain, and stands for itself.
            (1 << 30, 524_288, 1.0),
            // Everything is sampled at a rate of 1.
            (16, 1, 1.0),
            (0, 524_288, 1.0),
        ] {
            let told = weight(object_bytes, rate_bytes);
            let off = (told / expected - 1.0).abs();
            assert!(off < 1e-6, "{object_bytes} of {rate_bytes}: {told}");
            // What is hit so often, each time counted so much, counts once.
            if rate_bytes > 1 && object_bytes > 0 {
                let hit = 1.0 - (-(object_bytes as f64) / rate_bytes as f64).exp();
                assert!((told * hit - 1.0).abs() < 1e-6, "{told} * {hit}");
            }
        }
    }
}
