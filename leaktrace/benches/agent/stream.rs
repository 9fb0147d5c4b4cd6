//! Owns a stream of records as probes would send it: whose, how large, and how long blocks live.
//! Must not know who reads it.
//!
//! Like the ring, the stream is one run of bytes in which each record follows its length.

use leaktrace_common::{call::Call, event::Kind};

/// Processes that allocate at the same time.
const PROCESSES: u64 = 8;
/// Sites of each process.
const SITES: u64 = 500;
/// One event in this many is another process's than the event before: probes on a few CPUs send
/// runs of one process.
const SWITCH_EVERY: u64 = 4;
/// Steps in a hundred that resize a block.
const RESIZES_PERCENT: u64 = 10;
/// Frees in a hundred that take one of the youngest blocks: most blocks die young.
const YOUNG_PERCENT: u64 = 80;
/// How many blocks count as the youngest.
const YOUNG: usize = 64;
/// Blocks are multiples of 16 bytes up to 64, as most are in C++ programs, and up to 1 KiB in a
/// quarter of all cases.
const SMALL_BYTES: u64 = 64;
const LARGE_BYTES: u64 = 1_024;
/// Nanoseconds between two events.
const EVENT_NS: u64 = 200;

/// A xorshift generator: the same stream in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// A process as the stream's maker sees it.
struct Process {
    tgid: u32,
    live: Vec<u64>,
    /// Addresses that were given back: the last one is handed out first, as by glibc.
    vacant: Vec<u64>,
    top: u64,
}

impl Process {
    fn place(&mut self, size: u64) -> u64 {
        self.vacant.pop().unwrap_or_else(|| {
            let address = self.top;
            // Behind each block are 8 bytes of glibc's own, and the next begins at 16.
            self.top += (size + 8).next_multiple_of(16);
            address
        })
    }

    fn victim(&mut self, dice: &mut Dice) -> u64 {
        let count = self.live.len();
        let index = if dice.roll(100) < YOUNG_PERCENT {
            count - 1 - dice.roll(YOUNG.min(count) as u64) as usize
        } else {
            dice.roll(count as u64) as usize
        };
        self.live.swap_remove(index)
    }
}

/// Makes records without end.
pub struct Maker {
    dice: Dice,
    processes: Vec<Process>,
    current: usize,
    time_ns: u64,
}

impl Maker {
    /// Begins with processes that hold nothing.
    pub fn new() -> Self {
        let process = |index| Process {
            tgid: 1_000 + index as u32 * 37,
            live: Vec::new(),
            vacant: Vec::new(),
            top: 0x5500_0000_0000 + index * 0x10_1234_5000,
        };
        Self {
            dice: Dice(0x2545_f491_4f6c_dd1d),
            processes: (0..PROCESSES).map(process).collect(),
            current: 0,
            time_ns: 1_000_000_000,
        }
    }

    /// Records until so many blocks more are live: nothing dies.
    pub fn grow(&mut self, blocks: u64, stream: &mut Stream) {
        for _ in 0..blocks {
            self.step();
            self.allocate(stream);
        }
    }

    /// At least so many records, with as many blocks live after them as before.
    pub fn churn(&mut self, records: u64, stream: &mut Stream) {
        let end = stream.count + records;
        while stream.count < end {
            self.step();
            if self.dice.roll(100) < RESIZES_PERCENT {
                self.resize(stream);
            } else {
                self.allocate(stream);
                self.step();
                self.free(stream);
            }
        }
    }

    fn step(&mut self) {
        self.time_ns += EVENT_NS;
        if self.dice.roll(SWITCH_EVERY) == 0 {
            self.current = self.dice.roll(PROCESSES) as usize;
        }
    }

    fn size(&mut self) -> u64 {
        let largest = if self.dice.roll(4) == 0 {
            LARGE_BYTES
        } else {
            SMALL_BYTES
        };
        16 * (1 + self.dice.roll(largest / 16)) - self.dice.roll(8)
    }

    /// The square of a uniform number: few sites make most blocks.
    fn stack(&mut self) -> u64 {
        let number = self.dice.roll(SITES) * self.dice.roll(SITES) / SITES;
        (number + self.current as u64 * SITES + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn allocate(&mut self, stream: &mut Stream) {
        let (size, stack) = (self.size(), self.stack());
        let process = &mut self.processes[self.current];
        let address = process.place(size);
        process.live.push(address);
        let words = [address, size, stack, self.time_ns];
        stream.push(Kind::Alloc, Call::Malloc, process.tgid, &words);
    }

    fn free(&mut self, stream: &mut Stream) {
        let process = &mut self.processes[self.current];
        if process.live.is_empty() {
            return;
        }
        let address = process.victim(&mut self.dice);
        process.vacant.push(address);
        stream.push(Kind::Free, Call::Free, process.tgid, &[address]);
    }

    fn resize(&mut self, stream: &mut Stream) {
        let (size, stack) = (self.size(), self.stack());
        let process = &mut self.processes[self.current];
        if process.live.is_empty() {
            return;
        }
        let old = process.victim(&mut self.dice);
        // The thread has the process's number; the word's upper half is reserved.
        let tid = u64::from(process.tgid);
        stream.push(Kind::ReallocBegin, Call::Realloc, process.tgid, &[old, tid]);
        let address = process.place(size);
        process.vacant.push(old);
        process.live.push(address);
        let words = [old, address, size, stack, self.time_ns, tid];
        stream.push(Kind::ReallocEnd, Call::Realloc, process.tgid, &words);
    }
}

/// Records, one after the other.
#[derive(Default)]
pub struct Stream {
    bytes: Vec<u8>,
    /// How many there are.
    pub count: u64,
}

impl Stream {
    /// Adds a record as it came.
    pub fn push_raw(&mut self, record: &[u8]) {
        self.bytes.extend((record.len() as u64).to_ne_bytes());
        self.bytes.extend(record);
        self.count += 1;
    }

    fn push(&mut self, kind: Kind, call: Call, tgid: u32, words: &[u64]) {
        let length = 8 + 8 * words.len() as u64;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend([kind as u8, call as u8, 0, 0]);
        self.bytes.extend(tgid.to_ne_bytes());
        for word in words {
            self.bytes.extend(word.to_ne_bytes());
        }
        self.count += 1;
    }

    /// Each record's bytes.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<8>()?;
            let length = usize::try_from(u64::from_ne_bytes(*length)).ok()?;
            let (record, behind) = behind.split_at_checked(length)?;
            rest = behind;
            Some(record)
        })
    }
}
