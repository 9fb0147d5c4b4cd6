//! Owns the kernel's report of every change to what a process maps for execution, on the whole host.
//! Must not know processes, files or symbols.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
};

use anyhow::Context as _;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use perf_event_open::{
    config::{
        Clock, Cpu, ExtraRecord, Mmap, Opts, Proc, RecordIdFormat, UseBuildId, WakeUp, WakeUpOn,
    },
    count::Counter,
    event::sw::Software,
    sample::{
        Sampler,
        record::{Record, RecordId, mmap::Info},
    },
};

use crate::host::maps::{BuildId, Mapping, tidy_path};

/// The most pages of one ring: 128 and its control page are 516 KiB, the amount
/// of each CPU that `perf_event_mlock_kb` lets anyone lock by default. So no
/// limit has to be raised.
pub const RING_PAGES_MAX: u32 = 128;

/// A change to what a process maps for execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEvent {
    /// The process.
    pub tgid: u32,
    /// When, in nanoseconds of `CLOCK_BOOTTIME`, the clock of the probes' records.
    pub time_ns: u64,
    /// What has changed.
    pub change: MapChange,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapChange {
    /// A new mapping; device and inode are 0 where there is a build id.
    Mapped(Mapping),
    /// A new image: nothing of what was mapped before is left.
    Executed,
    /// It made a child, which maps the same.
    Forked {
        /// The new process.
        child_tgid: u32,
    },
}

/// The rings of all CPUs.
///
/// One software event that counts nothing is opened on each CPU, for all
/// processes. Each new mapping wakes the reader at once, unless it is unhurried: mappings are rare
/// (some per exec), and a file must be opened while its process lives.
pub struct MmapEvents {
    samplers: Vec<Sampler>,
    // Dropping a counter does not close its event while the sampler lives, but
    // the counter is what says that it is enabled; so both stay.
    _counters: Vec<Counter>,
    readiness: Epoll,
    build_ids: bool,
    lost: u64,
    batch: Vec<MapEvent>,
}

impl MmapEvents {
    /// Opens one ring of about `ring_pages` pages (rounded up to a power of two,
    /// at most `RING_PAGES_MAX`) on each online CPU, and starts.
    pub fn open(ring_pages: u32) -> anyhow::Result<Self> {
        Self::open_waking(ring_pages, 1)
    }

    /// The same for who looks by itself, and is woken only where a ring is half full: on a host that starts programs
    /// without pause, waking up is most of what listening costs.
    pub fn open_unhurried(ring_pages: u32) -> anyhow::Result<Self> {
        Self::open_waking(ring_pages, ring_pages.clamp(1, RING_PAGES_MAX) * 4096 / 2)
    }

    fn open_waking(ring_pages: u32, wake_bytes: u32) -> anyhow::Result<Self> {
        let online = fs::read_to_string("/sys/devices/system/cpu/online")
            .context("failed to read the list of online CPUs")?;
        let cpus = parse_cpu_list(&online);
        anyhow::ensure!(!cpus.is_empty(), "no online CPU in {online:?}");
        // Kernels before 5.12 refuse the flag that asks for build ids.
        let open = |build_ids| Self::open_on(&cpus, ring_pages, options(build_ids, wake_bytes));
        open(true).or_else(|_| open(false))
    }

    fn open_on(cpus: &BTreeSet<u32>, ring_pages: u32, options: Opts) -> anyhow::Result<Self> {
        let ring_pages = ring_pages.clamp(1, RING_PAGES_MAX).next_power_of_two();
        let exponent = u8::try_from(ring_pages.ilog2()).context("ring too large")?;
        let readiness = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .context("failed to create an epoll for mapping events")?;
        let (mut samplers, mut counters) = (Vec::new(), Vec::new());
        for cpu in cpus {
            let counter = Counter::new(Software::Dummy, (Proc::ALL, Cpu(*cpu)), &options)
                .with_context(|| format!("failed to open mapping events on CPU {cpu}"))?;
            let sampler = counter.sampler(exponent).with_context(|| {
                format!("failed to map a ring of {ring_pages} pages on CPU {cpu}")
            })?;
            watch(&readiness, counter.file(), *cpu)
                .with_context(|| format!("failed to watch mapping events on CPU {cpu}"))?;
            counter
                .enable()
                .with_context(|| format!("failed to enable mapping events on CPU {cpu}"))?;
            samplers.push(sampler);
            counters.push(counter);
        }
        Ok(Self {
            samplers,
            _counters: counters,
            readiness,
            build_ids: options.extra_record.mmap.ext == Some(UseBuildId(true)),
            lost: 0,
            batch: Vec::new(),
        })
    }

    /// Hands over all that the rings hold, in order of time, without waiting.
    ///
    /// A process moves between CPUs, so the order within one ring is not the
    /// order of its mappings.
    pub fn drain(&mut self, mut each: impl FnMut(MapEvent)) {
        for sampler in &self.samplers {
            // Only one iterator of a ring may live, and ours never outlives this loop.
            let Some(records) = sampler.iter() else {
                continue;
            };
            // A host that maps without pause must not keep us here: one ring's
            // worth of the smallest records is the most there can have been.
            for (_, record) in records.take(RING_PAGES_MAX as usize * 4096 / 72) {
                match record {
                    Record::Mmap(record) if record.executable => self.batch.extend(mapped(&record)),
                    Record::Comm(record) if record.by_execve => {
                        self.batch.push(MapEvent {
                            tgid: record.task.pid,
                            time_ns: time_ns(record.record_id.as_ref()),
                            change: MapChange::Executed,
                        });
                    }
                    Record::Fork(record) if record.task.pid == record.task.tid => {
                        self.batch.push(MapEvent {
                            tgid: record.parent_task.pid,
                            time_ns: time_ns(record.record_id.as_ref()),
                            change: MapChange::Forked {
                                child_tgid: record.task.pid,
                            },
                        });
                    }
                    Record::LostRecords(lost) => self.lost += lost.lost_records,
                    _ => {}
                }
            }
        }
        self.batch.sort_by_key(|event| event.time_ns);
        self.batch.drain(..).for_each(&mut each);
    }

    /// How many records the kernel dropped because a ring was full. They may
    /// have been mappings: those processes need a snapshot of their maps.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// A handle of its own on what becomes readable with the next mapping on any CPU.
    pub fn readiness(&self) -> io::Result<Epoll> {
        Ok(Epoll(self.readiness.0.try_clone()?))
    }

    /// Whether the kernel tells build ids.
    pub fn has_build_ids(&self) -> bool {
        self.build_ids
    }
}

/// What is asked of the kernel: executable mappings, execs and forks, with their times.
fn options(build_ids: bool, wake_bytes: u32) -> Opts {
    Opts {
        extra_record: ExtraRecord {
            mmap: Mmap {
                code: true,
                ext: Some(UseBuildId(build_ids)),
                ..Mmap::default()
            },
            comm: true,
            task: true,
            ..ExtraRecord::default()
        },
        record_id_all: true,
        record_id_format: RecordIdFormat {
            time: true,
            ..RecordIdFormat::default()
        },
        // A watermark: records that are no samples wake the reader by bytes only. At one byte, each of them does.
        wake_up: WakeUp {
            on: WakeUpOn::Bytes(wake_bytes),
            ..WakeUp::default()
        },
        timer: Some(Clock::BootTime),
        ..Opts::default()
    }
}

/// Adds one CPU's event to the common descriptor.
fn watch(readiness: &Epoll, event: &File, cpu: u32) -> io::Result<()> {
    Ok(readiness.add(event, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(cpu)))?)
}

/// Records without a time are taken for the oldest.
fn time_ns(id: Option<&RecordId>) -> u64 {
    id.and_then(|id| id.time).unwrap_or(0)
}

/// Turns a record into an event.
fn mapped(record: &perf_event_open::sample::record::mmap::Mmap) -> Option<MapEvent> {
    let (path, deleted) = tidy_path(record.file.to_bytes());
    let (device, inode, build_id) = match record.ext.as_ref().map(|ext| &ext.info) {
        Some(Info::Device {
            major,
            minor,
            inode,
            ..
        }) => ((*major, *minor), *inode, None),
        Some(Info::BuildId(bytes)) => ((0, 0), 0, BuildId::from_bytes(bytes)),
        None => ((0, 0), 0, None),
    };
    Some(MapEvent {
        tgid: record.task.pid,
        time_ns: time_ns(record.record_id.as_ref()),
        change: MapChange::Mapped(Mapping {
            start: record.addr,
            end: record.addr.checked_add(record.len)?,
            file_offset: record.page_offset,
            device,
            inode,
            path,
            deleted,
            build_id,
        }),
    })
}

/// Parses the kernel's `0-3,8` form; what is not understood is left out.
fn parse_cpu_list(text: &str) -> BTreeSet<u32> {
    /// More CPUs than any kernel is built for (`NR_CPUS` is at most 8192).
    const CPU_MAX: u32 = 8192;
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            cpus.extend(first..=last.min(CPU_MAX));
        }
    }
    cpus
}

#[cfg(test)]
mod tests;
