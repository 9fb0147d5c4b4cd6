//! Owns what a Go program's file tells: version, functions, lines, how it was linked.
//! Must not know processes, probes or where the bytes came from; the caller caps their size.
//!
//! All of it survives `-s -w`, because the runtime itself needs it for its stack traces. The bytes
//! belong to the traced process: each pass is linear in their number and each result is capped.

mod error;
mod flags;
mod table;
#[cfg(test)]
mod tests;
mod version;

use gobin::{
    formats::BinaryContext,
    metadata::BuildInfo,
    structures::{
        PclntabVersion, buildinfo,
        locate::ModuledataLocator,
        moduledata::{LayoutHints, Moduledata},
    },
};

pub use self::{
    error::GoError,
    flags::LinkFlags,
    table::{Function, GoFrame, PcTable},
    version::{Version, VersionSource},
};
use super::{
    debug_info::{self, NoLayout},
    layout::{Layout, LayoutError},
};
use crate::binary::elf::Elf;

/// How the names of the runtime's functions begin.
pub const RUNTIME: &str = "runtime.";

/// Where the words stand that the runtime's code is found by.
#[derive(Clone, Debug)]
pub struct ModuleFacts {
    /// The address of `runtime.text`, from which functions are counted. With cgo it lies behind C code.
    pub text_start_svma: u64,
    /// The end of Go's code.
    pub text_end_svma: u64,
    /// The address of `runtime.pclntab`.
    pub pclntab_svma: u64,
    /// The address of `runtime.firstmoduledata`, where it was found.
    pub moduledata_svma: Option<u64>,
}

/// Where Go's own linker puts the function table, unless a system's linker or `strip` had a say; to look there
/// first saves going through all of a large file.
const TABLE_SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];

/// Whether a section is one that Go's linker makes, whoever else had a say: a large program without any need not be
/// gone through.
pub(super) fn is_of_go(section: &[u8]) -> bool {
    TABLE_SECTIONS.contains(&section)
        || section.windows(4).any(|it| it == b".go.")
        || section.starts_with(b".gosymtab")
}

/// A Go program.
pub struct GoBinary<'d> {
    elf: Elf<'d>,
    table: PcTable<'d>,
    version: Version,
    flags: LinkFlags,
    facts: ModuleFacts,
    has_green_tea: bool,
    bytes: &'d [u8],
}

impl<'d> GoBinary<'d> {
    /// Reads a program. The bytes must be aligned to 8, as a mapping or a buffer is.
    ///
    /// # Errors
    ///
    /// When it is no program of Go's own compiler for x86-64, or too damaged to be run.
    pub fn parse(bytes: &'d [u8]) -> Result<Self, GoError> {
        let elf = Elf::parse(bytes).map_err(GoError::NotElf)?;
        // First the cheap question, because most programs are not Go's.
        if elf.sections().nth(1).is_some() && !elf.sections().any(|(name, _)| is_of_go(name)) {
            return Err(GoError::NotGo);
        }
        let stated = elf
            .sections()
            .find(|(name, _)| TABLE_SECTIONS.contains(name))
            .and_then(|(_, offset)| usize::try_from(offset).ok());
        let near = |start: usize| Some(start + table::find_header(bytes.get(start..)?)?);
        let at = stated
            .and_then(near)
            .or_else(|| table::find_header(bytes))
            .ok_or(GoError::NotGo)?;
        let context = BinaryContext::new(bytes);
        let pclntab_svma = context
            .file_to_va(at)
            .ok_or(GoError::Malformed("its function table is not mapped"))?;
        let build = buildinfo::extract(&context);
        let hints = |go_minor| hints(&context, go_minor);
        let stated = build.as_ref().and_then(|it| it.go_version);
        let minor = stated.and_then(version::minor_of);
        let module = ModuledataLocator::new(&context, 8, at, hints(minor)).locate();
        let moduledata = module.as_ref().map(|it| &it.moduledata);
        let moduledata_svma = module.as_ref().and_then(|it| context.view_to_va(it.offset));
        let mut table = PcTable::new(&bytes[at..], table::extent(moduledata, pclntab_svma))?;
        let text_start_svma = text_start(&elf, &context, moduledata, &table)
            .ok_or(GoError::Malformed("the start of its code is not known"))?;
        table.place(text_start_svma);
        let traits = version::Traits::of(&table, &context);
        let version = version::find(stated, bytes, &traits)
            .ok_or(GoError::Malformed("nothing tells its Go version"))?;
        // Where the inline trees are depends on the version, which may be known only now.
        let module = match minor == Some(version.minor) {
            true => module,
            false => ModuledataLocator::new(&context, 8, at, hints(Some(version.minor))).locate(),
        };
        if let Some(offset) = module
            .and_then(|it| it.moduledata.gofunc)
            .and_then(|svma| context.va_to_file(svma))
        {
            table.attach_inline_trees(bytes.get(offset..).unwrap_or_default());
        }
        Ok(Self {
            facts: ModuleFacts {
                text_start_svma,
                text_end_svma: table.text_end(),
                pclntab_svma,
                moduledata_svma,
            },
            flags: LinkFlags::of(bytes, build.as_ref(), traits.has_cgo),
            has_green_tea: traits.has_green_tea,
            bytes,
            elf,
            table,
            version,
        })
    }

    /// The version of Go that made it.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Where its runtime's structures have their fields: by its version, or where that is newer than what is known, by
    /// its debug information.
    ///
    /// # Errors
    ///
    /// When neither tells. The clause fits a report.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        match Layout::of(&self.version) {
            Err(LayoutError::TooNew(version)) => {
                let told = debug_info::layout(self.bytes, version.minor, self.has_green_tea);
                told.map_err(|why| match why {
                    NoLayout::Absent => LayoutError::TooNew(version),
                    why => LayoutError::Untold(version, why),
                })
            }
            known => known,
        }
    }

    /// How it was linked.
    #[must_use]
    pub fn flags(&self) -> &LinkFlags {
        &self.flags
    }

    /// Where its runtime's words stand.
    #[must_use]
    pub fn facts(&self) -> &ModuleFacts {
        &self.facts
    }

    /// Whether its collector is Green Tea, which keeps marks inside of spans.
    #[must_use]
    pub fn has_green_tea(&self) -> bool {
        self.has_green_tea
    }

    /// Functions, lines and inlined calls.
    #[must_use]
    pub fn table(&self) -> &PcTable<'d> {
        &self.table
    }

    /// Keeps the table alone, without the rest of the file.
    #[must_use]
    pub fn into_table(self) -> PcTable<'static> {
        self.table.into_owned()
    }

    /// The program's ELF view: code bytes and file offsets.
    #[must_use]
    pub fn elf(&self) -> &Elf<'d> {
        &self.elf
    }

    /// Every function, by address.
    pub fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        self.table.functions()
    }

    /// The runtime's functions, by address.
    pub fn runtime_functions(&self) -> impl Iterator<Item = Function<'_>> {
        self.table.functions_of(RUNTIME)
    }

    /// The function of exactly this name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Function<'_>> {
        self.functions().find(|function| function.name == name)
    }

    /// The instructions of a function; empty where the file does not hold all of them.
    #[must_use]
    pub fn code(&self, function: &Function<'_>) -> &'d [u8] {
        let len = function.end_svma - function.entry_svma;
        self.elf.code(function.entry_svma, len).unwrap_or_default()
    }
}

/// Which form of moduledata gobin shall read.
fn hints(context: &BinaryContext<'_>, go_minor: Option<u32>) -> LayoutHints {
    let sections = context.sections();
    LayoutHints {
        pclntab_version: PclntabVersion::Go120,
        go_minor,
        has_typelink_section: sections.typelink.is_some(),
        has_go_type_section: sections.go_type.is_some(),
    }
}

/// The address of `runtime.text`: as moduledata says, which is right with cgo and since Go 1.26, or
/// the table's header, or the section. The first that leads to code for every function is taken.
fn text_start(
    elf: &Elf<'_>,
    context: &BinaryContext<'_>,
    moduledata: Option<&Moduledata>,
    table: &PcTable<'_>,
) -> Option<u64> {
    let section = context.sections().text_section.map(|it| it.va);
    let candidates = [moduledata.map(|it| it.text), table.stated_text(), section];
    let (first, last) = table.entry_range()?;
    candidates.into_iter().flatten().find(|start| {
        let is_code = |offset: u32| {
            let svma = start.checked_add(u64::from(offset));
            svma.is_some_and(|svma| !elf.code_up_to(svma, 1).is_empty())
        };
        *start != 0 && is_code(first) && is_code(last)
    })
}

/// Whether a program states that it was built for this: `CGO_ENABLED`, `-race`.
fn setting<'d>(build: Option<&BuildInfo<'d>>, key: &str) -> Option<&'d str> {
    build.and_then(|it| it.setting(key))
}
