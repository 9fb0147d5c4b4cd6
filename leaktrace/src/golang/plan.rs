//! Owns the plan of the probes of one Go program: which instructions, told what.
//! Must not know links, processes or reports.

use std::fmt;

use leaktrace_common::go::{SweepCookie, depth, sweep};

use super::{
    binary::{GoBinary, Version},
    layout::{Layout, LayoutError},
    sites::{self, AllocSite, FunctionCode, SitesError},
};

/// An instruction and what its probe is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoProbe {
    /// Where it lies in the file.
    pub file_offset: u64,
    /// An `AllocCookie` or a `SweepCookie`.
    pub cookie: u64,
}

/// The probes of a Go program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoPlan {
    /// Which version made it.
    pub version: Version,
    /// Where blocks are handed out, for `inspect`.
    pub sites: Vec<AllocSite>,
    /// The same as probes.
    pub allocs: Vec<GoProbe>,
    /// Where spans are swept, and where a collection begins.
    pub sweeps: Vec<GoProbe>,
}

/// Why a Go program cannot be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Its version is not known.
    Layout(LayoutError),
    /// Its allocator's code is not understood.
    Sites(SitesError),
    /// The compiler has put the allocator into other functions, where it is not looked for.
    Inlined(String),
    /// Its file does not hold its code.
    NoCode(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(f),
            Self::Sites(error) => error.fmt(f),
            Self::Inlined(function) => write!(f, "{function} is inlined into its callers"),
            Self::NoCode(function) => write!(f, "its file holds no code of {function}"),
        }
    }
}

impl std::error::Error for PlanError {}

/// Plans the probes of a program.
///
/// # Errors
///
/// In one clause, fit for the report.
pub fn plan(program: &GoBinary<'_>) -> Result<GoPlan, PlanError> {
    let layout = Layout::of(program.version()).map_err(PlanError::Layout)?;
    if let Some(name) = program.table().inlined_functions(&sites::hands_out).next() {
        return Err(PlanError::Inlined(name.to_owned()));
    }
    let mut functions = Vec::new();
    let mut names = std::collections::BTreeMap::new();
    for function in program.functions() {
        if function.name.starts_with("runtime.") {
            names.insert(function.entry_svma, function.name);
        }
        if sites::hands_out(function.name) || [sites::SWEEP, sites::BEGIN].contains(&function.name)
        {
            functions.push(FunctionCode {
                name: function.name,
                svma: function.entry_svma,
                bytes: program.code(&function),
            });
        }
    }
    if let Some(empty) = functions.iter().find(|it| it.bytes.is_empty()) {
        return Err(PlanError::NoCode(empty.name.to_owned()));
    }
    let name_of = |svma: u64| names.get(&svma).copied();
    let sites = sites::alloc_sites(&functions, &name_of).map_err(PlanError::Sites)?;
    let offset = |svma: u64, function: &str| {
        let offset = program.elf().svma_to_file_offset(svma);
        offset.ok_or_else(|| PlanError::NoCode(function.to_owned()))
    };
    let mut allocs = Vec::new();
    for site in &sites {
        let mut cookie = site.cookie;
        if layout.has_object_headers {
            cookie.depth |= depth::HAS_HEADERS;
        }
        allocs.push(GoProbe {
            file_offset: offset(site.svma, &site.function)?,
            cookie: cookie.pack(),
        });
    }
    let cookie = sweep_cookie(&layout, program.has_green_tea());
    let mut sweeps = Vec::new();
    for (name, flag) in [(sites::SWEEP, 0), (sites::BEGIN, sweep::BEGIN)] {
        let function = functions.iter().find(|it| it.name == name);
        let function = function.ok_or(PlanError::Sites(SitesError::Missing(name)))?;
        let at = sites::entry_site(*function, &name_of).map_err(PlanError::Sites)?;
        let flags = cookie.flags | flag;
        sweeps.push(GoProbe {
            file_offset: offset(function.svma + at, name)?,
            cookie: SweepCookie { flags, ..cookie }.pack(),
        });
    }
    Ok(GoPlan {
        version: program.version().clone(),
        sites,
        allocs,
        sweeps,
    })
}

fn sweep_cookie(layout: &Layout, has_green_tea: bool) -> SweepCookie {
    // All lie within the structure's first 168 bytes.
    let byte = |offset: u16| u8::try_from(offset).unwrap_or(u8::MAX);
    let span = &layout.span;
    let mut flags = 0;
    if span.index_bytes == 8 {
        flags |= sweep::WIDE_SLOTS;
    }
    if has_green_tea {
        flags |= sweep::INLINE_MARKS;
    }
    SweepCookie {
        start: byte(span.start_addr),
        pages: byte(span.npages),
        slots: byte(span.nelems),
        marks: byte(span.gcmark_bits),
        slot_bytes: byte(span.elemsize),
        flags,
    }
}
