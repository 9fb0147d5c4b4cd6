//! Owns which code the probes can unwind: whose tables are made, where their rows are, and what each
//! process maps of them.
//! Must not know stacks or blocks.
//!
//! Tables are made on a thread of their own. Until a file's is there, its frames are stepped over by
//! frame pointer. Rows are written where nobody reads; a process's code is written to a space that nobody
//! refers to, and then referred to.

mod builder;
mod eviction;
mod lookup;
mod shards;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use leaktrace_common::code::{CodePiece, CodeRef, CodeSpace};
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::lookup::Known;
use self::{
    builder::Builder,
    shards::{Segment, Shards},
};
use crate::{
    host::maps::Mapping,
    mappings::AddressSpace,
    modules::{Module, ModuleId, Modules},
    probes::{Probes, rows::RowMemory},
    unwind::{Dictionary, Origin},
};

/// A space that was referred to is given to another process no sooner than this: a program in the
/// kernel that still reads it has ended long before.
const REUSE_PAUSE: Duration = Duration::from_millis(100);

/// What is known of a file's table.
#[derive(Debug)]
enum State {
    /// It is being made; these processes wait for it.
    Making(FxHashSet<u32>),
    /// Its rows are in place; none, where it has no table.
    Ready {
        segments: Vec<Segment>,
        /// How many spaces have pieces of it.
        spaces: u32,
        /// Since when none has.
        unused_since: Option<Instant>,
    },
}

impl State {
    fn ready(segments: Vec<Segment>) -> Self {
        Self::Ready {
            segments,
            spaces: 0,
            unused_since: Some(Instant::now()),
        }
    }
}

/// Which code the probes can unwind.
pub struct Unwinding {
    builder: Builder,
    dictionary: Dictionary,
    rules_written: usize,
    files: FxHashMap<ModuleId, State>,
    making_count: usize,
    shards: Shards,
    rows: Option<RowMemory>,
    spaces: FxHashMap<u32, u32>,
    never_used: u32,
    /// Spaces that nobody is referred to any more, since when.
    resting: VecDeque<(Instant, u32)>,
    /// Spaces that were cleared since.
    cleared: Vec<u32>,
    /// The files of each space, as long as a probe may read it.
    files_of: FxHashMap<u32, Vec<ModuleId>>,
    evicted: Instant,
    generation: u32,
    /// Whether nothing is told to the probes, which then walk by frame pointers.
    pub is_off: bool,
    /// Processes that found no space, and pieces of code beyond what one process can have.
    pub spaces_refused: u64,
    /// Pieces of code beyond what is told apart of one process.
    pub pieces_refused: u64,
}

impl Unwinding {
    /// Starts the thread that makes tables.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            builder: Builder::spawn()?,
            dictionary: Dictionary::default(),
            rules_written: 0,
            files: FxHashMap::default(),
            making_count: 0,
            shards: Shards::default(),
            rows: None,
            spaces: FxHashMap::default(),
            never_used: 0,
            resting: VecDeque::new(),
            cleared: Vec::new(),
            files_of: FxHashMap::default(),
            evicted: Instant::now(),
            generation: 0,
            is_off: false,
            spaces_refused: 0,
            pieces_refused: 0,
        })
    }

    /// Tells the probes what a process maps now, and has tables made for files seen first here.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn publish(
        &mut self,
        probes: &mut Probes,
        modules: &mut Modules,
        tgid: u32,
        mappings: &AddressSpace,
    ) -> anyhow::Result<()> {
        if self.is_off {
            return Ok(());
        }
        let mut space = Box::new(CodeSpace::EMPTY);
        let mut files = Vec::new();
        let has_code = |it: &&Mapping| it.is_file() || it.is_vdso();
        for mapping in mappings.iter().filter(has_code) {
            let module = modules.resolve(tgid, mapping);
            let segments = match self.state(modules.get(module), tgid) {
                State::Ready { segments, .. } => segments,
                State::Making(_) => {
                    self.push(&mut space, pending(mapping));
                    continue;
                }
            };
            files.push(module);
            // Rows are sorted by file offset, so that one table serves wherever it is mapped.
            let bias = mapping.start.wrapping_sub(mapping.file_offset);
            let mut pieces = Vec::with_capacity(segments.len());
            for segment in segments {
                let begin = mapping.start.max(bias.wrapping_add(segment.first_offset));
                let end = mapping.end.min(bias.saturating_add(segment.end_offset));
                if begin >= end {
                    continue;
                }
                pieces.push(CodePiece {
                    begin,
                    end,
                    bias,
                    shard: segment.shard,
                    first_row: segment.first_row,
                    row_count: segment.row_count,
                    is_pending: 0,
                });
            }
            for piece in pieces {
                self.push(&mut space, piece);
            }
        }
        self.refer(probes, tgid, space, files)
    }

    /// Adds a piece, where there is room for one more.
    fn push(&mut self, space: &mut CodeSpace, piece: CodePiece) {
        match space.pieces.get_mut(space.piece_count as usize) {
            Some(place) => {
                *place = piece;
                space.piece_count += 1;
            }
            None => self.pieces_refused += 1,
        }
    }

    /// Has tables made of files before anyone is known to map them.
    pub fn prepare(&mut self, module: &Module) {
        // Nobody has the pid 0, so nobody is told.
        self.state(module, 0);
    }

    /// Takes in the tables that are made by now; the processes that waited for them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn take_tables(&mut self, probes: &mut Probes) -> anyhow::Result<FxHashSet<u32>> {
        let mut waited = FxHashSet::default();
        while let Some(made) = self.builder.take() {
            waited.extend(self.add(made));
        }
        self.write(probes)?;
        self.evict(probes)?;
        Ok(waited)
    }

    /// Waits until no table is being made, but no longer than `patience`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn settle(
        &mut self,
        probes: &mut Probes,
        patience: Duration,
    ) -> anyhow::Result<FxHashSet<u32>> {
        self.wait_while(probes, patience, |it| it.making_count > 0)
    }

    /// Waits until no table is being made of what a process maps, as it was last published, but no
    /// longer than `patience`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub fn settle_process(
        &mut self,
        probes: &mut Probes,
        tgid: u32,
        patience: Duration,
    ) -> anyhow::Result<FxHashSet<u32>> {
        self.wait_while(probes, patience, |it| {
            let mut files = it.files.values();
            files.any(|state| matches!(state, State::Making(waiting) if waiting.contains(&tgid)))
        })
    }

    fn wait_while(
        &mut self,
        probes: &mut Probes,
        patience: Duration,
        must_wait: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<FxHashSet<u32>> {
        let deadline = Instant::now() + patience;
        let mut waited = FxHashSet::default();
        while must_wait(self) {
            let Some(made) = self.builder.wait(deadline) else {
                break;
            };
            waited.extend(self.add(made));
        }
        self.write(probes)?;
        Ok(waited)
    }

    /// Forgets a process that has ended; the probes have done so already.
    pub fn forget(&mut self, tgid: u32) {
        if let Some(space) = self.spaces.remove(&tgid) {
            self.resting.push_back((Instant::now(), space));
        }
    }

    /// Rows that found no room.
    #[must_use]
    pub fn rows_refused(&self) -> u64 {
        self.shards.rows_refused
    }

    fn state(&mut self, module: &Module, tgid: u32) -> &State {
        let state = self
            .files
            .entry(module.id)
            .or_insert_with(|| match &module.file {
                Some(file) => {
                    self.making_count += 1;
                    self.builder.make(module.id, module.trusted, file.clone());
                    State::Making(FxHashSet::default())
                }
                None => State::ready(Vec::new()),
            });
        if let State::Making(waiting) = state {
            waiting.insert(tgid);
        }
        state
    }

    fn add(&mut self, made: builder::Made) -> FxHashSet<u32> {
        let origin = if made.is_trusted {
            Origin::Trusted
        } else {
            Origin::Untrusted
        };
        let segments = match made.table {
            Some(table) => self.shards.add(&self.dictionary.number(table, origin)),
            None => Vec::new(),
        };
        self.making_count = self.making_count.saturating_sub(1);
        match self.files.insert(made.module, State::ready(segments)) {
            Some(State::Making(waiting)) => waiting,
            _ => FxHashSet::default(),
        }
    }

    /// Writes new rules and rows; whoever refers to them is told only after.
    fn write(&mut self, probes: &mut Probes) -> anyhow::Result<()> {
        let rules = self.dictionary.rules();
        for (id, rule) in rules.iter().enumerate().skip(self.rules_written) {
            probes.write_rule(u32::try_from(id)?, *rule)?;
        }
        self.rules_written = rules.len();
        if self.shards.is_all_written() {
            return Ok(());
        }
        let rows = match &mut self.rows {
            Some(rows) => rows,
            none => none.insert(probes.map_rows()?),
        };
        self.shards.write(rows);
        Ok(())
    }

    fn refer(
        &mut self,
        probes: &mut Probes,
        tgid: u32,
        mut space: Box<CodeSpace>,
        files: Vec<ModuleId>,
    ) -> anyhow::Result<()> {
        let Some(number) = self.fresh_space(probes)? else {
            self.spaces_refused += 1;
            return Ok(());
        };
        // After four thousand million changes a number comes again; 0 never does.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        space.generation = self.generation;
        self.uses(&files);
        self.files_of.insert(number, files);
        probes.write_code(number, &space)?;
        probes.refer_code(
            tgid,
            CodeRef {
                space: number,
                generation: self.generation,
            },
        )?;
        if let Some(former) = self.spaces.insert(tgid, number) {
            self.resting.push_back((Instant::now(), former));
        }
        Ok(())
    }
}

/// Code whose table is still being made: without rows, and told apart from code that has none.
fn pending(mapping: &Mapping) -> CodePiece {
    CodePiece {
        begin: mapping.start,
        end: mapping.end,
        is_pending: 1,
        ..CodePiece::default()
    }
}
