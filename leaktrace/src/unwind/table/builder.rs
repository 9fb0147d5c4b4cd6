//! Owns the way from sections to rows.
//! Must not know what rules mean.

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, FrameDescriptionEntry,
    LittleEndian, UnwindContext, UnwindOffset as _, UnwindSection, X86_64,
};
use leaktrace_common::unwind::{RULE_ID_BAD, RULE_ID_NONE, Rule};
use rustc_hash::FxHashMap;

use super::{PALETTE_MAX, ROWS_MAX, Stats, Table};
use crate::unwind::{
    rules::{self, Bytes, Storage},
    sections::{Code, FrameSections},
};

/// Functions of one file: 64 MiB while it is built. LLVM has a tenth of a million.
const FUNCTIONS_MAX: usize = 4 << 20;

/// Bytes of instructions that are run, those of the CIE again for each function. Four times what
/// the largest known `.eh_frame` holds; a byte takes up to some ten nanoseconds.
const INSTRUCTION_BYTES_MAX: usize = 128 << 20;

/// The longest CIE: real ones have up to 60 bytes.
const CIE_BYTES_MAX: usize = 1024;

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
    bases: BaseAddresses,
    cies: FxHashMap<usize, Cie<'d>>,
}

/// The table under construction.
struct Builder<'d> {
    code: &'d [Code],
    table: Table,
    palette: FxHashMap<Rule, u16>,
    /// Instruction bytes that may still be run.
    allowance: usize,
    stats: Stats,
}

pub(super) fn build(sections: &FrameSections) -> (Table, Stats) {
    let eh_bases = BaseAddresses::default().set_eh_frame(sections.eh_frame.svma);
    let mut eh_frames = Frames {
        section: EhFrame::new(&sections.eh_frame.bytes, LittleEndian),
        bases: eh_bases,
        cies: FxHashMap::default(),
    };
    let mut debug_frames = Frames {
        section: DebugFrame::new(&sections.debug_frame.bytes, LittleEndian),
        bases: BaseAddresses::default(),
        cies: FxHashMap::default(),
    };
    debug_frames.section.set_address_size(8);
    let mut builder = Builder::new(&sections.code);
    let mut functions = Vec::new();
    builder.list(&mut eh_frames, Source::EhFrame, &mut functions);
    builder.list(&mut debug_frames, Source::DebugFrame, &mut functions);
    functions.sort_unstable();
    functions.dedup_by_key(|it| it.start);

    let mut context = UnwindContext::new_in();
    let mut functions = functions.into_iter().peekable();
    while let Some(mut function) = functions.next() {
        let next = functions.peek().map(|it| it.start);
        let gap = next.map(|next| next - function.start);
        if gap.is_some_and(|gap| gap < function.size_bytes) {
            builder.stats.overlaps += 1;
            function.size_bytes = gap.unwrap_or_default();
        }
        let done = match function.source {
            Source::EhFrame => builder.add(&mut eh_frames, function, &mut context),
            Source::DebugFrame => builder.add(&mut debug_frames, function, &mut context),
        };
        let end = function.start + function.size_bytes;
        if next.is_none_or(|next| next - end > PADDING_BYTES_MAX) || done.is_none() {
            builder.push(end, RULE_ID_NONE);
        }
        if done.is_none() {
            builder.stats.limited = true;
            break;
        }
    }
    builder.finish()
}

impl<'d, S: UnwindSection<Bytes<'d>>> Frames<'d, S> {
    /// The FDE at an offset. The CIE is looked up by ourselves, since parsing it for each function
    /// takes as long as the function.
    fn fde(&mut self, entry: usize) -> gimli::Result<Fde<'d>>
    where
        S::Offset: From<usize>,
    {
        let cies = &mut self.cies;
        self.section
            .fde_from_offset(&self.bases, entry.into(), |section, bases, offset| {
                let key = offset.into();
                if let Some(cie) = cies.get(&key) {
                    return Ok(cie.clone());
                }
                let cie = section.cie_from_offset(bases, offset)?;
                if cies.len() >= CIES_MAX {
                    cies.clear();
                }
                cies.insert(key, cie.clone());
                Ok(cie)
            })
    }
}

impl<'d> Builder<'d> {
    fn new(code: &'d [Code]) -> Self {
        let table = Table::default();
        let palette = [(Rule::NONE, RULE_ID_NONE), (Rule::BAD, RULE_ID_BAD)];
        Self {
            code,
            table,
            palette: palette.into_iter().collect(),
            allowance: INSTRUCTION_BYTES_MAX,
            stats: Stats::default(),
        }
    }

    /// Lists the functions that a section speaks of, up to the first entry whose length is wrong.
    fn list<S: UnwindSection<Bytes<'d>>>(
        &mut self,
        frames: &mut Frames<'d, S>,
        source: Source,
        functions: &mut Vec<Function>,
    ) where
        S::Offset: From<usize>,
    {
        let (section, bases) = (frames.section.clone(), frames.bases.clone());
        let mut entries = section.entries(&bases);
        loop {
            let entry = match entries.next() {
                Ok(Some(CieOrFde::Fde(entry))) => entry.offset(),
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
            let Ok(fde) = frames.fde(entry) else {
                self.stats.malformed += 1;
                continue;
            };
            // What the linker dropped is left at address 0 or has no length.
            if fde.initial_address() == 0 || fde.len() == 0 {
                continue;
            }
            match (self.place(&fde), u32::try_from(entry)) {
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
            Some((code.file_offset + distance, size))
        })
    }

    /// Adds the rows of one function; `None` where a limit forbids to go on.
    fn add<S: UnwindSection<Bytes<'d>>>(
        &mut self,
        frames: &mut Frames<'d, S>,
        function: Function,
        context: &mut UnwindContext<usize, Storage>,
    ) -> Option<()>
    where
        S::Offset: From<usize>,
    {
        let size = u64::from(function.size_bytes);
        let complete = frames.fde(function.entry as usize).ok().and_then(|fde| {
            let cie = fde.cie();
            if cie.entry_len() > CIE_BYTES_MAX || cie.return_address_register() != X86_64::RA {
                return None;
            }
            self.spend(fde.entry_len() + cie.entry_len())
                .map(|()| self.add_rows(frames, &fde, function, size, context))
        });
        let _ = complete;
        Some(())
    }
}
