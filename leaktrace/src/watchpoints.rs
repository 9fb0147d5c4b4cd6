//! Owns hardware watchpoints on memory of another process: which words it writes to, and from where.
//! Must not know blocks, or what a write means.
//!
//! The processor compares addresses by itself, so that a watchpoint costs nothing until its word is written to. It has four
//! of them, for each thread apart. They are descriptors of ours, and gone with us, whatever ends us.

use std::{fs, io};

use perf_event_open::{
    config::{Cpu, Opts, Priv, Proc, RecordIdFormat, SampleFormat, SampleOn},
    count::Counter,
    event::bp::{Breakpoint, Len, Type},
    sample::{Sampler, record::Record},
};

use crate::host::clock::Clock;

/// The processor's watchpoints.
pub const POINTS_MAX: usize = 4;

/// A process with more threads is not watched: each takes a descriptor and two pages for every word.
const THREADS_MAX: usize = 24;

/// A word that is written to so often is no longer watched in that thread: the program uses it, and each write costs.
const WRITES_MAX: u32 = 4;

/// A write to a word that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The word.
    pub address: u64,
    /// The instruction behind the one that wrote.
    pub code_address: u64,
    /// When, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
}

/// One word in one thread. The ring lives as long as the event.
struct Point {
    tid: u32,
    address: u64,
    sampler: Sampler,
    _counter: Counter,
}

/// The words of one process that are watched.
pub struct Watchpoints {
    pid: u32,
    points: Vec<Point>,
}

impl Watchpoints {
    /// None yet.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            points: Vec::new(),
        }
    }

    /// Watches these words, four at most, in every thread that there is now, and no others.
    ///
    /// # Errors
    ///
    /// When the process is gone or has too many threads, or where the kernel refuses: no word is watched then.
    pub fn set(&mut self, addresses: &[u64]) -> io::Result<()> {
        let set = self.try_set(addresses);
        if set.is_err() {
            self.points.clear();
        }
        set
    }

    fn try_set(&mut self, addresses: &[u64]) -> io::Result<()> {
        let tids = threads(self.pid)?;
        if tids.len() > THREADS_MAX {
            let why = format!("it has {} threads, {THREADS_MAX} at most", tids.len());
            return Err(io::Error::other(why));
        }
        let wanted = &addresses[..addresses.len().min(POINTS_MAX)];
        self.points
            .retain(|it| wanted.contains(&it.address) && tids.contains(&it.tid));
        for address in wanted {
            for tid in &tids {
                let is_set = |it: &Point| it.address == *address && it.tid == *tid;
                if self.points.iter().any(is_set) {
                    continue;
                }
                match open(*tid, *address) {
                    Ok(point) => self.points.push(point),
                    // A thread that ended meanwhile writes to nothing.
                    Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Whether a word is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// What was written since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        if self.points.is_empty() {
            return writes;
        }
        let asleep_ns = Clock::asleep_ns();
        for point in &self.points {
            let records = point.sampler.iter().into_iter().flatten();
            writes.extend(
                records
                    .take(WRITES_MAX as usize)
                    .filter_map(|(_, it)| match it {
                        Record::Sample(sample) => Some(Write {
                            address: point.address,
                            code_address: sample.code_addr?.0,
                            time_ns: sample.record_id.time? + asleep_ns,
                        }),
                        _ => None,
                    }),
            );
        }
        writes
    }
}

fn open(tid: u32, address: u64) -> io::Result<Point> {
    let event = Breakpoint {
        ty: Type::W(Len::_8),
        addr: address,
    };
    let options = Opts {
        // What the kernel writes there for the program is no end of a block.
        exclude: Priv {
            kernel: true,
            hv: true,
            ..Priv::default()
        },
        sample_on: SampleOn::Count(1),
        sample_format: SampleFormat {
            code_addr: true,
            ..SampleFormat::default()
        },
        record_id_format: RecordIdFormat {
            time: true,
            ..RecordIdFormat::default()
        },
        // The clock of boot time cannot be read wherever a watchpoint strikes.
        timer: Some(perf_event_open::config::Clock::Monotonic),
        ..Opts::default()
    };
    let counter = Counter::new(event, (Proc(tid), Cpu::ALL), options)?;
    let sampler = counter.sampler(0)?;
    sampler.enable_counter_with(WRITES_MAX)?;
    Ok(Point {
        tid,
        address,
        sampler,
        _counter: counter,
    })
}

fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(tasks
        .filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write by a thread of ours is told with its place and time, and one that goes on and on ends the watch; other
    /// words are not watched.
    #[test]
    fn writes_are_told() {
        let mut words = [0_u64; 4];
        let address = |words: &[u64; 4], index: usize| &raw const words[index] as u64;
        let mut points = Watchpoints::new(std::process::id());
        if let Err(error) = points.set(&[address(&words, 1)]) {
            assert!(points.is_empty());
            // Beside many other tests there are many threads.
            let must_run = std::env::var_os("LEAKTRACE_REQUIRE_KERNEL").is_some();
            assert!(
                !must_run || error.to_string().contains("threads"),
                "{error}"
            );
            return;
        }
        let write = |words: &mut [u64; 4], index: usize| {
            words[index] += 1;
            std::hint::black_box(&words);
        };
        write(&mut words, 0);
        assert_eq!(points.take(), []);
        write(&mut words, 1);
        let told = points.take();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].address, address(&words, 1));
        assert!(told[0].code_address > 0);
        let ago_ns = Clock::now_boot_ns().abs_diff(told[0].time_ns);
        assert!(ago_ns < 60_000_000_000, "{ago_ns}");
        for _ in 0..100 {
            write(&mut words, 1);
        }
        assert!(points.take().len() < WRITES_MAX as usize);
        points.set(&[]).unwrap();
        assert!(points.is_empty());
    }
}
