//! Owns the comparison: the same stack walked by framehop, from what the probes walked it from.
//! Must not know the programs.

use std::{collections::BTreeMap, fs::File, num::NonZeroU64, path::Path};

use framehop::{
    ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _,
    x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64},
};
use leaktrace::{
    host::maps::{Mapping, read_maps},
    unwind::FrameSections,
};
use leaktrace_common::{
    event::{Oracle, StackEnd},
    limits::{ORACLE_SLICE_BYTES, STACK_FRAMES_MAX},
};

/// A stack and what it was walked from.
pub struct Walked {
    pub tgid: u32,
    stack_pointer: u64,
    frame_pointer: u64,
    pub end: StackEnd,
    pub frames: Vec<u64>,
    slice: Vec<u8>,
}

impl Walked {
    /// From the bytes of an `Oracle`.
    fn parse(record: &[u8]) -> Self {
        let word = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().unwrap());
        let frame_count = half(24) as usize;
        assert!(frame_count <= STACK_FRAMES_MAX);
        let slice = &record[40 + 8 * STACK_FRAMES_MAX..];
        Self {
            tgid: half(4),
            stack_pointer: word(8),
            frame_pointer: word(16),
            end: StackEnd::from_number(half(28)).expect("the probes know why it ends"),
            frames: (0..frame_count).map(|at| word(40 + 8 * at)).collect(),
            slice: slice[..half(32) as usize].to_vec(),
        }
    }

    fn read(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.stack_pointer)?).ok()?;
        let bytes = self.slice.get(at..at.checked_add(8)?)?;
        Some(u64::from_ne_bytes(bytes.try_into().unwrap()))
    }
}

/// All whole records of a file.
pub fn read_all(path: &Path) -> Vec<Walked> {
    let bytes = std::fs::read(path).unwrap();
    let (records, _torn) = bytes.as_chunks::<{ size_of::<Oracle>() }>();
    records.iter().map(|record| Walked::parse(record)).collect()
}

/// What framehop found.
struct Expected {
    frames: Vec<u64>,
    /// It wanted memory that was not copied.
    is_cut: bool,
}

/// One process, as framehop sees it.
pub struct Unwinding {
    unwinder: UnwinderX86_64<Vec<u8>>,
    cache: CacheX86_64,
    mappings: Vec<Mapping>,
}

impl Unwinding {
    /// Of a process as it is now.
    pub fn of(pid: u32) -> Self {
        let mappings = read_maps(pid).unwrap();
        let mut unwinder = UnwinderX86_64::new();
        for mapping in mappings.iter().filter(|it| it.is_file()) {
            let path = format!(
                "/proc/{pid}/map_files/{:x}-{:x}",
                mapping.start, mapping.end
            );
            let found = File::open(path).and_then(|file| FrameSections::read(&file));
            if let Some(module) = found.ok().and_then(|found| module(mapping, &found)) {
                unwinder.add_module(module);
            }
        }
        Self {
            unwinder,
            cache: CacheX86_64::new(),
            mappings,
        }
    }

    fn walk(&mut self, walked: &Walked) -> Expected {
        let mut expected = Expected {
            frames: Vec::new(),
            is_cut: false,
        };
        let Some(first) = walked.read(walked.stack_pointer) else {
            expected.is_cut = true;
            return expected;
        };
        expected.frames.push(first);
        let mut registers =
            UnwindRegsX86_64::new(first, walked.stack_pointer + 8, walked.frame_pointer);
        let mut caller = first;
        while expected.frames.len() < STACK_FRAMES_MAX {
            let Some(address) = NonZeroU64::new(caller) else {
                break;
            };
            let is_cut = &mut expected.is_cut;
            let mut read = |address| {
                walked.read(address).ok_or_else(|| {
                    *is_cut = true;
                })
            };
            let address = FrameAddress::ReturnAddress(address);
            let next =
                self.unwinder
                    .unwind_frame(address, &mut registers, &mut self.cache, &mut read);
            match next {
                // What ends a stack is no frame: 0 or a mark that cannot be code.
                Ok(Some(next)) if next >= 4096 => caller = next,
                _ => break,
            }
            expected.frames.push(caller);
        }
        expected
    }

    /// An address as its file and offset, for people.
    fn place(&self, address: u64) -> String {
        let holds = |it: &&Mapping| (it.start..it.end).contains(&address);
        match self.mappings.iter().find(holds) {
            Some(mapping) => {
                let name = mapping.path.rsplit('/').next().unwrap_or_default();
                format!("{name}+{:#x}", mapping.file_offset_of(address))
            }
            None => format!("{address:#x}"),
        }
    }

    fn show(&self, walked: &Walked, expected: &Expected) -> String {
        let places = |frames: &[u64]| -> Vec<String> {
            frames.iter().map(|frame| self.place(*frame)).collect()
        };
        format!(
            "end {:?}\n    ours: {:?}\n  theirs: {:?}",
            walked.end,
            places(&walked.frames),
            places(&expected.frames)
        )
    }
}

/// A mapping for framehop, which wants the file's addresses.
fn module(mapping: &Mapping, found: &FrameSections) -> Option<Module<Vec<u8>>> {
    let code = found.code.iter().find(|it| {
        let from = u64::from(it.file_offset) & !4095;
        (from..u64::from(it.file_offset) + u64::from(it.size_bytes)).contains(&mapping.file_offset)
    })?;
    let svma = mapping.file_offset.wrapping_add(code.svma) - u64::from(code.file_offset);
    let range = |section: &leaktrace::unwind::sections::Section| {
        section.svma..section.svma + section.bytes.len() as u64
    };
    let some = |section: &leaktrace::unwind::sections::Section| {
        (!section.bytes.is_empty()).then(|| section.bytes.clone())
    };
    Some(Module::new(
        mapping.path.clone(),
        mapping.start..mapping.end,
        mapping.start.wrapping_sub(svma),
        ExplicitModuleSectionInfo {
            eh_frame_svma: Some(range(&found.eh_frame)),
            eh_frame: some(&found.eh_frame),
            debug_frame: some(&found.debug_frame),
            ..ExplicitModuleSectionInfo::default()
        },
    ))
}

/// A stack of which framehop has only the beginning.
#[derive(Debug)]
pub struct Longer {
    /// All frames.
    pub ours: Vec<u64>,
    /// How many of them framehop has.
    pub theirs: usize,
}

/// How many stacks compared how.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frame by frame the same.
    pub equal: usize,
    /// The same as far as the copied part of the stack goes.
    pub cut: usize,
    /// Ours has all of framehop's frames and goes on, where framehop gives up: from C's stack to a goroutine's.
    pub longer: Vec<Longer>,
    /// Ours ends at a rule that the tables cannot hold, and says so.
    pub bad_rule: usize,
    /// Neither.
    pub different: usize,
    /// Frames compared.
    pub frames: usize,
    /// Why ours end.
    pub ends: BTreeMap<String, usize>,
    /// The first that differ, for people.
    pub examples: Vec<String>,
}

impl Tally {
    /// Compares stacks of a process.
    pub fn of(unwinding: &mut Unwinding, stacks: &[Walked]) -> Self {
        let mut tally = Self::default();
        for walked in stacks {
            let expected = unwinding.walk(walked);
            let ours = &walked.frames;
            let is_prefix = ours.starts_with(&expected.frames);
            *tally.ends.entry(format!("{:?}", walked.end)).or_default() += 1;
            tally.frames += ours.len();
            if *ours == expected.frames {
                tally.equal += 1;
            } else if is_prefix && expected.is_cut && walked.slice.len() <= ORACLE_SLICE_BYTES {
                tally.cut += 1;
            } else if is_prefix {
                tally.longer.push(Longer {
                    ours: ours.clone(),
                    theirs: expected.frames.len(),
                });
            } else if walked.end == StackEnd::BadRule && expected.frames.starts_with(ours) {
                tally.bad_rule += 1;
            } else {
                tally.different += 1;
            }
            if *ours != expected.frames && tally.examples.len() < 3 && !expected.is_cut {
                tally.examples.push(unwinding.show(walked, &expected));
            }
        }
        tally
    }
}
