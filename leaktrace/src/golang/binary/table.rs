//! Owns the function table of a Go program (`runtime.pclntab`): from addresses to functions, files,
//! lines and inlined calls.
//! Must not know ELF; the caller says where the code starts.
//!
//! gobin decodes the records; what is here finds them by address, and bounds each step: a damaged
//! table gives names that are wrong or none, and never takes longer than its size allows.

mod inlined;
mod owned;
mod varint;

use std::borrow::Cow;

use gobin::structures::{
    PclntabVersion,
    moduledata::Moduledata,
    pclntab::{FuncData, ParsedPclntab, PclntabMeta},
};

use self::varint::varint;
use super::GoError;

/// The header of Go 1.18 and 1.19, and of 1.20 and later, for x86-64 (instructions of any length, 8 bytes
/// a pointer). <https://github.com/golang/go/blob/go1.27.0/src/internal/abi/symtab.go>
const MAGICS: [([u8; 8], PclntabVersion); 2] = [
    ([0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8], PclntabVersion::Go120),
    ([0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8], PclntabVersion::Go118),
];

/// The header: the magic and eight words.
const HEADER_BYTES: usize = 72;

/// Kubernetes' largest programs have about 150 000 functions.
const FUNCTIONS_MAX: usize = 4_000_000;

/// Longer names are cut: those of generic functions list their types, and stay below this.
const NAME_BYTES_MAX: usize = 4096;

/// As many steps as one function's table of lines may take: a step is an instruction at least.
const STEPS_MAX: usize = 1 << 20;

/// As deep as calls are inlined into each other; the compiler's own budget ends far earlier.
const INLINED_MAX: usize = 64;

/// `FUNCDATA_InlTree`, `PCDATA_InlTreeIndex` and the bytes of an `inlinedCall`.
/// <https://github.com/golang/go/blob/go1.27.0/src/internal/abi/symtab.go>
const FUNCDATA_INLINE_TREE: u8 = 3;
const PCDATA_INLINE_INDEX: u32 = 2;
const INLINED_CALL_BYTES: usize = 16;

/// A function and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'t> {
    /// With its package: `runtime.mallocgc`, `main.(*cache).grow`.
    pub name: &'t str,
    /// The address of its first instruction, as the file states it.
    pub entry_svma: u64,
    /// The address after its last one, padding included.
    pub end_svma: u64,
}

/// One line of a Go stack trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoFrame<'t> {
    /// With its package.
    pub function: &'t str,
    /// The source file as the compiler saw it.
    pub file: Option<&'t str>,
    /// The line in it.
    pub line: Option<u32>,
    /// Whether it has no frame of its own, having been inlined into the next.
    pub is_inlined: bool,
}

/// The function table of a program.
#[derive(Clone, Debug)]
pub struct PcTable<'d> {
    table: Cow<'d, [u8]>,
    /// From `go:func.*` on, which inline trees are counted from.
    trees: Cow<'d, [u8]>,
    meta: PclntabMeta,
    text_start_svma: u64,
}

/// Where a table's header stands in a file; every word is compared. Linkers align it, not always in its own section.
pub(super) fn find_header(bytes: &[u8]) -> Option<usize> {
    /// Alignment of `runtime.pclntab`.
    const STEP: usize = 8;
    let [newer, older] = MAGICS.map(|(magic, _)| u64::from_ne_bytes(magic));
    let words = bytes.as_chunks::<STEP>().0.iter().enumerate();
    let words = words.map(|(index, word)| (index * STEP, u64::from_ne_bytes(*word)));
    let mut hits = words.filter(|(_, word)| *word == newer || *word == older);
    hits.find_map(|(at, _)| header(&bytes[at..]).map(|_| at))
}

/// How many bytes the table has, where moduledata tells; a copy of more would be wasted.
pub(super) fn extent(moduledata: Option<&Moduledata>, pclntab_svma: u64) -> Option<usize> {
    let table = &moduledata?.pclntable;
    let end = table.ptr.checked_add(table.len)?;
    usize::try_from(end.checked_sub(pclntab_svma)?).ok()
}

/// Reads the header; `None` where it does not describe tables within these bytes.
fn header(bytes: &[u8]) -> Option<PclntabMeta> {
    let magic = bytes.get(..8)?;
    let (_, version) = *MAGICS.iter().find(|(it, _)| it == magic)?;
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let word = |index: usize| -> u64 {
        let at = 8 + index * 8;
        let bytes = bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    let size = |index| usize::try_from(word(index)).ok();
    let meta = PclntabMeta {
        offset: 0,
        version,
        min_lc: 1,
        ptr_size: 8,
        nfunc: size(0)?,
        nfiles: size(1)?,
        // Since Go 1.26 the word is there and holds nothing.
        header_text_start: Some(word(2)).filter(|start| *start != 0),
        funcname_offset: size(3)?,
        cu_offset: size(4)?,
        filetab_offset: size(5)?,
        pctab_offset: size(6)?,
        functab_offset: size(7)?,
        text_start: 0,
    };
    let offsets = [
        HEADER_BYTES,
        meta.funcname_offset,
        meta.cu_offset,
        meta.filetab_offset,
        meta.pctab_offset,
        meta.functab_offset,
    ];
    let functab_end = meta
        .functab_offset
        .checked_add(meta.nfunc.checked_mul(8)? + 4)?;
    let is_sound = (1..=FUNCTIONS_MAX).contains(&meta.nfunc)
        && offsets.is_sorted()
        && functab_end <= bytes.len();
    is_sound.then_some(meta)
}

impl<'d> PcTable<'d> {
    /// Reads the table that these bytes begin with.
    pub(super) fn new(bytes: &'d [u8], extent: Option<usize>) -> Result<Self, GoError> {
        let bytes = &bytes[..extent.map_or(bytes.len(), |it| it.min(bytes.len()))];
        let meta = header(bytes).ok_or(GoError::Malformed("its function table is cut short"))?;
        Ok(Self {
            table: Cow::Borrowed(bytes),
            trees: Cow::Borrowed(&[]),
            meta,
            text_start_svma: 0,
        })
    }

    /// Says where `runtime.text` is.
    pub(super) fn place(&mut self, text_start_svma: u64) {
        self.text_start_svma = text_start_svma;
    }

    /// Says where inline trees are counted from.
    pub(super) fn attach_inline_trees(&mut self, trees: &'d [u8]) {
        self.trees = Cow::Borrowed(trees);
    }

    /// `runtime.text` as the header states it, up to Go 1.25.
    pub(super) fn stated_text(&self) -> Option<u64> {
        self.meta.header_text_start
    }

    /// The first and the last function, from the start of the code.
    pub(super) fn entry_range(&self) -> Option<(u32, u32)> {
        Some((self.entry(0)?, self.entry(self.meta.nfunc - 1)?))
    }

    /// The end of Go's code.
    pub(super) fn text_end(&self) -> u64 {
        self.svma(self.entry(self.meta.nfunc).unwrap_or(0))
    }

    /// Every function, in the order of their addresses.
    pub fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        (0..self.meta.nfunc).filter_map(|index| self.function(index))
    }

    /// The function that an address belongs to.
    #[must_use]
    pub fn function_at(&self, svma: u64) -> Option<Function<'_>> {
        self.function(self.index_of(svma)?)
    }

    /// The frames of an address, innermost first; empty where no Go function is there.
    ///
    /// For a return address the caller gives the address of the call, one byte before.
    #[must_use]
    pub fn frames(&self, svma: u64) -> Vec<GoFrame<'_>> {
        let record = self.index_of(svma).and_then(|index| self.record(index));
        let Some(record) = record else {
            return Vec::new();
        };
        let entry = self.svma(record.entry_off);
        let Some(mut offset) = svma
            .checked_sub(entry)
            .and_then(|it| u32::try_from(it).ok())
        else {
            return Vec::new();
        };
        let mut frames = Vec::new();
        let indices = self.view().pcdata_at(&record, PCDATA_INLINE_INDEX);
        let trees = self.view().funcdata_at(&record, FUNCDATA_INLINE_TREE);
        let mut index = indices.filter(|it| *it != 0);
        while let (Some(table), Some(trees), true) = (index, trees, frames.len() < INLINED_MAX) {
            let call = self.step(table, offset).and_then(|at| self.call(trees, at));
            let Some((name, parent)) = call else {
                index = None;
                continue;
            };
            frames.push(self.frame(name, &record, offset, true));
            offset = parent;
        }
        let name = self.text(self.meta.funcname_offset, record.name_off);
        frames.push(self.frame(name, &record, offset, false));
        frames
    }

    /// The bytes that lie between the stack pointer and the return address at an instruction.
    #[must_use]
    pub fn frame_bytes(&self, svma: u64) -> Option<u64> {
        let record = self.record(self.index_of(svma)?)?;
        let offset = svma.checked_sub(self.svma(record.entry_off))?;
        let bytes = self.step(record.pcsp, u32::try_from(offset).ok()?)?;
        u64::try_from(bytes).ok()
    }

    /// The frame of a function with the line that an instruction comes from.
    fn frame<'t>(
        &'t self,
        function: &'t str,
        record: &FuncData,
        offset: u32,
        is_inlined: bool,
    ) -> GoFrame<'t> {
        let file = self.step(record.pcfile, offset).and_then(|index| {
            let slot = (record.cu_offset as usize).checked_add(usize::try_from(index).ok()?)?;
            let at = self.meta.cu_offset.checked_add(slot.checked_mul(4)?)?;
            let at = self.word(at).filter(|at| *at != u32::MAX)?;
            let file = self.text(self.meta.filetab_offset, i32::try_from(at).ok()?);
            (!file.is_empty()).then_some(file)
        });
        let line = self.step(record.pcln, offset);
        GoFrame {
            function,
            file,
            line: line
                .and_then(|it| u32::try_from(it).ok())
                .filter(|it| *it > 0),
            is_inlined,
        }
    }

    /// An entry of an inline tree: the inlined function, and where in the function it was called.
    fn call(&self, trees: u32, index: i32) -> Option<(&str, u32)> {
        let at = usize::try_from(index)
            .ok()?
            .checked_mul(INLINED_CALL_BYTES)?;
        let at = (trees as usize).checked_add(at)?;
        let call = self.trees.get(at..at.checked_add(INLINED_CALL_BYTES)?)?;
        let field =
            |at: usize| i32::from_le_bytes(call[at..at + 4].try_into().expect("four bytes"));
        let name = self.text(self.meta.funcname_offset, field(4));
        Some((name, u32::try_from(field(8)).ok()?))
    }

    /// The value that a table of steps has at an instruction; `None` behind its end, where no
    /// instruction comes from any line.
    ///
    /// gobin's own decoder reads on into the next table there.
    /// <https://github.com/golang/go/blob/go1.27.0/src/runtime/symtab.go>, `step`
    fn step(&self, table: u32, offset: u32) -> Option<i32> {
        let mut steps = self.steps(table);
        steps.find(|(_, end)| offset < *end).map(|(value, _)| value)
    }

    /// The values of a table of steps, each with the offset at which it ends.
    fn steps(&self, table: u32) -> impl Iterator<Item = (i32, u32)> {
        let at = self.meta.pctab_offset.checked_add(table as usize);
        let rest = at
            .filter(|_| table != 0)
            .and_then(|at| self.table.get(at..));
        let mut bytes = rest.unwrap_or_default().iter();
        let (mut value, mut end) = (-1_i32, 0_u32);
        (0..STEPS_MAX).map_while(move |index| {
            let change = varint(&mut bytes)?;
            if change == 0 && index > 0 {
                return None;
            }
            let sign = -((change & 1) as i32);
            value = value.wrapping_add((change >> 1) as i32 ^ sign);
            end = end.checked_add(varint(&mut bytes)?)?;
            Some((value, end))
        })
    }

    fn function(&self, index: usize) -> Option<Function<'_>> {
        let record = self.record(index)?;
        let entry = self.entry(index)?;
        let end = self.entry(index + 1)?;
        Some(Function {
            name: self.text(self.meta.funcname_offset, record.name_off),
            entry_svma: self.svma(entry),
            end_svma: self.svma(end.max(entry)),
        })
    }

    fn index_of(&self, svma: u64) -> Option<usize> {
        let offset = u32::try_from(svma.checked_sub(self.text_start_svma)?).ok()?;
        let (mut low, mut high) = (0, self.meta.nfunc);
        while low < high {
            let middle = low.midpoint(high);
            match self.entry(middle)? <= offset {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let index = low.checked_sub(1)?;
        (offset < self.entry(index + 1)?).then_some(index)
    }

    fn record(&self, index: usize) -> Option<FuncData> {
        let at = self.word(self.meta.functab_offset + index * 8 + 4)?;
        self.view().parse_func(at)
    }

    /// Where a function starts; after the last one, where the code ends.
    fn entry(&self, index: usize) -> Option<u32> {
        self.word(self.meta.functab_offset + index * 8)
    }

    fn svma(&self, offset: u32) -> u64 {
        self.text_start_svma.wrapping_add(u64::from(offset))
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.table.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    /// A string of a table, cut where it is too long or no text.
    fn text(&self, table: usize, offset: i32) -> &str {
        let at = usize::try_from(offset)
            .ok()
            .and_then(|it| table.checked_add(it));
        let rest = at.and_then(|at| self.table.get(at..)).unwrap_or_default();
        let window = &rest[..rest.len().min(NAME_BYTES_MAX)];
        let bytes = window.split(|byte| *byte == 0).next().unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    fn view(&self) -> ParsedPclntab<'_> {
        self.meta
            .attach(&self.table)
            .expect("an offset of zero is within any bytes")
    }
}
