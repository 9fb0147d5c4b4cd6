//! Owns the thread that makes unwind tables from files.
//! Must not know what becomes of them.

use std::{
    fs::File,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use anyhow::Context as _;

use crate::{
    modules::ModuleId,
    unwind::{FrameSections, Table},
};

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
                for Wanted {
                    module,
                    is_trusted,
                    file,
                } in queue
                {
                    let sections = FrameSections::read(&file).ok();
                    let table = sections.map(|sections| Table::build(&sections).0);
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
