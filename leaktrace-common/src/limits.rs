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

/// Threads that may be inside an allocator or have been since they began: 64 Ki threads at
/// 56 bytes. A thread beyond that is counted under `Counter::ThreadTableFull` at each call.
pub const THREADS_MAX: u32 = 65_536;

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

const _: () = assert!(EVENT_RING_BYTES.is_power_of_two());
const _: () = assert!(STACK_FRAMES_MAX.is_power_of_two(), "used as an index mask");
const _: () = assert!(SCRATCH_SLOTS.is_power_of_two(), "used as an index mask");
