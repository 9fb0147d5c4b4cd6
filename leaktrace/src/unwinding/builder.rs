//! Owns the thread that makes unwind tables from files.
//! Must not know what becomes of them.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use anyhow::Context as _;

use crate::{
    modules::ModuleId,
    unwind::{FrameSections, Table, cache::Cache},
};

/// Smaller sections are worked out as fast as they are read: 5 milliseconds.
const CACHED_BYTES_MIN: usize = 256 << 10;

/// As much as kept tables may take on disk: five times what a small server maps.
const CACHE_BYTES_MAX: u64 = 256 << 20;

/// The directory where tables of large files are kept for the next run: that which systemd made for
/// the service, else the system's. None, where it cannot be used: tables are made each time then.
fn open_cache() -> Option<Cache> {
    let given = std::env::var_os("CACHE_DIRECTORY").filter(|it| !it.is_empty());
    let parent = given.map_or_else(|| PathBuf::from("/var/cache/leaktrace"), PathBuf::from);
    let _ = DirBuilder::new().mode(0o700).create(&parent);
    let cache = Cache::open(&parent.join("unwind")).ok()?;
    let _ = cache.prune(CACHE_BYTES_MAX);
    Some(cache)
}

/// A file's table, kept or made.
fn table_of(cache: Option<&Cache>, sections: &FrameSections) -> Table {
    let size_bytes = sections.eh_frame.bytes.len() + sections.debug_frame.bytes.len();
    let cache = cache.filter(|_| size_bytes >= CACHED_BYTES_MIN);
    if let Some(table) = cache.and_then(|cache| cache.load(sections)) {
        return table;
    }
    let table = Table::build(sections).0;
    if let Some(cache) = cache {
        // A full disk costs the next run the time, and nothing else.
        let _ = cache.store(sections, &table);
    }
    table
}

/// A file whose table is wanted.
struct Wanted {
    module: ModuleId,
    is_trusted: bool,
    file: Arc<File>,
}

/// A file whose table is made, or has none.
pub struct Made {
    /// The file.
    pub module: ModuleId,
    /// Whether only root can write it.
    pub is_trusted: bool,
    /// Its table.
    pub table: Option<Table>,
}

/// The way to the thread; it ends when this is dropped.
pub struct Builder {
    wanted: mpsc::Sender<Wanted>,
    made: mpsc::Receiver<Made>,
}

impl Builder {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn() -> anyhow::Result<Self> {
        let (wanted, queue) = mpsc::channel::<Wanted>();
        let (results, made) = mpsc::channel();
        thread::Builder::new()
            .name("unwind-tables".to_owned())
            .spawn(move || {
                let cache = open_cache();
                for Wanted {
                    module,
                    is_trusted,
                    file,
                } in queue
                {
                    let sections = FrameSections::read(&file).ok();
                    let table = sections.map(|sections| table_of(cache.as_ref(), &sections));
                    let table = table.filter(|table| !table.is_empty());
                    if results
                        .send(Made {
                            module,
                            is_trusted,
                            table,
                        })
                        .is_err()
                    {
                        return;
                    }
                }
            })
            .context("failed to start the thread that makes unwind tables")?;
        Ok(Self { wanted, made })
    }

    /// Asks for a file's table.
    pub fn make(&self, module: ModuleId, is_trusted: bool, file: Arc<File>) {
        // Should the thread have died, the file's frames are stepped over by frame pointer.
        let _ = self.wanted.send(Wanted {
            module,
            is_trusted,
            file,
        });
    }

    /// A table that is made, if there is one.
    pub fn take(&self) -> Option<Made> {
        self.made.try_recv().ok()
    }

    /// The next table, unless the deadline comes first.
    pub fn wait(&self, deadline: Instant) -> Option<Made> {
        self.made
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .ok()
    }
}
