//! Owns the benchmark `files`: how long unwind tables take to make and to load, how large they are, and how many
//! addresses are named in a second, cold and warm.
//! Must not know probes: it needs no rights.

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs::File,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use leaktrace::{
    host::maps::read_maps,
    modules::{Module, Modules},
    symbolize::{Request, Symbolizer},
    unwind::{FrameSections, Table, cache::Cache},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use support::{Options, Spread, machine};

/// Bytes of a row in the kernel: an address and the number of a rule.
const ROW_BYTES: usize = 6;

/// Files of other kinds and sizes; those that are not there are left out.
const FILES: [&str; 7] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/bin/redis-server",
    "/usr/bin/python3.11",
    "/usr/lib/postgresql/15/bin/postgres",
    "/usr/lib/llvm-14/lib/libLLVM-14.so.1",
    "/usr/bin/node",
];

fn main() -> anyhow::Result<()> {
    let options = Options::read();
    let (rounds, addresses) = if options.is_quick {
        (2, 200)
    } else {
        (7, 5_000)
    };
    println!(
        "files: unwind tables, median of {rounds}; names of {addresses} addresses spread over each file's functions"
    );
    println!("{}", machine());
    println!(
        "{:<22}{:>10}{:>10}{:>10}{:>10}{:>16}{:>10}{:>11}{:>11}",
        "", "rows", "KiB", "read ms", "make ms", "(range)", "load ms", "cold /s", "warm /s"
    );
    let directory = std::env::temp_dir().join(format!("leaktrace-files-{}", std::process::id()));
    let cache = Cache::open(&directory).context("failed to make a cache")?;
    let own = std::env::current_exe()?;
    for path in FILES.map(PathBuf::from).into_iter().chain([own]) {
        if let Ok(path) = path.canonicalize() {
            measure(&path, &cache, rounds, addresses)?;
        }
    }
    std::fs::remove_dir_all(directory)?;
    println!("{}", machine());
    Ok(())
}

/// One line of the table.
fn measure(path: &Path, cache: &Cache, rounds: usize, addresses: usize) -> anyhow::Result<()> {
    let file = File::open(path)?;
    let milliseconds = |work: &mut dyn FnMut()| {
        let times = (0..rounds).map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e3
        });
        Spread::of(times.collect())
    };
    let sections = FrameSections::read(&file)?;
    let table = Table::build(&sections).0;
    cache.store(&sections, &table)?;
    let read = milliseconds(&mut || drop(FrameSections::read(&file)));
    let make = milliseconds(&mut || drop(Table::build(&sections)));
    let load = milliseconds(&mut || assert!(cache.load(&sections).is_some()));
    let (cold, warm) = names_per_second(path, &file, &sections, addresses)?;
    println!(
        "{:<22}{:>10}{:>10}{:>10.1}{:>10.1}{:>16}{:>10.1}{:>11.0}{:>11.0}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        table.len(),
        table.len() * ROW_BYTES / 1024,
        read.median,
        make.median,
        format!("{:.1} to {:.1}", make.min, make.max),
        load.median,
        cold,
        warm
    );
    Ok(())
}

/// Names addresses of a file twice: as in the first report, and as in each that follows.
fn names_per_second(
    path: &Path,
    file: &File,
    sections: &FrameSections,
    addresses: usize,
) -> anyhow::Result<(f64, f64)> {
    let functions = Table::functions(sections);
    let module = mapped(path, file)?;
    let step = (functions.len() / addresses).max(1);
    let requests: Vec<Request> = functions
        .iter()
        .step_by(step)
        .map(|(start, end)| Request {
            module: Arc::clone(&module),
            file_offset: u64::from(start.midpoint(*end)),
            is_return_address: true,
        })
        .collect();
    let symbolizer = Symbolizer::spawn()?;
    let ask = || {
        let began = Instant::now();
        let answers = symbolizer.symbolize_blocking(requests.clone());
        assert_eq!(answers.len(), requests.len());
        requests.len() as f64 / began.elapsed().as_secs_f64()
    };
    Ok((ask(), ask()))
}

/// The file as a module, which is what a process maps: so this one does.
fn mapped(path: &Path, file: &File) -> anyhow::Result<Arc<Module>> {
    let page = NonZeroUsize::new(4096).context("a page has a size")?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
    // SAFETY: a new mapping replaces nothing, and nobody reads or runs it.
    let start = unsafe { mmap(None, page, protection, MapFlags::MAP_PRIVATE, file, 0) }?;
    let start = start.as_ptr().expose_provenance() as u64;
    let mappings = read_maps(std::process::id())?;
    let is_it = |it: &&leaktrace::host::maps::Mapping| (it.start..it.end).contains(&start);
    let mapping = mappings.iter().find(is_it);
    let mapping = mapping.with_context(|| format!("{} is not mapped", path.display()))?;
    let mut modules = Modules::default();
    let id = modules.resolve(std::process::id(), mapping);
    Ok(Arc::clone(modules.get(id)))
}
