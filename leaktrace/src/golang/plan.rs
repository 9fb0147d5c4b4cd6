//! Owns the plan of the probes of one Go program: which instructions, told what.
//! Must not know links, processes or reports.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use leaktrace_common::go::{RefillCookie, SweepCookie, WIDE_SLOTS, depth, place, sweep};

use super::{
    binary::{Function, GoBinary, Version},
    layout::{Layout, LayoutError, LayoutSource},
    sites::{self, AllocSite, FunctionCode, Names, RefillSite, SitesError},
};

/// As many functions are disassembled at most; with every experiment Go has some 70.
const FUNCTIONS_MAX: usize = 256;

/// It is in programs that use arenas, and no others.
const USER_ARENA: &str = "runtime.newUserArena";

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
    /// How the layout of its runtime is known.
    pub layout: LayoutSource,
    /// Where blocks are handed out, for `inspect`.
    pub sites: Vec<AllocSite>,
    /// The same as probes.
    pub allocs: Vec<GoProbe>,
    /// Where spans are swept, and where a collection begins.
    pub sweeps: Vec<GoProbe>,
    /// Where the allocator's cache gets its blocks, which is where samples are taken, or why not there.
    pub refills: Result<Refills, PlanError>,
    /// Whether there are arenas of the user's in it, whose objects no site hands out.
    pub has_arenas: bool,
    /// Where the allocator's own code is in the file: what is seen in its depths has callers there.
    pub own_code: Arc<[Range<u64>]>,
}

/// The probes where the allocator's cache gets its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refills {
    /// For `inspect`.
    pub sites: Vec<RefillSite>,
    /// The same as probes.
    pub probes: Vec<GoProbe>,
}

impl GoPlan {
    /// The probes that see blocks: at every one where refills cannot be told.
    #[must_use]
    pub fn blocks(&self, way: Way) -> &[GoProbe] {
        match (way, &self.refills) {
            (Way::Refills, Ok(refills)) => &refills.probes,
            _ => &self.allocs,
        }
    }

    /// The functions that probes stand in.
    #[must_use]
    pub fn functions(&self, way: Way) -> Vec<&str> {
        let mut functions: Vec<&str> = match (way, &self.refills) {
            (Way::Refills, Ok(refills)) => refills.sites.iter().map(|it| it.function).collect(),
            _ => self.sites.iter().map(|it| it.function.as_str()).collect(),
        };
        functions.dedup();
        functions
    }
}

/// Where a program's blocks are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Each where it is handed out.
    Every,
    /// One in many, where the allocator's cache gets its blocks.
    Refills,
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
    /// More functions pass for its allocator's than any version has.
    TooMany,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(f),
            Self::Sites(error) => error.fmt(f),
            Self::Inlined(function) => write!(f, "{function} is inlined into its callers"),
            Self::NoCode(function) => write!(f, "its file holds no code of {function}"),
            Self::TooMany => {
                write!(
                    f,
                    "it has more than {FUNCTIONS_MAX} functions that hand out blocks"
                )
            }
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
    let layout = program.layout().map_err(PlanError::Layout)?;
    // In one pass over all functions, which are many.
    let is_probed = |name: &str| sites::hands_out(name) || is_refill(name);
    let (mut inlined, mut refills_inlined) = (None, None);
    for (name, into) in program.table().inlined_functions(&is_probed) {
        if is_refill(name) {
            refills_inlined.get_or_insert(name);
        } else if !sites::hands_out(into) {
            // One that is probed itself hands the blocks out at its own returns.
            inlined.get_or_insert(name);
        }
    }
    if let Some(name) = inlined {
        return Err(PlanError::Inlined(name.to_owned()));
    }
    let (names, functions) = functions(program)?;
    let name_of = |svma: u64| names.get(&svma).copied();
    let refills = match refills_inlined {
        Some(name) => Err(PlanError::Inlined(name.to_owned())),
        None => refills(program, &layout, &functions, &name_of),
    };
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
        layout: layout.source,
        sites,
        allocs,
        sweeps,
        refills,
        has_arenas: names.values().any(|name| *name == USER_ARENA),
        own_code: own_code(program),
    })
}

/// Where the functions are that a block passes on its way from a cache to who asked for it.
fn own_code(program: &GoBinary<'_>) -> Arc<[Range<u64>]> {
    let is_own =
        |name: &str| name.starts_with(sites::ALLOCATOR) || name.starts_with("runtime.(*mcache).");
    let functions = program.runtime_functions();
    let functions = functions.filter(|it| is_own(it.name));
    let range = |function: Function<'_>| {
        let start = program.elf().svma_to_file_offset(function.entry_svma)?;
        Some(start..start + (function.end_svma - function.entry_svma))
    };
    functions.filter_map(range).collect()
}

/// Whether a cache gets its blocks in a function.
fn is_refill(name: &str) -> bool {
    [sites::NEXT_FREE, sites::ALLOC_LARGE].contains(&name)
}

/// The names of the runtime's functions by their address, and the code of those that are probed.
type Functions<'p> = (BTreeMap<u64, &'p str>, Vec<FunctionCode<'p>>);

fn functions<'p>(program: &'p GoBinary<'_>) -> Result<Functions<'p>, PlanError> {
    let is_of_collections = |name: &str| [sites::SWEEP, sites::BEGIN].contains(&name);
    let (mut names, mut functions) = (BTreeMap::new(), Vec::new());
    for function in program.runtime_functions() {
        names.insert(function.entry_svma, function.name);
        let name = function.name;
        if sites::hands_out(name) || is_refill(name) || is_of_collections(name) {
            functions.push(FunctionCode {
                name: function.name,
                svma: function.entry_svma,
                bytes: program.code(&function),
            });
        }
        if functions.len() > FUNCTIONS_MAX {
            return Err(PlanError::TooMany);
        }
    }
    match functions.iter().find(|it| it.bytes.is_empty()) {
        Some(empty) => Err(PlanError::NoCode(empty.name.to_owned())),
        None => Ok((names, functions)),
    }
}

/// The probes where the allocator's cache gets its blocks.
fn refills(
    program: &GoBinary<'_>,
    layout: &Layout,
    functions: &[FunctionCode<'_>],
    name_of: Names<'_>,
) -> Result<Refills, PlanError> {
    let sites = sites::refill_sites(functions, name_of).map_err(PlanError::Sites)?;
    let probe = |site: &RefillSite| {
        let offset = program.elf().svma_to_file_offset(site.svma);
        let cookie = refill_cookie(layout, site);
        Ok(GoProbe {
            file_offset: offset.ok_or_else(|| PlanError::NoCode(site.function.to_owned()))?,
            cookie: cookie.pack(),
        })
    };
    let probes = sites.iter().map(probe).collect::<Result<_, _>>()?;
    Ok(Refills { sites, probes })
}

/// All of a span's fields lie within its first 168 bytes.
fn byte(offset: u16) -> u8 {
    u8::try_from(offset).unwrap_or(u8::MAX)
}

fn refill_cookie(layout: &Layout, site: &RefillSite) -> RefillCookie {
    let span = &layout.span;
    let is_wide = span.index_bytes == 8;
    RefillCookie {
        depth: site.depth | if is_wide { WIDE_SLOTS } else { 0 },
        block: site.block,
        span: site.span,
        free_index: match site.block {
            place::SPAN => byte(span.start_addr),
            _ => byte(span.freeindex),
        },
        cache: byte(span.alloc_cache),
        slot_bytes: byte(span.elemsize),
        class: byte(span.spanclass),
    }
}

fn sweep_cookie(layout: &Layout, has_green_tea: bool) -> SweepCookie {
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
        free_index: byte(span.freeindex),
        marks: byte(span.gcmark_bits),
        slot_bytes: byte(span.elemsize),
        flags,
        cache: byte(span.alloc_cache),
        class: byte(span.spanclass),
    }
}
