//! Owns which version of Go made a program, however little of that was left in it.
//! Must not know what follows from it.

use std::fmt;

use gobin::formats::BinaryContext;
use rustc_hash::FxHashMap;

use super::{PcTable, RUNTIME};

/// As many different version texts as are counted in a file.
const TEXTS_MAX: usize = 256;

/// How a version is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSource {
    /// The program's build information, as `go version FILE` reads it.
    BuildInfo,
    /// The text that the runtime itself keeps, found by looking at all bytes.
    Text,
    /// Functions that the runtime has had since that version: it may be a later one.
    Functions,
}

/// A version of Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `go1.24.11`; with experiments as Go adds them.
    pub text: String,
    /// 24 in it.
    pub minor: u32,
    /// How it is known.
    pub source: VersionSource,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Functions that every program has since a version, several each because an optimizer may inline one.
const MILESTONES: [(u32, [&str; 3]); 6] = [
    (
        22,
        [
            "runtime.(*mspan).typePointersOfUnchecked",
            "runtime.forEachPInternal",
            "runtime.bootstrapRand",
        ],
    ),
    (
        23,
        [
            "runtime.(*timers).check",
            "runtime.(*timers).run",
            "runtime.(*timers).adjust",
        ],
    ),
    (
        24,
        [
            "runtime.mallocgcLarge",
            "runtime.mallocgcSmallScanNoHeader",
            "runtime.(*m).snapshotAllp",
        ],
    ),
    (
        25,
        [
            "runtime.runFinalizers",
            "runtime.gcPrepareMarkRoots",
            "runtime.(*cleanupQueue).enqueue",
        ],
    ),
    (
        26,
        [
            "runtime.entersyscallHandleGCWait",
            "runtime.gcBeginWork",
            "runtime.findMaybeRunnableGoroutines",
        ],
    ),
    (
        27,
        [
            "runtime.addModuleItabs",
            "runtime.moduleTypelinks",
            "runtime.mallocPanic",
        ],
    ),
];

/// What the names of functions tell, found in one pass.
pub(super) struct Traits {
    /// The lowest version that has all that is there.
    pub(super) floor: u32,
    /// Whether C code is linked in.
    pub(super) has_cgo: bool,
    /// Whether the collector is Green Tea.
    pub(super) has_green_tea: bool,
}

impl Traits {
    /// Looks at every function.
    pub(super) fn of(table: &PcTable<'_>, context: &BinaryContext<'_>) -> Self {
        let mut traits = Self {
            floor: 21,
            has_cgo: false,
            has_green_tea: false,
        };
        if context.sections().go_module.is_some() {
            traits.floor = 26;
        }
        let of_c = table.functions_of("crosscall2");
        for function in table.functions_of(RUNTIME).chain(of_c) {
            match function.name {
                // C calls Go through it; it is linked in with `runtime/cgo` alone.
                "crosscall2" => traits.has_cgo = true,
                "runtime.(*mspan).moveInlineMarks" => traits.has_green_tea = true,
                name if name.starts_with("runtime.") => {
                    let reached = MILESTONES.iter().filter(|(_, names)| names.contains(&name));
                    let minor = reached.map(|(minor, _)| *minor).max();
                    traits.floor = traits.floor.max(minor.unwrap_or(0));
                }
                _ => {}
            }
        }
        traits
    }
}

/// The minor version in a text such as `go1.24.11` or `devel go1.28-abcdef`.
pub(super) fn minor_of(text: &str) -> Option<u32> {
    let rest = &text[text.find("go1.")? + 4..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

/// The version: as stated, else the text that the file holds most often, else what its functions tell.
pub(super) fn find(stated: Option<&str>, bytes: &[u8], traits: &Traits) -> Option<Version> {
    if let Some(text) = stated
        && let Some(minor) = minor_of(text)
    {
        return Some(Version {
            text: printable(text),
            minor,
            source: VersionSource::BuildInfo,
        });
    }
    if let Some(text) = most_frequent(bytes, traits.floor) {
        return Some(Version {
            minor: minor_of(&text)?,
            text,
            source: VersionSource::Text,
        });
    }
    Some(Version {
        text: format!("go1.{}", traits.floor),
        minor: traits.floor,
        source: VersionSource::Functions,
    })
}

/// The most frequent text of a version with a patch level. Programs mention other versions too, as
/// `//go:build` lines do, but those are older and have no patch level.
fn most_frequent(bytes: &[u8], floor: u32) -> Option<String> {
    const MARK: &[u8] = b"go1.";
    const TEXT_BYTES_MAX: usize = 16;
    let mut counts: FxHashMap<&str, u32> = FxHashMap::default();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == b'g') {
        rest = &rest[at..];
        if !rest.starts_with(MARK) {
            rest = &rest[1..];
            continue;
        }
        let window = &rest[MARK.len()..rest.len().min(TEXT_BYTES_MAX)];
        let is_part =
            |byte: &u8| byte.is_ascii_digit() || *byte == b'.' || b"rcbeta".contains(byte);
        let len = MARK.len() + window.iter().take_while(|byte| is_part(byte)).count();
        let text = std::str::from_utf8(&rest[..len]).unwrap_or_default();
        rest = &rest[MARK.len()..];
        let text = text.trim_end_matches(|last: char| !last.is_ascii_digit());
        let has_patch =
            text.len() > MARK.len() + 2 && text[MARK.len() + 2..].starts_with(['.', 'r', 'b']);
        if has_patch
            && minor_of(text).is_some_and(|minor| minor >= floor)
            && (counts.len() < TEXTS_MAX || counts.contains_key(text))
        {
            *counts.entry(text).or_default() += 1;
        }
    }
    let best = counts
        .into_iter()
        .max_by_key(|(text, count)| (*count, *text));
    best.map(|(text, _)| text.to_owned())
}

/// The text belongs to whoever made the program.
fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 128;
    let chars = text.chars().take(CHARS_MAX);
    chars
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}
