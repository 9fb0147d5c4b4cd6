//! Owns the way from sections to rows.
//! Must not know what rules mean.

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, FrameDescriptionEntry,
    LittleEndian, UnwindContext, UnwindOffset, UnwindSection, X86_64,
};
use leaktrace_common::unwind::{RULE_ID_BAD, RULE_ID_NONE, Rule};
use rustc_hash::FxHashMap;

use super::{PALETTE_MAX, ROWS_MAX, Stats, Table};
use crate::unwind::{
    rules::{self, Bytes, Storage},
    sections::{Code, FrameSections},
};

/// Functions of one file: 32 MiB while it is built. LLVM has 160 000.
const FUNCTIONS_MAX: usize = 2 << 20;

/// What all instructions of a file may cost: a byte is one, those of the CIE again for each
/// function. Four times as much as the largest known `.eh_frame`; one takes up to 15 nanoseconds.
const COST_MAX: usize = 128 << 20;

/// `DW_CFA_remember_state`; the next one is `DW_CFA_restore_state`.
const REMEMBER_STATE: u8 = 0x0a;

/// What these two cost more, because they copy a row.
const COPY_COST: usize = 32;

/// The longest CIE: real ones have up to 60 bytes.
const CIE_BYTES_MAX: u32 = 1024;

/// CIEs kept at a time. `.eh_frame` has a handful, `.debug_frame` one for each source file, in the
/// order of use.
const CIES_MAX: usize = 64;

/// As much as linkers put between functions to align them. It never runs, so the row before goes
/// on through it: a fifth of all rows would say nothing but that.
const PADDING_BYTES_MAX: u32 = 15;

type Cie<'d> = CommonInformationEntry<Bytes<'d>>;
type Fde<'d> = FrameDescriptionEntry<Bytes<'d>>;

/// A function that call frame information speaks of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    /// The file offset of its first byte.
    start: u32,
    /// Which section has it: of two that speak of one function, the first in this order counts.
    source: Source,
    /// Where in the section.
    entry: u32,
    /// Its length, within its stretch of code.
    size_bytes: u32,
}

/// The sections, the better first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Source {
    EhFrame,
    DebugFrame,
}

/// One section to read functions from.
struct Frames<'d, S> {
    section: S,
    bytes: &'d [u8],
    bases: BaseAddresses,
    cies: FxHashMap<usize, Cie<'d>>,
}

/// A limit is reached: the table ends at this file offset.
struct Limit(u32);

/// The table under construction.
struct Builder<'d> {
    code: &'d [Code],
    pcs: Vec<u32>,
    rules: Vec<u16>,
    palette: Vec<Rule>,
    ids: FxHashMap<Rule, u16>,
    /// What instructions may still cost.
    allowance: usize,
    stats: Stats,
}

/// Both sections of a file.
struct Both<'d> {
    eh_frames: Frames<'d, EhFrame<Bytes<'d>>>,
    debug_frames: Frames<'d, DebugFrame<Bytes<'d>>>,
}

impl<'d> Both<'d> {
    fn new(sections: &'d FrameSections) -> Self {
        let (eh_frame, debug_frame) = (&sections.eh_frame, &sections.debug_frame);
        let eh_frames = Frames {
            section: EhFrame::new(&eh_frame.bytes, LittleEndian),
            bytes: &eh_frame.bytes,
            bases: BaseAddresses::default().set_eh_frame(eh_frame.svma),
            cies: FxHashMap::default(),
        };
        let mut debug_frames = Frames {
            section: DebugFrame::new(&debug_frame.bytes, LittleEndian),
            bytes: &debug_frame.bytes,
            bases: BaseAddresses::default(),
            cies: FxHashMap::default(),
        };
        // Version 4 of DWARF says it, older ones leave it to the machine: ours, not the file's.
        debug_frames.section.set_address_size(8);
        Self {
            eh_frames,
            debug_frames,
        }
    }

    /// All functions, by where they begin, each once.
    fn functions(&mut self, builder: &mut Builder<'d>) -> Vec<Function> {
        let mut functions = Vec::new();
        builder.list(&mut self.eh_frames, Source::EhFrame, &mut functions);
        builder.list(&mut self.debug_frames, Source::DebugFrame, &mut functions);
        functions.sort_unstable();
        functions.dedup_by_key(|it| it.start);
        functions
    }
}

/// What `Table::functions` promises.
pub(super) fn functions(sections: &FrameSections) -> Vec<(u32, u32)> {
    let mut builder = Builder::new(&sections.code);
    let functions = Both::new(sections).functions(&mut builder);
    let ends = |it: &Function| (it.start, it.start.saturating_add(it.size_bytes));
    functions.iter().map(ends).collect()
}

/// What `Table::build` promises.
pub(super) fn build(sections: &FrameSections) -> (Table, Stats) {
    let mut builder = Builder::new(&sections.code);
    let mut both = Both::new(sections);
    let functions = both.functions(&mut builder);
    let Both {
        eh_frames,
        debug_frames,
    } = &mut both;
    let mut context = Box::new(UnwindContext::new_in());
    for (index, function) in functions.iter().enumerate() {
        let next = functions.get(index + 1).map(|it| it.start);
        let function = builder.cut(*function, next);
        let added = match function.source {
            Source::EhFrame => builder.add(eh_frames, function, &mut context),
            Source::DebugFrame => builder.add(debug_frames, function, &mut context),
        };
        if let Err(Limit(end)) = added {
            builder.stats.limited = true;
            builder.put(end, RULE_ID_NONE);
            break;
        }
        let end = function.start + function.size_bytes;
        if next.is_none_or(|next| next - end > PADDING_BYTES_MAX) {
            builder.put(end, RULE_ID_NONE);
        }
    }
    builder.finish()
}

impl<'d, S: UnwindSection<Bytes<'d>>> Frames<'d, S> {
    /// The FDE at an offset of the section.
    fn fde(&mut self, entry: usize) -> gimli::Result<Fde<'d>> {
        let cie = cached(self.bytes, &mut self.cies);
        self.section.fde_from_offset(&self.bases, entry.into(), cie)
    }

    /// What the instructions of an entry cost at most: any byte may be one.
    fn cost(&self, entry: usize, length: usize) -> usize {
        let bytes = self.bytes.get(entry..).unwrap_or_default();
        let bytes = &bytes[..length.min(bytes.len())];
        let copies = bytes
            .iter()
            .filter(|it| **it & !1 == REMEMBER_STATE)
            .count();
        bytes.len() + copies * COPY_COST
    }
}

/// Finds a function's CIE. Parsing it each time would take as long as the function itself; a long
/// one, which no compiler writes, could make that endless.
fn cached<'d, S: UnwindSection<Bytes<'d>>>(
    bytes: &[u8],
    cies: &mut FxHashMap<usize, Cie<'d>>,
) -> impl FnMut(&S, &BaseAddresses, S::Offset) -> gimli::Result<Cie<'d>> {
    move |section, bases, offset| {
        let key = UnwindOffset::into(offset);
        if let Some(cie) = cies.get(&key) {
            return Ok(cie.clone());
        }
        let length = bytes.get(key..).and_then(|it| it.first_chunk::<4>());
        if length.is_none_or(|it| u32::from_le_bytes(*it) > CIE_BYTES_MAX) {
            return Err(gimli::Error::UnsupportedOffset);
        }
        let cie = section.cie_from_offset(bases, offset)?;
        if cies.len() >= CIES_MAX {
            cies.clear();
        }
        cies.insert(key, cie.clone());
        Ok(cie)
    }
}

impl<'d> Builder<'d> {
    fn new(code: &'d [Code]) -> Self {
        Self {
            code,
            pcs: Vec::new(),
            rules: Vec::new(),
            palette: vec![Rule::NONE, Rule::BAD],
            ids: [(Rule::NONE, RULE_ID_NONE), (Rule::BAD, RULE_ID_BAD)]
                .into_iter()
                .collect(),
            allowance: COST_MAX,
            stats: Stats::default(),
        }
    }

    /// Lists the functions that a section speaks of, up to the first entry whose length is wrong.
    fn list<S: UnwindSection<Bytes<'d>>>(
        &mut self,
        frames: &mut Frames<'d, S>,
        source: Source,
        functions: &mut Vec<Function>,
    ) {
        let mut entries = frames.section.entries(&frames.bases);
        loop {
            let entry = match entries.next() {
                Ok(Some(CieOrFde::Fde(entry))) => entry,
                Ok(Some(CieOrFde::Cie(_))) => continue,
                Ok(None) => return,
                Err(_) => {
                    self.stats.malformed += 1;
                    return;
                }
            };
            if functions.len() >= FUNCTIONS_MAX {
                self.stats.limited = true;
                return;
            }
            let Ok(fde) = entry.parse(cached(frames.bytes, &mut frames.cies)) else {
                self.stats.malformed += 1;
                continue;
            };
            // What the linker dropped is left at address 0 or has no length.
            if fde.initial_address() == 0 || fde.len() == 0 {
                continue;
            }
            match (self.place(&fde), u32::try_from(entry.offset())) {
                (Some((start, size_bytes)), Ok(entry)) => functions.push(Function {
                    start,
                    source,
                    entry,
                    size_bytes,
                }),
                _ => self.stats.outside += 1,
            }
        }
    }

    /// Where in the file a function lies, and how much of it.
    fn place(&self, fde: &Fde<'_>) -> Option<(u32, u32)> {
        self.code.iter().find_map(|code| {
            let distance = u32::try_from(fde.initial_address().checked_sub(code.svma)?).ok()?;
            let room = code.size_bytes.checked_sub(distance).filter(|it| *it > 0)?;
            let size = u32::try_from(fde.len()).unwrap_or(u32::MAX).min(room);
            Some((code.file_offset.checked_add(distance)?, size))
        })
    }

    /// Cuts a function where the next one begins, like the binary search of those who throw.
    fn cut(&mut self, function: Function, next: Option<u32>) -> Function {
        let room = next.map_or(u32::MAX, |next| next - function.start);
        self.stats.overlaps += u64::from(room < function.size_bytes);
        Function {
            size_bytes: function.size_bytes.min(room),
            ..function
        }
    }

    /// Adds the rows of one function. What of it cannot be read is bad, not without rows: its code
    /// does not keep a frame pointer more likely than other code.
    fn add<S: UnwindSection<Bytes<'d>>>(
        &mut self,
        frames: &mut Frames<'d, S>,
        function: Function,
        context: &mut UnwindContext<usize, Storage>,
    ) -> Result<(), Limit> {
        self.stats.functions += 1;
        let Ok(fde) = frames.fde(function.entry as usize) else {
            return self.add_broken(function, 0);
        };
        let cost = frames.cost(fde.offset(), fde.entry_len())
            + frames.cost(fde.cie().offset(), fde.cie().entry_len());
        self.allowance = self
            .allowance
            .checked_sub(cost)
            .ok_or(Limit(function.start))?;
        if fde.cie().return_address_register() != X86_64::RA {
            return self.add_broken(function, 0);
        }
        let Ok(mut rows) = fde.rows(&frames.section, &frames.bases, context) else {
            return self.add_broken(function, 0);
        };
        let mut covered = 0;
        loop {
            let row = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                Err(_) => return self.add_broken(function, covered),
            };
            let distance = row.start_address().saturating_sub(fde.initial_address());
            let Some(distance) = u32::try_from(distance)
                .ok()
                .filter(|it| *it < function.size_bytes)
            else {
                return Ok(());
            };
            covered = row.end_address().saturating_sub(fde.initial_address());
            if covered > u64::from(distance) {
                let rule = rules::rule(&frames.section, row);
                self.stats.stated_rows += 1;
                self.stats.bad_rows += u64::from(rule == Rule::BAD);
                let id = self.id(rule);
                self.push(function.start + distance, id)?;
            }
        }
    }

    /// Marks a function as bad from so many bytes on.
    fn add_broken(&mut self, function: Function, from: u64) -> Result<(), Limit> {
        self.stats.malformed += 1;
        match u32::try_from(from) {
            Ok(from) if from < function.size_bytes => {
                self.stats.bad_rows += 1;
                self.push(function.start + from, RULE_ID_BAD)
            }
            _ => Ok(()),
        }
    }

    /// Adds a row behind all others, unless it says what the one before says.
    fn push(&mut self, pc: u32, rule: u16) -> Result<(), Limit> {
        // There is always room to end a function. Rows that say nothing new take time, too.
        if self.pcs.len() + 2 >= ROWS_MAX || self.stats.stated_rows > ROWS_MAX as u64 {
            return Err(Limit(pc));
        }
        self.put(pc, rule);
        Ok(())
    }

    /// Adds a row where there must be room.
    fn put(&mut self, pc: u32, rule: u16) {
        // A later row of the same place replaces one that covers nothing.
        if self.pcs.last().is_some_and(|last| *last >= pc) {
            self.pcs.pop();
            self.rules.pop();
        }
        if self.rules.last().copied().unwrap_or(RULE_ID_NONE) != rule {
            self.pcs.push(pc);
            self.rules.push(rule);
        }
    }

    /// The number of a rule within this table.
    fn id(&mut self, rule: Rule) -> u16 {
        if let Some(id) = self.ids.get(&rule) {
            return *id;
        }
        let Some(id) = u16::try_from(self.palette.len())
            .ok()
            .filter(|id| usize::from(*id) < PALETTE_MAX)
        else {
            self.stats.limited = true;
            return RULE_ID_BAD;
        };
        self.palette.push(rule);
        self.ids.insert(rule, id);
        id
    }

    fn finish(mut self) -> (Table, Stats) {
        self.pcs.shrink_to_fit();
        self.rules.shrink_to_fit();
        let table = Table {
            pcs: self.pcs,
            rules: self.rules,
            palette: self.palette,
        };
        (table, self.stats)
    }
}
