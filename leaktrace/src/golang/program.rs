//! Owns what is kept of a Go program's file, and how a running process of it is reached.
//! Must not know probes, reports or which processes are of interest.

use std::{fmt, io, ops::Range, sync::Arc};

use super::{
    binary::{GoBinary, GoError, LinkFlags, PcTable, Version},
    globals::Globals,
    goroutines::Goroutine,
    layout::{Layout, LayoutError},
    memory::ProcessMemory,
};
use crate::host::maps::Mapping;

/// What one program's file tells, without the file.
#[derive(Debug)]
pub struct GoProgram {
    /// What made it.
    pub version: Version,
    /// How it was linked.
    pub flags: LinkFlags,
    /// Functions and lines.
    pub table: PcTable<'static>,
    /// Where the runtime's variables are.
    pub globals: Globals,
    /// Where the fields of its structures are, or why that is not known.
    pub layout: Result<Layout, LayoutError>,
    /// Whether its collector is Green Tea.
    pub has_green_tea: bool,
    /// Where its variables are.
    pub variables: Vec<Range<u64>>,
    text_start_svma: u64,
    text_file_offset: u64,
}

impl GoProgram {
    /// Reads it. The bytes must be aligned to 8, as a buffer is.
    ///
    /// # Errors
    ///
    /// When it is no Go program, or damaged.
    pub fn read(bytes: &[u8]) -> Result<Self, GoError> {
        let binary = GoBinary::parse(bytes)?;
        let text_start_svma = binary.facts().text_start_svma;
        let text_file_offset = binary
            .elf()
            .svma_to_file_offset(text_start_svma)
            .ok_or(GoError::Malformed("its code is not in the file"))?;
        Ok(Self {
            layout: binary.layout(),
            version: binary.version().clone(),
            flags: binary.flags().clone(),
            globals: Globals::find(&binary),
            has_green_tea: binary.has_green_tea(),
            variables: binary.elf().writable_ranges().collect(),
            text_start_svma,
            text_file_offset,
            table: binary.into_table(),
        })
    }

    /// The address, as the file states it, of what lies at a file offset of the code.
    #[must_use]
    pub fn svma_of(&self, file_offset: u64) -> u64 {
        file_offset
            .wrapping_sub(self.text_file_offset)
            .wrapping_add(self.text_start_svma)
    }

    /// Where in the file an address of the code lies.
    #[must_use]
    pub fn file_offset_of(&self, svma: u64) -> u64 {
        svma.wrapping_sub(self.text_start_svma)
            .wrapping_add(self.text_file_offset)
    }

    /// How far a process has it moved, if this mapping of it holds the beginning of the code.
    fn bias(&self, mapping: &Mapping) -> Option<u64> {
        let offset = self.text_file_offset.checked_sub(mapping.file_offset)?;
        let avma = mapping.start.checked_add(offset)?;
        (avma < mapping.end).then(|| avma.wrapping_sub(self.text_start_svma))
    }
}

/// Why a process's runtime cannot be looked at.
#[derive(Debug)]
pub enum Unreadable {
    /// The layout of its version is not known.
    Layout(LayoutError),
    /// It does not map the program's code, or is gone.
    NotMapped,
    /// It may not be read.
    Refused(io::Error),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(formatter),
            Self::NotMapped => formatter.write_str("its code is not mapped any more"),
            Self::Refused(error) => write!(formatter, "its memory cannot be read: {error}"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// A running process of a Go program.
#[derive(Debug)]
pub struct GoProcess {
    /// What it runs.
    pub program: Arc<GoProgram>,
    /// Its memory.
    pub memory: ProcessMemory,
    /// Where the structures' fields are.
    pub layout: Layout,
    bias: u64,
}

impl GoProcess {
    /// Makes a process readable. The mapping is that of the program's code; each look at the process
    /// says itself how much it may read.
    ///
    /// # Errors
    ///
    /// When it cannot be read; the clause fits a report.
    pub fn open(pid: u32, program: Arc<GoProgram>, mapping: &Mapping) -> Result<Self, Unreadable> {
        let layout = program.layout.clone().map_err(Unreadable::Layout)?;
        let bias = program.bias(mapping).ok_or(Unreadable::NotMapped)?;
        let memory = ProcessMemory::open(pid, 0).map_err(Unreadable::Refused)?;
        Ok(Self {
            program,
            memory,
            layout,
            bias,
        })
    }

    /// Where an address of the file is in the process.
    #[must_use]
    pub fn avma(&self, svma: u64) -> u64 {
        svma.wrapping_add(self.bias)
    }

    /// Where an address of the process is in the file.
    #[must_use]
    pub fn svma(&self, avma: u64) -> u64 {
        avma.wrapping_sub(self.bias)
    }

    /// Whether a goroutine is one of the runtime's own, which `runtime.NumGoroutine` leaves out too.
    /// <https://github.com/golang/go/blob/go1.27.0/src/runtime/traceback.go>, `isSystemGoroutine`
    #[must_use]
    pub fn is_of_the_runtime(&self, goroutine: &Goroutine) -> bool {
        const PROGRAMS_OWN: [&str; 3] = [
            "runtime.main",
            "runtime.corostart",
            "runtime.handleAsyncEvent",
        ];
        let start = self
            .program
            .table
            .function_at(self.svma(goroutine.start_pc));
        start.is_some_and(|it| it.name.starts_with("runtime.") && !PROGRAMS_OWN.contains(&it.name))
    }
}
