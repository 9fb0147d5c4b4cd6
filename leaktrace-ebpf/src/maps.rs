//! Owns every map and the settings that the agent writes before loading.
//! Must not know what is done with them.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use leaktrace_common::{
    code::{CodeRef, CodeSpace},
    config::ProbeConfig,
    counter::{LossKey, LostFreeKey, total},
    event::Newcomer,
    limits,
    policy::{Hits, KeptKey, Policy},
    share::Share,
    unwind::{RULES_MAX, Rule},
};

use crate::{native::Thread, scratch::Scratch};

/// `BPF_F_NO_PREALLOC` of include/uapi/linux/bpf.h: memory is taken as elements come.
const BPF_F_NO_PREALLOC: u32 = 1;

/// `BPF_F_MMAPABLE` of the same: the agent writes a few rows without copying the rest.
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The agent's settings.
#[unsafe(no_mangle)]
pub static CONFIG: Global<ProbeConfig> = Global::new(ProbeConfig::DEFAULT);

/// Programs that others may go on in: none, see `own_stack`.
#[map]
pub static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Records, in the order in which they were reserved.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limits::EVENT_RING_BYTES, 0);

/// Stacks of new processes, to be walked by the agent; not in the other ring, which they would fill.
#[map]
pub static EARLY_STACKS: RingBuf = RingBuf::with_byte_size(limits::EARLY_RING_BYTES, 0);

/// New processes.
#[map]
pub static NEWCOMERS: LruHashMap<u32, Newcomer> =
    LruHashMap::with_max_entries(limits::NEWCOMERS_MAX, 0);

/// What processes put into a ring that is more than half full.
#[map]
pub static SHARES: LruHashMap<u32, Share> = LruHashMap::with_max_entries(limits::SHARES_MAX, 0);

/// What each thread is doing inside an allocator, by pid and tid.
#[map]
pub static THREADS: HashMap<u64, Thread> = HashMap::with_max_entries(limits::THREADS_MAX, 0);

/// Check words of the stacks that were sent, by stack id.
#[map]
pub static STACKS: HashMap<u64, u64> = HashMap::with_max_entries(limits::STACKS_MAX, 0);

/// How many images a process has executed since the trace began, by process.
#[map]
pub static IMAGES: HashMap<u32, u32> = HashMap::with_max_entries(limits::IMAGES_MAX, 0);

/// When frees that found no room in the ring were made.
#[map]
pub static LOST_FREES: HashMap<LostFreeKey, u64> =
    HashMap::with_max_entries(limits::LOST_FREES_MAX, 0);

/// Losses by process and reason.
#[map]
pub static LOSSES: HashMap<LossKey, u64> = HashMap::with_max_entries(limits::LOSSES_MAX, 0);

/// Counts over all processes, by `total`.
#[map]
pub static TOTALS: Array<u64> = Array::with_max_entries(total::COUNT, 0);

/// What is recorded of each process that has a policy of its own.
#[map]
pub static POLICIES: HashMap<u32, Policy> = HashMap::with_max_entries(limits::POLICIES_MAX, 0);

/// What probes did, by process; those that did nothing for longest make room for others.
#[map]
pub static HITS: LruHashMap<u32, Hits> = LruHashMap::with_max_entries(limits::POLICIES_MAX, 0);

/// Recorded blocks whose frees are waited for, where those of others are not recorded.
#[map]
pub static KEPT: HashMap<KeptKey, u32> =
    HashMap::with_max_entries(limits::KEPT_MAX, BPF_F_NO_PREALLOC);

/// Slots of Go's heap that were counted and then not handed out, by process and span class; those of who is gone
/// for longest make room for others.
#[map]
pub static GO_UNUSED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(limits::GO_UNUSED_MAX, 0);

/// Distance to the next sample; one element.
#[map]
pub static COUNTDOWN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Which code each process has.
#[map]
pub static CODE_REFS: HashMap<u32, CodeRef> = HashMap::with_max_entries(limits::CODE_REFS_MAX, 0);

/// The code of processes.
#[map]
pub static CODE_SPACES: Array<CodeSpace> = Array::with_max_entries(limits::CODE_SPACES_MAX, 0);

/// Addresses of unwind rows, by shard.
#[map]
pub static ROW_ADDRESSES: Array<[u32; limits::ROWS_PER_SHARD]> =
    Array::with_max_entries(limits::SHARDS_MAX, BPF_F_MMAPABLE);

/// Rule ids of unwind rows, by shard.
#[map]
pub static ROW_RULES: Array<[u16; limits::ROWS_PER_SHARD]> =
    Array::with_max_entries(limits::SHARDS_MAX, BPF_F_MMAPABLE);

/// Unwind rules, by id.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(RULES_MAX as u32, 0);

/// Rule ids by address; one element.
#[map]
pub static RULE_CACHE: Array<[u64; limits::RULE_CACHE_SLOTS]> = Array::with_max_entries(1, 0);

/// Buffers in which stacks are walked.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(limits::SCRATCH_SLOTS, 0);
