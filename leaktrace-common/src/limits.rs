//! Owns every capacity of the BPF side and what happens at it.
//! Must not know how the tables are used.

/// Frames kept of one stack; a deeper stack is cut and says so.
pub const STACK_FRAMES_MAX: usize = 128;

/// Bytes of the event ring: 16 MiB hold about 230 000 malloc and free pairs (40 + 8 and 16 + 8
/// bytes each), a fifth of a second at a million pairs a second. When it is full, allocations are
/// counted as lost and frees go to the table of lost frees. Must be a power of two of pages.
pub const EVENT_RING_BYTES: u32 = 16 << 20;

/// The agent is woken when this part of the ring is filled, and by its own clock otherwise.
pub const WAKE_UP_DIVISOR: u32 = 8;

/// Processes whose parts of a ring that is more than half full are told apart. Those that sent nothing for longest make room
/// for others, and begin anew.
pub const SHARES_MAX: u32 = 16_384;

/// Threads that may be inside an allocator or have been since they began: 64 Ki threads at
/// 120 bytes. A thread beyond that is counted under `Counter::ThreadTableFull` at each call.
pub const THREADS_MAX: u32 = 65_536;

/// Words of eight bytes that are kept of such a thread.
pub const THREAD_WORDS: usize = 14;

/// Stacks known to have been sent. Beyond that a stack is sent with each of its allocations.
pub const STACKS_MAX: u32 = 262_144;

/// Frees that found no room in the ring, kept by address until the agent fetches them.
pub const LOST_FREES_MAX: u32 = 65_536;

/// Pairs of process and counter that can be told apart; beyond it the loss is still counted,
/// under `Counter::LossTableFull` of the host.
pub const LOSSES_MAX: u32 = 8_192;

/// Processes that have executed a new image since the trace began.
pub const IMAGES_MAX: u32 = 65_536;

/// Scratch buffers for stacks. A probe that finds none free sends its allocation without a stack
/// and counts it; they are only held for about a microsecond, by running threads.
pub const SCRATCH_SLOTS: u32 = 256;

/// Slots that a probe tries before it gives up: its own CPU's first.
pub const SCRATCH_TRIES: u32 = 8;

/// Processes that have a policy of their own, and those whose hits are counted. Beyond it a process
/// has the host's policy, and its hits are counted for the host only.
pub const POLICIES_MAX: u32 = 16_384;

/// Blocks that were recorded where others are not, and wait for their frees. Beyond it samples are
/// dropped and counted. Memory is only taken as they come: about 80 bytes each.
pub const KEPT_MAX: u32 = 1 << 20;

/// Pairs of process and span class of Go's heap whose unused slots are known: 240 processes that use every class.
/// Beyond it the slots of the pair that was used least lately are forgotten, which counts them twice.
pub const GO_UNUSED_MAX: u32 = 32_768;

/// Rows of unwind tables in one shard, the value of one array element: 1 MiB of addresses and half
/// that of rule ids. A file's table may span several.
pub const ROWS_PER_SHARD: usize = 1 << 18;

/// Shards for the whole host: 8.4 million rows in 50 MiB, almost twice what all 155 files need that
/// a small server maps. A file that finds no room is walked by frame pointers, and counted.
pub const SHARDS_MAX: u32 = 32;

/// Pieces of mapped code of one process that can be told apart: mappings, split where a table
/// spans shards. Code beyond is walked by frame pointers.
pub const CODE_PIECES_MAX: usize = 256;

/// Processes whose code the probes know. A child shares its parent's until it maps something.
pub const CODE_REFS_MAX: u32 = 16_384;

/// Different sets of code of processes: 20 MiB. Processes beyond are walked by frame pointers, and
/// counted.
pub const CODE_SPACES_MAX: u32 = 2_048;

/// Rules remembered by address, so that most frames need no search: 512 KiB.
pub const RULE_CACHE_SLOTS: usize = 65_536;

/// Bytes of stack copied at once before a walk: one copy costs as much as two single reads.
pub const STACK_WINDOW_BYTES: usize = 2_048;

/// Bytes of stack that travel with a stack that another unwinder is to check: 100 % of the stacks of
/// small servers fit, and 95 % of node's.
pub const ORACLE_SLICE_BYTES: usize = 32_768;

/// Bytes of stack that travel with the stack of a new process: two pages and no more, because each is copied.
pub const EARLY_SLICE_BYTES: usize = 8_192;

/// Bytes of the ring in which stacks of new processes travel: 4 000 of them. When it is full, or a process has sent
/// `EARLY_STACKS_MAX` of them, its stacks are cut, and counted. Must be a power of two of pages.
pub const EARLY_RING_BYTES: u32 = 32 << 20;

/// Bytes of a ring that is not used: the kernel makes none smaller.
pub const UNUSED_RING_BYTES: u32 = 4_096;

/// Bytes of stacks that the agent keeps until they are walked: 8 000 of them. Of those beyond, only the callers are kept,
/// and they are counted; beyond twice as much they are lost.
pub const EARLY_KEPT_BYTES: usize = 64 << 20;

/// For so long the agent waits for the unwind tables that a stack is walked by.
pub const EARLY_PATIENCE_NS: u64 = 5_000_000_000;

/// Processes that are told to be new; those that have been for longest make room for others, and have their stacks cut.
pub const NEWCOMERS_MAX: u32 = 16_384;

/// For so long after its exec a process is new: its code should be known after some milliseconds.
pub const NEWCOMER_NS: u64 = 5_000_000_000;

/// Stacks that one new process may have walked by the agent.
pub const EARLY_STACKS_MAX: u64 = 16_384;

/// Of those, as many as find room in a ring that is three quarters full: storms fill these, and others have the last
/// quarter for their first allocations.
pub const EARLY_STACKS_FEW: u64 = 64;

const _: () = assert!(EARLY_RING_BYTES.is_power_of_two());
const _: () = assert!(ROWS_PER_SHARD.is_power_of_two(), "used as an index mask");
const _: () = assert!(CODE_PIECES_MAX.is_power_of_two(), "used as an index mask");
const _: () = assert!(RULE_CACHE_SLOTS.is_power_of_two(), "used as an index mask");
const _: () = assert!(
    STACK_WINDOW_BYTES.is_power_of_two(),
    "used as an index mask"
);
const _: () = assert!(EVENT_RING_BYTES.is_power_of_two());
const _: () = assert!(STACK_FRAMES_MAX.is_power_of_two(), "used as an index mask");
const _: () = assert!(SCRATCH_SLOTS.is_power_of_two(), "used as an index mask");
