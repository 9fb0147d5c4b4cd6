//! Owns the proof that layouts are those of each version, and that damaged files harm nobody.
//! Must not know processes.

use std::{borrow::Cow, collections::BTreeMap, fs, time::Instant};

use gimli::{EndianSlice, LittleEndian};
use leaktrace::golang::{
    binary::{GoBinary, VersionSource},
    debug_info::{self, NoLayout},
    layout::{Layout, LayoutSource},
    plan,
    program::GoProgram,
    sites,
};
use object::{Object as _, ObjectSection as _};

use crate::harness::{
    PATIENCE,
    golang::{self, Link, VERSIONS},
};

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// The structures of the runtime that are read.
const STRUCTURES: [&str; 6] = [
    "runtime.mspan",
    "runtime.g",
    "runtime.gobuf",
    "runtime.bucket",
    "runtime.memRecord",
    "runtime.mheap",
];

/// Where the fields of these structures lie, as the program's debug information tells.
fn fields(bytes: &[u8]) -> BTreeMap<String, u64> {
    let file = object::File::parse(bytes).unwrap();
    let load = |id: gimli::SectionId| -> Result<Cow<'_, [u8]>, object::Error> {
        file.section_by_name(id.name())
            .map_or(Ok(Cow::default()), |it| it.uncompressed_data())
    };
    let sections = gimli::DwarfSections::load(load).unwrap();
    let dwarf = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
    let mut fields = BTreeMap::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next().unwrap() {
        let unit = dwarf.unit(header).unwrap();
        let text = |entry: &gimli::DebuggingInformationEntry<Slice<'_>>| -> Option<String> {
            let name = entry.attr_value(gimli::DW_AT_name)?;
            let name = dwarf.attr_string(&unit, name).ok()?;
            Some(name.to_string_lossy().into_owned())
        };
        let mut entries = unit.entries();
        let mut structure = None;
        while let Some(entry) = entries.next_dfs().unwrap() {
            match entry.tag() {
                gimli::DW_TAG_structure_type => {
                    let name = text(entry).filter(|it| STRUCTURES.contains(&it.as_str()));
                    if let (Some(name), Some(size)) =
                        (&name, entry.attr_value(gimli::DW_AT_byte_size))
                    {
                        fields.insert(name.clone(), size.udata_value().unwrap());
                    }
                    structure = name;
                }
                gimli::DW_TAG_member => {
                    if let (Some(structure), Some(name), Some(offset)) = (
                        &structure,
                        text(entry),
                        entry.attr_value(gimli::DW_AT_data_member_location),
                    ) {
                        let name = format!("{structure}.{name}");
                        fields.insert(name, offset.udata_value().unwrap());
                    }
                }
                _ => {}
            }
        }
    }
    fields
}

/// Every offset of every version is that of the debug information of a program that it made.
#[test]
fn layouts_are_those_of_each_version() {
    if !golang::is_there(|| ()) {
        return;
    }
    for version in VERSIONS {
        let bytes = fs::read(golang::program(version, "waiting", Link::Debug)).unwrap();
        let binary = GoBinary::parse(&bytes).unwrap();
        let layout = Layout::of(binary.version()).unwrap();
        let fields = fields(&bytes);
        let check = |name: &str, offset: u64| {
            let stated = fields.get(&format!("runtime.{name}"));
            assert_eq!(stated, Some(&offset), "{name} in Go {version}");
        };
        for (name, offset) in offsets(&layout) {
            check(name, offset);
        }
        assert_eq!(
            layout.goroutine.syscallbp.map(u64::from),
            fields.get("runtime.g.syscallbp").copied(),
            "Go {version}"
        );
        let goroutine = &layout.goroutine;
        let bp = u64::from(goroutine.sched_bp - goroutine.sched);
        check("gobuf.bp", bp);
        check("bucket", u64::from(layout.bucket.header_bytes));
        check("memRecord", 4 * u64::from(layout.bucket.cycle_bytes));
        let nelems_bytes = fields["runtime.mspan.nelems"] - fields["runtime.mspan.freeindex"];
        assert_eq!(
            u64::from(layout.span.index_bytes),
            nelems_bytes,
            "Go {version}"
        );
    }
}

/// What debug information tells is what the table has, also where it is compressed, as Go's linker does; and a program
/// without any, or with a part of it that is damaged, tells nothing.
#[test]
fn debug_information_tells_the_layout() {
    if !golang::is_there(|| ()) {
        return;
    }
    for (version, minor) in [("1.23.9", 23), ("1.25.5", 25), ("1.27.3", 27)] {
        for link in [Link::Debug, Link::Plain] {
            let bytes = fs::read(golang::program(version, "waiting", link)).unwrap();
            let has_green_tea = GoBinary::parse(&bytes).unwrap().has_green_tea();
            let told = debug_info::layout(&bytes, minor, has_green_tea).unwrap();
            let mut expected = Layout::of_minor(minor);
            // As much as has all fields will do.
            expected.goroutine.read_bytes = told.goroutine.read_bytes;
            expected.source = LayoutSource::DebugInfo;
            assert_eq!(told, expected, "Go {version}, {link:?}");
        }
    }
    let stripped = fs::read(golang::program("1.27.3", "waiting", Link::Stripped)).unwrap();
    let told = debug_info::layout(&stripped, 28, true);
    assert_eq!(told, Err(NoLayout::Absent));
    // A constant that the agent has of its own.
    let bytes = fs::read(golang::program("1.27.3", "waiting", Link::Debug)).unwrap();
    let other = replaced(
        &bytes,
        b"runtime.mallocHeaderSize\0",
        b"runtime.mallocHeaderSoze\0",
    );
    let told = debug_info::layout(&other, 28, true);
    let untold = NoLayout::Untold("runtime.mallocHeaderSize".to_owned());
    assert_eq!(told, Err(untold));
    // However it is cut or garbled, reading ends.
    for seed in 1..40_usize {
        let mut garbled = bytes.clone();
        for step in 0..50 {
            let at = (seed * 7_919 + step * 104_729).wrapping_mul(2_654_435_761) % garbled.len();
            garbled[at] ^= (seed + step) as u8 | 1;
        }
        let _ = debug_info::layout(&garbled, 28, true);
    }
}

/// The fields that have one name and one offset.
fn offsets(layout: &Layout) -> Vec<(&'static str, u64)> {
    let (span, g, bucket) = (&layout.span, &layout.goroutine, &layout.bucket);
    let small = [
        ("mspan.startAddr", span.start_addr),
        ("mspan.npages", span.npages),
        ("mspan.freeindex", span.freeindex),
        ("mspan.nelems", span.nelems),
        ("mspan.allocCache", span.alloc_cache),
        ("mspan.allocBits", span.alloc_bits),
        ("mspan.gcmarkBits", span.gcmark_bits),
        ("mspan.sweepgen", span.sweepgen),
        ("mspan.allocCount", span.alloc_count),
        ("mspan.spanclass", span.spanclass),
        ("mspan.state", span.state),
        ("mspan.elemsize", span.elemsize),
        ("mspan.specials", span.specials),
        ("g.stack", g.stack),
        ("g.sched", g.sched),
        ("g.syscallsp", g.syscallsp),
        ("g.syscallpc", g.syscallsp + 8),
        ("g.atomicstatus", g.atomicstatus),
        ("g.goid", g.goid),
        ("g.waitsince", g.waitsince),
        ("g.waitreason", g.waitreason),
        ("g.trackingSeq", g.turns),
        ("g.gopc", g.gopc),
        ("g.startpc", g.startpc),
        ("bucket.allnext", bucket.allnext),
        ("bucket.typ", bucket.typ),
        ("bucket.size", bucket.size),
        ("bucket.nstk", bucket.nstk),
        ("memRecord.future", bucket.cycle_bytes),
    ];
    let small = small.map(|(name, offset)| (name, u64::from(offset)));
    let heap = [
        ("mheap.sweepgen", u64::from(layout.heap.sweepgen)),
        ("mheap.allspans", u64::from(layout.heap.allspans)),
    ];
    small.into_iter().chain(heap).collect()
}

/// What the linker and the options of the build leave is told of every version, and the version itself is
/// found without build information too.
#[test]
fn a_file_tells_its_version_and_how_it_was_linked() {
    if !golang::is_there(|| ()) {
        return;
    }
    for version in VERSIONS {
        let bytes = fs::read(golang::program(version, "waiting", Link::Stripped)).unwrap();
        let binary = GoBinary::parse(&bytes).unwrap();
        assert_eq!(binary.version().text, format!("go{version}"));
        assert_eq!(binary.version().source, VersionSource::BuildInfo);
        let flags = binary.flags();
        let told = (
            flags.is_stripped,
            flags.has_debug_info,
            flags.is_pie,
            flags.has_cgo,
        );
        assert_eq!(told, (true, false, false, false), "Go {version}");
        assert!(flags.linker_flags.as_ref().unwrap().contains("-s -w"));
        assert_eq!(
            binary.has_green_tea(),
            binary.version().minor >= 26,
            "Go {version}"
        );

        let anonymous = without_build_information(&bytes);
        let binary = GoBinary::parse(&anonymous).unwrap();
        assert_eq!(binary.version().text, format!("go{version}"));
        assert_eq!(binary.version().source, VersionSource::Text);

        let nameless = replaced(&anonymous, b"go1.", b"gone");
        let binary = GoBinary::parse(&nameless).unwrap();
        let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
        assert_eq!(binary.version().minor, minor, "by its functions alone");
        assert_eq!(binary.version().source, VersionSource::Functions);
        // The newest version's functions are those of later ones too.
        assert_eq!(Layout::of(binary.version()).is_ok(), minor < 27);
    }
}

fn without_build_information(bytes: &[u8]) -> Vec<u8> {
    replaced(bytes, b"\xff Go buildinf:", b"\xff No buildinf:")
}

/// The same bytes with each occurrence of some replaced by as many others.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// What no site hands out is known: a program with arenas of its own has them, and others have not.
#[test]
fn arenas_are_noticed() {
    if !golang::is_there(|| ()) {
        return;
    }
    for (name, has_arenas) in [("arenas", true), ("waiting", false)] {
        let link = if has_arenas {
            Link::Arenas
        } else {
            Link::Stripped
        };
        let bytes = fs::read(golang::program("1.27.3", name, link)).unwrap();
        let plan = plan::plan(&GoBinary::parse(&bytes).unwrap()).unwrap();
        assert_eq!(plan.has_arenas, has_arenas, "{name}");
    }
}

/// However a program is cut or garbled, reading it ends soon and takes nobody down.
#[test]
fn damaged_programs_harm_nobody() {
    if !golang::is_there(|| ()) {
        return;
    }
    let began = Instant::now();
    for (version, link) in [
        ("1.22.10", Link::StrippedPie),
        ("1.27.3", Link::StrippedPie),
    ] {
        let bytes = fs::read(golang::program(version, "waiting", link)).unwrap();
        for part in 1..24 {
            read_all(&bytes[..bytes.len() * part / 24]);
        }
        let places = Places::of(&bytes);
        for seed in 0..60 {
            let mut garbled = bytes.clone();
            garble(&mut garbled, &places, seed);
            read_all(&garbled);
        }
    }
    assert!(began.elapsed() < 2 * PATIENCE, "{:?}", began.elapsed());
}

/// Where the function table's header is.
fn table_offset(bytes: &[u8]) -> usize {
    let magic = [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    let mut windows = bytes.windows(8);
    windows.position(|it| it == magic).unwrap()
}

/// Where nonsense does the most.
struct Places {
    /// The function table.
    table: usize,
    /// The code of the functions that hand out blocks, each with its length.
    allocators: Vec<(usize, usize)>,
}

impl Places {
    fn of(bytes: &[u8]) -> Self {
        let binary = GoBinary::parse(bytes).unwrap();
        let functions = binary.functions();
        let allocators = functions.filter(|it| sites::hands_out(it.name));
        let place = |function| {
            let code = binary.code(&function);
            let offset = code.as_ptr() as usize - bytes.as_ptr() as usize;
            (offset, code.len())
        };
        Self {
            table: table_offset(bytes),
            allocators: allocators.map(place).collect(),
        }
    }
}

/// Writes nonsense: into the table's header, into the tables, anywhere, or into the allocator's code, by turns.
fn garble(bytes: &mut [u8], places: &Places, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let table = places.table;
    let (start, len, times) = match seed % 4 {
        0 => (table + 8, 64, 1 + seed / 6),
        1 => (table + 72, 600_000, 20_000),
        2 => (0, bytes.len(), 2_000),
        _ => {
            let (start, len) = places.allocators[seed as usize / 4 % places.allocators.len()];
            (start, len, 1 + seed / 4)
        }
    };
    let extremes = [0, 0xff, 0x7f, 0x80];
    for _ in 0..times {
        let at = start + random() as usize % len;
        let value = random();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = match value % 2 {
                0 => extremes[(value >> 8) as usize % 4],
                _ => (value >> 8) as u8,
            };
        }
    }
}

/// Reads all that is read of a program, if it still passes for one.
fn read_all(bytes: &[u8]) {
    let Ok(binary) = GoBinary::parse(bytes) else {
        return;
    };
    let mut code_bytes = 0;
    let mut middles = Vec::new();
    for function in binary.functions() {
        code_bytes += binary.code(&function).len();
        middles.push(function.entry_svma.midpoint(function.end_svma));
    }
    let frames: usize = middles
        .iter()
        .step_by(1 + middles.len() / 500)
        .map(|svma| binary.table().frames(*svma).len())
        .sum();
    // As many as one address can have.
    assert!(
        frames <= 65 * 502,
        "{frames} frames, {code_bytes} bytes of code"
    );
    if let Ok(plan) = plan::plan(&binary) {
        let inside = |probe: &plan::GoProbe| probe.file_offset < bytes.len() as u64;
        assert!(plan.allocs.iter().chain(&plan.sweeps).all(inside));
    }
    let program = GoProgram::read(bytes).unwrap();
    assert!(program.table.size_bytes() <= 2 * bytes.len());
}
