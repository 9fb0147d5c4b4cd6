//! Owns the passing on of stacks that another unwinder is to check.
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
