//! Owns what tests and benchmarks of stacks ask of a trace: to pass some on, to be checked by another unwinder, and to
//! walk them by frame pointers.
//! Must not know how they are checked.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::Context as _;

use super::{Tracer, context::Context};

impl Tracer {
    /// Has stacks written to a file with what they were walked from, where the probes send them.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn write_oracle(&mut self, path: Option<&Path>) -> anyhow::Result<()> {
        self.context.oracle = path
            .map(File::create)
            .transpose()
            .context("cannot write the stacks to check")?;
        Ok(())
    }

    /// Whether stacks are walked by unwind tables, as they are unless told otherwise.
    pub fn use_unwind_tables(&mut self, is_used: bool) {
        self.unwinding.is_off = !is_used;
    }
}

impl Context {
    /// Passes a record on as it came.
    pub fn pass_on(&self, record: &[u8]) {
        if let Some(mut file) = self.oracle.as_ref() {
            // A file that cannot be written is seen to be short by who checks it.
            let _ = file.write_all(record);
        }
    }
}
