//! Owns the named counters of loss: every early return in a probe has one.
//! Must not know who reads them.

/// A reason for which something was not recorded. The number is a map key and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Counter {
    /// An allocation found no room in the ring.
    AllocationsLost = 1,
    /// A free found no room in the ring; its address was kept, so nothing is wrong yet.
    FreesDeferred = 2,
    /// A free found no room in the ring nor in the side table: its block may be reported live.
    FreesLost = 3,
    /// A stack found no room in the ring; it is sent again with its next allocation.
    StacksDeferred = 4,
    /// No scratch buffer was free: an allocation without a stack.
    StacksWithoutScratch = 5,
    /// Two stacks with one id: the later one's allocations have no stack.
    StackCollisions = 6,
    /// The table of sent stacks is full: stacks are sent repeatedly, which costs but loses nothing.
    StackTableFull = 7,
    /// The table of threads is full: an allocation was not recorded.
    ThreadTableFull = 8,
    /// The result of `posix_memalign` could not be read from the program's memory.
    ResultsUnreadable = 9,
    /// An allocator was left without returning, so its call was given up.
    CallsAbandoned = 10,
    /// A fork, exec or exit found no room in the ring.
    LifecycleLost = 11,
    /// The table of losses is full: a loss that cannot be told by process.
    LossTableFull = 12,
    /// The stack of a new process was not sent to be walked, because the ring for that was full or the process has sent
    /// as many as one may: it is cut.
    EarlyStacksRefused = 13,
    /// A sweep of Go's heap found no room in the ring: dead objects may be reported live until the next
    /// collection.
    GoSweepsLost = 30,
    /// A span of Go's heap, or its marks, could not be read: as above.
    GoSweepsUnreadable = 31,
    /// A block of Go's heap, its size or its type could not be read.
    GoBlocksUnreadable = 32,
    /// The beginning of a collection found no room in the ring: its survivors may count as one
    /// collection older than they are.
    GoCyclesLost = 33,
    /// The page of a span's marks was never written to: none of its objects was marked.
    GoMarksAbsent = 34,
    /// The table of policies is full: a child has the policy of the host, not its parent's.
    PolicyTableFull = 40,
    /// The set of recorded blocks is full: a sample was not taken.
    KeptTableFull = 41,
    /// A record was refused because its process had filled the ring as far as one may; what was lost or put
    /// aside for it has counters of its own.
    RecordsRefused = 42,
}

impl Counter {
    /// Every counter, in the order of its number.
    pub const ALL: [Self; 21] = [
        Self::AllocationsLost,
        Self::FreesDeferred,
        Self::FreesLost,
        Self::StacksDeferred,
        Self::StacksWithoutScratch,
        Self::StackCollisions,
        Self::StackTableFull,
        Self::ThreadTableFull,
        Self::ResultsUnreadable,
        Self::CallsAbandoned,
        Self::LifecycleLost,
        Self::LossTableFull,
        Self::EarlyStacksRefused,
        Self::GoSweepsLost,
        Self::GoSweepsUnreadable,
        Self::GoBlocksUnreadable,
        Self::GoCyclesLost,
        Self::GoMarksAbsent,
        Self::PolicyTableFull,
        Self::KeptTableFull,
        Self::RecordsRefused,
    ];

    /// The counter with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|counter| *counter as u32 == number)
    }

    /// The name in reports and in the JSON stream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllocationsLost => "allocations_lost",
            Self::FreesDeferred => "frees_deferred",
            Self::FreesLost => "frees_lost",
            Self::StacksDeferred => "stacks_deferred",
            Self::StacksWithoutScratch => "stacks_without_scratch",
            Self::StackCollisions => "stack_collisions",
            Self::StackTableFull => "stack_table_full",
            Self::ThreadTableFull => "thread_table_full",
            Self::ResultsUnreadable => "results_unreadable",
            Self::CallsAbandoned => "calls_abandoned",
            Self::LifecycleLost => "lifecycle_lost",
            Self::LossTableFull => "loss_table_full",
            Self::EarlyStacksRefused => "early_stacks_refused",
            Self::GoSweepsLost => "go_sweeps_lost",
            Self::GoSweepsUnreadable => "go_sweeps_unreadable",
            Self::GoBlocksUnreadable => "go_blocks_unreadable",
            Self::GoCyclesLost => "go_cycles_lost",
            Self::GoMarksAbsent => "go_marks_absent",
            Self::PolicyTableFull => "policy_table_full",
            Self::KeptTableFull => "kept_table_full",
            Self::RecordsRefused => "records_refused",
        }
    }

    /// Whether a process with this counter above zero has wrong totals.
    ///
    /// The others cost only stacks or time and leave the totals right.
    #[must_use]
    pub const fn makes_totals_wrong(self) -> bool {
        match self {
            Self::AllocationsLost
            | Self::FreesLost
            | Self::ThreadTableFull
            | Self::ResultsUnreadable
            | Self::CallsAbandoned
            | Self::LifecycleLost
            | Self::LossTableFull
            | Self::GoSweepsLost
            | Self::GoSweepsUnreadable
            | Self::GoBlocksUnreadable
            | Self::PolicyTableFull
            | Self::KeptTableFull => true,
            Self::FreesDeferred
            | Self::StacksDeferred
            | Self::StacksWithoutScratch
            | Self::StackCollisions
            | Self::StackTableFull
            | Self::EarlyStacksRefused
            | Self::GoCyclesLost
            | Self::GoMarksAbsent
            | Self::RecordsRefused => false,
        }
    }
}

/// Elements of the array of totals over all processes.
pub mod total {
    /// Losses that the table of losses had no room for.
    pub const LOSSES_UNTOLD: u32 = 0;
    /// Frees that were put aside: tells the agent cheaply whether there are any to fetch.
    pub const FREES_DEFERRED: u32 = 1;
    /// Hits that the table of hits had no room for.
    pub const HITS_UNTOLD: u32 = 2;
    /// How many elements there are.
    pub const COUNT: u32 = 3;
}

/// Key of the table of losses. Value: how often, as `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct LossKey {
    /// The process, or 0 where it is not known.
    pub tgid: u32,
    /// A `Counter`.
    pub counter: u32,
}

/// Key of the table of lost frees. Value: when it was freed, in boot-clock nanoseconds, as `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct LostFreeKey {
    /// The block's address.
    pub address: u64,
    /// The process.
    pub tgid: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

const _: () = assert!(size_of::<LossKey>() == 8);
const _: () = assert!(size_of::<LostFreeKey>() == 16);
