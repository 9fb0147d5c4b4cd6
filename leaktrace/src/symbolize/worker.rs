//! Owns blazesym and what was already looked up.
//! Must not know threads or who asks.

use std::{
    io::IsTerminal as _,
    panic::{self, AssertUnwindSafe},
};

use blazesym::symbolize::{
    CodeInfo, Input, Reason, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Request, bare,
    demangle::{demangle, printable},
    fetcher::Fetcher,
    go,
    image::Image,
    perf_map::PerfMap,
    unresolved,
};
use crate::{
    golang::binary::PcTable,
    host::footprint::{self, Footprint},
    modules::ModuleId,
    report::model::Frame,
};

/// As many modules as blazesym holds parsed, each with up to two descriptors; a
/// report touches some dozen modules.
const IMAGES_MAX: usize = 128;

/// As much as the agent's memory may grow while blazesym holds the same files.
/// Parsed debug info takes 5 to 50 MiB a module here, and nobody can tell before,
/// so that the last one may go beyond it by its own size, until all that was asked is answered.
/// Other parts of the agent grow as well: that only means to parse again.
const GROWTH_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// As much as may stay mapped of files while blazesym holds them. The kernel takes such pages back where it needs them,
/// but they count as the agent's.
const MAPPED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// As much as copies of files take together, beyond which all are dropped.
const COPIES_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// As much as answers take together: those of a whole report, which asks for some
/// thousand addresses of 0.5 to 2 KiB each.
const ANSWERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// More inlined functions at one address are left out.
const INLINED_MAX: usize = 64;

/// Longer source paths are cut.
const PATH_BYTES_MAX: usize = 1024;

/// Files with as much debug info take seconds to read: people at a terminal are told.
const TOLD_MEGABYTES_MIN: u64 = 64;

/// As much as maps of generated code take together, beyond which all are read again.
const PERF_MAPS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longer names of generated code are cut.
const NAME_BYTES_MAX: usize = 1024;

/// What became of a module.
enum Opened {
    Image(Image),
    /// Why it has no names, for all its addresses.
    Failed(String),
}

/// What the thread keeps between jobs.
///
/// blazesym never forgets a file, so it is dropped with all that it holds when
/// there is too much. Reports ask for the same files again and again: a rule
/// that keeps the right ones would rarely be needed.
pub(super) struct Worker {
    symbolizer: Symbolizer,
    modules: FxHashMap<ModuleId, Opened>,
    /// The function tables of those that are Go programs.
    go_tables: FxHashMap<ModuleId, PcTable<'static>>,
    images: usize,
    copied_bytes: u64,
    /// The agent's memory when blazesym held nothing.
    before: Footprint,
    answers: FxHashMap<(ModuleId, u64, bool), Vec<Frame>>,
    answers_bytes: usize,
    /// Modules that made blazesym panic: never tried again.
    broken: FxHashSet<ModuleId>,
    /// Names of generated code.
    perf_maps: FxHashMap<ModuleId, PerfMap>,
    servers: Fetcher,
}

impl Worker {
    /// One that asks these servers for debug info that the host does not have.
    pub(super) fn new(servers: Fetcher) -> Self {
        Self {
            symbolizer: new_symbolizer(),
            modules: FxHashMap::default(),
            go_tables: FxHashMap::default(),
            images: 0,
            copied_bytes: 0,
            before: Footprint::now(),
            answers: FxHashMap::default(),
            answers_bytes: 0,
            broken: FxHashSet::default(),
            perf_maps: FxHashMap::default(),
            servers,
        }
    }
}

/// A descriptor number stands for one file as long as its image is kept, and
/// both go together: so blazesym need not look at the file again each time.
/// Names are demangled by us, within limits.
fn new_symbolizer() -> Symbolizer {
    Symbolizer::builder()
        .enable_auto_reload(false)
        .enable_demangling(false)
        .build()
}

impl Worker {
    /// Answers requests, in their order.
    pub(super) fn symbolize(&mut self, requests: &[Request]) -> Vec<Vec<Frame>> {
        if self.servers.begin() {
            // What was named without it is named anew.
            self.let_go();
        }
        let mut answers = vec![Vec::new(); requests.len()];
        // File by file, so that none is parsed twice for one report, however soon it is forgotten.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|index| requests[*index].module.id);
        for index in order {
            answers[index] = self.symbolize_one(&requests[index]);
        }
        if has_outgrown(Footprint::now(), self.before) {
            self.forget();
        }
        answers
    }

    /// Drops all that can be made again.
    pub(super) fn let_go(&mut self) {
        self.answers = FxHashMap::default();
        self.answers_bytes = 0;
        self.perf_maps = FxHashMap::default();
        self.forget();
    }

    fn symbolize_one(&mut self, request: &Request) -> Vec<Frame> {
        let key = (
            request.module.id,
            request.file_offset,
            request.is_return_address,
        );
        if request.module.is_perf_map {
            // Never remembered: the map grows, and code takes the place of other code.
            return self.ask_perf_map(request);
        }
        if let Some(frames) = self.answers.get(&key) {
            return frames.clone();
        }
        let frames = self.look_up(request);
        if self.answers_bytes >= ANSWERS_BYTES_MAX {
            self.answers = FxHashMap::default();
            self.answers_bytes = 0;
        }
        self.answers_bytes += size_of_val(&key) + frames.iter().map(frame_bytes).sum::<usize>();
        self.answers.insert(key, frames.clone());
        frames
    }

    /// Asks blazesym, and survives it.
    fn look_up(&mut self, request: &Request) -> Vec<Frame> {
        if let Some(missing) = request.module.missing {
            return vec![unresolved(request, missing.reason())];
        }
        if self.broken.contains(&request.module.id) {
            return vec![unresolved(request, "malformed file")];
        }
        // After a panic everything that it may have left half done is dropped.
        match panic::catch_unwind(AssertUnwindSafe(|| self.ask(request))) {
            Ok(frames) => frames,
            Err(_) => {
                self.broken.insert(request.module.id);
                self.forget();
                vec![unresolved(request, "malformed file")]
            }
        }
    }

    fn ask(&mut self, request: &Request) -> Vec<Frame> {
        let image = match self.open(request) {
            Ok(()) => match self.modules.get(&request.module.id) {
                Some(Opened::Image(image)) => image,
                _ => return vec![unresolved(request, "file not readable")],
            },
            Err(reason) => return vec![unresolved(request, &reason)],
        };
        let Some(svma) = image.svma(request.lookup_offset()) else {
            return vec![unresolved(request, "no code at this offset")];
        };
        if let Some(table) = self.go_tables.get(&request.module.id) {
            let frames = go::frames(table, request, svma);
            if !frames.is_empty() {
                return frames;
            }
        }
        let mut reason = "no symbols";
        for source in &image.sources {
            let mut elf = Elf::new(source.path());
            elf.debug_syms = source.has_debug_info;
            let answer = self
                .symbolizer
                .symbolize_single(&Source::Elf(elf), Input::VirtOffset(svma));
            match answer {
                Ok(Symbolized::Sym(symbol)) => return frames(request, &symbol),
                Ok(Symbolized::Unknown(Reason::MissingSyms)) => {}
                Ok(Symbolized::Unknown(_)) => reason = "no symbol covers this address",
                Err(_) => reason = "malformed symbol tables",
            }
        }
        match image.function_start(request.lookup_offset()) {
            Some(start) => vec![nameless(request, start, reason)],
            None => vec![unresolved(request, reason)],
        }
    }

    /// Names generated code by the map that its maker writes.
    fn ask_perf_map(&mut self, request: &Request) -> Vec<Frame> {
        let Some(file) = &request.module.file else {
            return vec![unresolved(request, "file not readable")];
        };
        let others: usize = self.perf_maps.values().map(PerfMap::size_bytes).sum();
        if others > PERF_MAPS_BYTES_MAX {
            self.perf_maps.clear();
        }
        let map = self.perf_maps.entry(request.module.id).or_default();
        map.refresh(file);
        match map.name(request.lookup_offset()) {
            Some(name) => vec![Frame {
                function: Some(printable(&name, NAME_BYTES_MAX)),
                ..bare(request)
            }],
            None => vec![unresolved(request, "not in the map of generated code")],
        }
    }

    /// Sees to it that the module is prepared; fails with the reason if it cannot be.
    fn open(&mut self, request: &Request) -> Result<(), String> {
        let module = &request.module;
        match self.modules.get(&module.id) {
            Some(Opened::Image(_)) => return Ok(()),
            Some(Opened::Failed(reason)) => return Err(reason.clone()),
            None => {}
        }
        if self.images >= IMAGES_MAX
            || self.copied_bytes >= COPIES_BYTES_MAX
            || has_outgrown(Footprint::now(), self.before)
        {
            self.forget();
        }
        match Image::prepare(module, &mut self.servers) {
            Ok(image) => {
                if let Some(table) = go::read_table(module) {
                    self.copied_bytes += table.size_bytes() as u64;
                    self.go_tables.insert(module.id, table);
                }
                let megabytes = image.debug_bytes() >> 20;
                if megabytes >= TOLD_MEGABYTES_MIN && std::io::stderr().is_terminal() {
                    eprintln!(
                        "leaktrace: reading debug info of {} ({megabytes} MiB)",
                        module.name
                    );
                }
                self.images += 1;
                self.copied_bytes += image.sources.iter().map(|it| it.copied_bytes).sum::<u64>();
                self.modules.insert(module.id, Opened::Image(image));
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                self.modules
                    .insert(module.id, Opened::Failed(reason.clone()));
                Err(reason)
            }
        }
    }

    /// Drops all files and what blazesym holds of them; answers stay.
    fn forget(&mut self) {
        self.symbolizer = new_symbolizer();
        self.modules.clear();
        self.go_tables.clear();
        self.images = 0;
        self.copied_bytes = 0;
        // Else what was just freed would count as ours from the beginning, and as much could come on top of it.
        footprint::give_back();
        self.before = Footprint::now();
    }
}

/// The frame of a function without a name: called by where it begins in its file, so that all its
/// addresses have one name, and still said to have none of its own.
fn nameless(request: &Request, start: u32, reason: &str) -> Frame {
    Frame {
        function: Some(format!("{}!sub_{start:x}", request.module.name)),
        ..unresolved(request, reason)
    }
}

/// The memory that a frame takes.
fn frame_bytes(frame: &Frame) -> usize {
    let texts = [
        &frame.function,
        &frame.file,
        &frame.module,
        &frame.build_id,
        &frame.unresolved,
    ];
    size_of_val(frame) + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

/// Whether so much was added that blazesym must let go of what it holds.
fn has_outgrown(now: Footprint, before: Footprint) -> bool {
    now.own_bytes.saturating_sub(before.own_bytes) >= GROWTH_BYTES_MAX
        || now.mapped_bytes.saturating_sub(before.mapped_bytes) >= MAPPED_BYTES_MAX
}

/// The frames of one address: blazesym lists inlined functions from the outermost
/// to the innermost, reports go the other way.
fn frames(request: &Request, symbol: &Sym<'_>) -> Vec<Frame> {
    let frame = |name: &str, place: Option<&CodeInfo<'_>>, inlined| {
        let function = (!name.is_empty()).then(|| demangle(name));
        Frame {
            unresolved: function
                .is_none()
                .then(|| "function without a name".to_owned()),
            function,
            file: place.map(|it| printable(&it.to_path().to_string_lossy(), PATH_BYTES_MAX)),
            line: place.and_then(|it| it.line),
            inlined,
            ..bare(request)
        }
    };
    let outermost = frame(&symbol.name, symbol.code_info.as_deref(), false);
    let skipped = symbol.inlined.len().saturating_sub(INLINED_MAX);
    symbol.inlined[skipped..]
        .iter()
        .rev()
        .map(|it| frame(&it.name, it.code_info.as_ref(), true))
        .chain([outermost])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is held is let go of where memory of our own has grown by too much, and where mapped files have.
    #[test]
    fn mapped_files_count_as_growth() {
        let before = Footprint {
            own_bytes: 1 << 30,
            mapped_bytes: 1 << 30,
        };
        let grown = |own: u64, mapped: u64| Footprint {
            own_bytes: before.own_bytes + own,
            mapped_bytes: before.mapped_bytes + mapped,
        };
        let is_due = |now| has_outgrown(now, before);
        assert!(!is_due(grown(GROWTH_BYTES_MAX - 1, MAPPED_BYTES_MAX - 1)));
        assert!(is_due(grown(GROWTH_BYTES_MAX, 0)));
        assert!(is_due(grown(0, MAPPED_BYTES_MAX)));
        assert!(!is_due(Footprint::default()));
    }
}
