//! Owns the layout of a version of Go that is not known, as the debug information of a program that it made tells it.
//! Must not know processes, or which versions are known.
//!
//! Offsets are taken as they are told; whatever else is taken for granted of a runtime is compared with what it tells:
//! constants, the sizes of slots, and how marks lie in a span. Where anything differs or is not told, nothing is.

mod sections;

use std::fmt;

use gimli::{AttributeValue, DebuggingInformationEntry, EndianSlice, LittleEndian};
use leaktrace_common::go::SLOT_BYTES;
use rustc_hash::FxHashMap;

use self::sections::{Sections, object_bytes};
use super::layout::{
    BucketLayout, GoroutineLayout, HeapLayout, Layout, LayoutSource, SpanLayout, SpecialLayout,
};

/// Attributes that are read, of the runtime's units and of the beginnings of others: large programs have some millions.
const ATTRIBUTES_MAX: usize = 20_000_000;

/// As many tables of the entries' forms as are read.
const TABLES_MAX: usize = 256;

/// The unit of every structure that is read.
const UNIT: &str = "runtime";

/// The entries that tell something; members follow their structure.
const WANTED: [gimli::DwTag; 3] = [
    gimli::DW_TAG_structure_type,
    gimli::DW_TAG_member,
    gimli::DW_TAG_constant,
];

/// The structures whose fields are read; all are the runtime's.
const STRUCTURES: [&str; 11] = [
    "runtime.mspan",
    "runtime.g",
    "runtime.gobuf",
    "runtime.stack",
    "runtime.bucket",
    "runtime.memRecord",
    "runtime.mheap",
    "runtime.special",
    "runtime.specialprofile",
    "runtime.sweepLocked",
    "runtime.spanInlineMarkBits",
];

/// The constants that the agent and its probes have of their own.
const CONSTANTS: [(&str, u64); 9] = [
    ("runtime._PageSize", 8192),
    ("runtime.mallocHeaderSize", 8),
    ("runtime.minSizeForMallocHeader", 512),
    ("runtime.mSpanInUse", 1),
    ("runtime.memProfile", 1),
    ("runtime._Grunnable", 1),
    ("runtime._Grunning", 2),
    ("runtime._Gsyscall", 3),
    ("runtime._Gwaiting", 4),
];

/// The one that changed before.
const PROFILE_KIND: &str = "runtime._KindSpecialProfile";

/// How many bytes each size class has, under the names that it has had.
const SLOT_TABLES: [&[u8]; 2] = [
    b"internal/runtime/gc.SizeClassToSize",
    b"runtime.class_to_size",
];

/// Why debug information does not tell a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLayout {
    /// There is none.
    Absent,
    /// It is damaged, or too large.
    Unreadable,
    /// It does not tell this.
    Untold(String),
    /// This is not as it is in every version that is known.
    Unlike(String),
}

impl fmt::Display for NoLayout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("it has no debug information that tells it"),
            Self::Unreadable => formatter.write_str("its debug information cannot be read"),
            Self::Untold(what) => write!(formatter, "its debug information does not tell {what}"),
            Self::Unlike(what) => write!(formatter, "{what} is not what it is in known versions"),
        }
    }
}

type Slice<'s> = EndianSlice<'s, LittleEndian>;
type Entry<'s> = DebuggingInformationEntry<Slice<'s>>;

/// What debug information tells: sizes and offsets by `structure` and `structure.field`, and constants.
#[derive(Default)]
struct Told(FxHashMap<String, u64>);

impl Told {
    /// Takes in an entry of these; `structure` is the one that members are of.
    fn take(&mut self, structure: &mut Option<&str>, entry: &Entry<'_>, name: Option<&str>) {
        let number = |attribute| entry.attr_value(attribute)?.udata_value();
        let is_constant = |name: &str| {
            name == PROFILE_KIND || CONSTANTS.iter().any(|(constant, _)| *constant == name)
        };
        let (key, value) = match entry.tag() {
            gimli::DW_TAG_structure_type => {
                *structure = STRUCTURES.into_iter().find(|it| name == Some(*it));
                (structure.map(str::to_owned), number(gimli::DW_AT_byte_size))
            }
            gimli::DW_TAG_member => {
                let field = structure.zip(name);
                (
                    field.map(|(structure, field)| format!("{structure}.{field}")),
                    number(gimli::DW_AT_data_member_location),
                )
            }
            _ => {
                let name = name.filter(|it| is_constant(it));
                (name.map(str::to_owned), number(gimli::DW_AT_const_value))
            }
        };
        if let (Some(key), Some(value)) = (key, value) {
            self.0.insert(key, value);
        }
    }

    fn of(&self, name: &str) -> Result<u64, NoLayout> {
        let told = self.0.get(name).copied();
        told.ok_or_else(|| NoLayout::Untold(name.to_owned()))
    }

    /// One that must be so.
    fn expect(&self, name: &str, value: u64) -> Result<(), NoLayout> {
        match self.of(name)? == value {
            true => Ok(()),
            false => Err(NoLayout::Unlike(name.to_owned())),
        }
    }

    /// An offset in one of the small structures.
    fn offset(&self, name: &str) -> Result<u16, NoLayout> {
        /// What the probes are told of a span has 8 bits for each.
        const OFFSET_MAX: u64 = 1 << 10;
        let offset = self.of(name)?;
        let is_small = offset < OFFSET_MAX && (!name.starts_with("runtime.mspan") || offset < 248);
        match u16::try_from(offset) {
            Ok(offset) if is_small => Ok(offset),
            _ => Err(NoLayout::Unlike(name.to_owned())),
        }
    }
}

/// The layout of the version that made a program, by its debug information. The bytes must be aligned to 8.
///
/// # Errors
///
/// When it is not told, or something else is not as it is taken to be.
pub fn layout(bytes: &[u8], minor: u32, has_green_tea: bool) -> Result<Layout, NoLayout> {
    let sections = Sections::read(bytes)?;
    let told = read(&sections).map_err(|error| error.unwrap_or(NoLayout::Unreadable))?;
    for (name, value) in CONSTANTS {
        told.expect(name, value)?;
    }
    check_shapes(&told, has_green_tea)?;
    check_slots(bytes)?;
    Ok(Layout {
        minor,
        source: LayoutSource::DebugInfo,
        span: span(&told)?,
        goroutine: goroutine(&told)?,
        bucket: bucket(&told)?,
        special: special(&told)?,
        heap: HeapLayout {
            sweepgen: wide(&told, "runtime.mheap.sweepgen")?,
            allspans: wide(&told, "runtime.mheap.allspans")?,
        },
        has_object_headers: true,
    })
}

/// What is read together with what it lies beside, and the marks within a span.
fn check_shapes(told: &Told, has_green_tea: bool) -> Result<(), NoLayout> {
    told.expect("runtime.sweepLocked.mspan", 0)?;
    told.expect("runtime.gobuf.sp", 0)?;
    told.expect("runtime.gobuf.pc", 8)?;
    told.expect("runtime.stack.hi", 8)?;
    told.expect("runtime.special.next", 0)?;
    told.expect("runtime.special.offset", 8)?;
    let syscall = told.offset("runtime.g.syscallsp")?;
    told.expect("runtime.g.syscallpc", u64::from(syscall) + 8)?;
    if has_green_tea {
        told.expect("runtime.spanInlineMarkBits", 128)?;
        told.expect("runtime.spanInlineMarkBits.marks", 64)?;
        told.expect("runtime.spanInlineMarkBits.class", 127)?;
    }
    Ok(())
}

/// The sizes of slots, which nothing else tells.
fn check_slots(bytes: &[u8]) -> Result<(), NoLayout> {
    let mut tables = SLOT_TABLES.iter();
    let table = tables.find_map(|name| object_bytes(bytes, name, 2 * SLOT_BYTES.len()));
    let table = table.ok_or_else(|| NoLayout::Untold("the sizes of slots".to_owned()))?;
    let (pairs, _) = table.as_chunks::<2>();
    let told = pairs.iter().map(|it| u16::from_le_bytes(*it));
    match told.eq(SLOT_BYTES) {
        true => Ok(()),
        false => Err(NoLayout::Unlike("the table of slots' sizes".to_owned())),
    }
}

fn span(told: &Told) -> Result<SpanLayout, NoLayout> {
    let field = |name: &str| told.offset(&format!("runtime.mspan.{name}"));
    let (freeindex, nelems) = (field("freeindex")?, field("nelems")?);
    let index_bytes = nelems.wrapping_sub(freeindex);
    if ![2, 8].contains(&index_bytes) {
        return Err(NoLayout::Unlike("runtime.mspan.nelems".to_owned()));
    }
    Ok(SpanLayout {
        start_addr: field("startAddr")?,
        npages: field("npages")?,
        freeindex,
        nelems,
        index_bytes,
        alloc_cache: field("allocCache")?,
        alloc_bits: field("allocBits")?,
        gcmark_bits: field("gcmarkBits")?,
        sweepgen: field("sweepgen")?,
        alloc_count: field("allocCount")?,
        spanclass: field("spanclass")?,
        state: field("state")?,
        elemsize: field("elemsize")?,
        specials: field("specials")?,
    })
}

fn goroutine(told: &Told) -> Result<GoroutineLayout, NoLayout> {
    let field = |name: &str| told.offset(&format!("runtime.g.{name}"));
    let sched = field("sched")?;
    let mut layout = GoroutineLayout {
        stack: field("stack")?,
        sched,
        sched_bp: sched + told.offset("runtime.gobuf.bp")?,
        syscallsp: field("syscallsp")?,
        syscallbp: Some(field("syscallbp")?),
        atomicstatus: field("atomicstatus")?,
        goid: field("goid")?,
        waitsince: field("waitsince")?,
        waitreason: field("waitreason")?,
        turns: field("trackingSeq")?,
        gopc: field("gopc")?,
        startpc: field("startpc")?,
        read_bytes: 0,
    };
    let last = [
        layout.stack + 8,
        layout.sched_bp,
        layout.syscallsp + 8,
        layout.syscallbp.unwrap_or(0),
        layout.goid,
        layout.waitsince,
        layout.waitreason,
        layout.turns,
        layout.gopc,
        layout.startpc,
    ];
    layout.read_bytes = last.into_iter().max().unwrap_or(0) + 8;
    Ok(layout)
}

fn bucket(told: &Told) -> Result<BucketLayout, NoLayout> {
    let field = |name: &str| told.offset(&format!("runtime.bucket.{name}"));
    let cycle_bytes = told.offset("runtime.memRecord.future")?;
    if ![16, 32].contains(&cycle_bytes) {
        return Err(NoLayout::Unlike("runtime.memRecord".to_owned()));
    }
    told.expect("runtime.memRecord", 4 * u64::from(cycle_bytes))?;
    Ok(BucketLayout {
        allnext: field("allnext")?,
        typ: field("typ")?,
        size: field("size")?,
        nstk: field("nstk")?,
        header_bytes: told.offset("runtime.bucket")?,
        cycle_bytes,
    })
}

fn special(told: &Told) -> Result<SpecialLayout, NoLayout> {
    let unlike = || NoLayout::Unlike("runtime.special".to_owned());
    let kind = told.offset("runtime.special.kind")?;
    let bucket = told.offset("runtime.specialprofile.b")?;
    let offset_bytes = kind.wrapping_sub(8);
    if ![2, 8].contains(&offset_bytes) || bucket > 24 {
        return Err(unlike());
    }
    Ok(SpecialLayout {
        offset_bytes,
        kind,
        profile_kind: u8::try_from(told.of(PROFILE_KIND)?).map_err(|_| unlike())?,
        bucket,
    })
}

/// An offset in the heap's own structure, which is large.
fn wide(told: &Told, name: &str) -> Result<u32, NoLayout> {
    u32::try_from(told.of(name)?).map_err(|_| NoLayout::Unlike(name.to_owned()))
}

/// Goes through the units of the runtime. The error is `None` where the bytes are damaged.
fn read(sections: &Sections<'_>) -> Result<Told, Option<NoLayout>> {
    let dwarf = sections.dwarf();
    let mut told = Told::default();
    let mut left = ATTRIBUTES_MAX;
    // Go's units share one table; a hostile file could have each read a long one.
    let mut tables = FxHashMap::default();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next().map_err(|_| None)? {
        let at = header.debug_abbrev_offset().0;
        if !tables.contains_key(&at) {
            let table = header.abbreviations(&dwarf.debug_abbrev);
            let table = table.map_err(|_| None)?;
            if tables.len() >= TABLES_MAX {
                return Err(None);
            }
            tables.insert(at, table);
        }
        let mut entries = header.entries(&tables[&at]);
        let (mut structure, mut is_root) = (None, true);
        while let Some(entry) = entries.next_dfs().map_err(|_| None)? {
            left = left.checked_sub(1 + entry.attrs().len()).ok_or(None)?;
            if std::mem::take(&mut is_root) {
                if name(entry) != Some(UNIT) {
                    break;
                }
            } else if WANTED.contains(&entry.tag()) {
                told.take(&mut structure, entry, name(entry));
            }
        }
    }
    Ok(told)
}

/// The name that stands in an entry itself, as Go's compiler has it. Names are text, or not those that are looked for.
fn name<'s>(entry: &Entry<'s>) -> Option<&'s str> {
    match entry.attr_value(gimli::DW_AT_name)? {
        AttributeValue::String(name) => std::str::from_utf8(name.slice()).ok(),
        _ => None,
    }
}
