//! Owns a function table on memory of its own, and how much of that it takes.
//! Must not know who keeps it.

use std::borrow::Cow;

use super::{super::GoError, FUNCDATA_INLINE_TREE, PcTable};

/// The room that the last function's inline tree gets in a copy.
const LAST_TREE_BYTES: usize = 64 * 1024;

/// The room that the last function's record gets, where nothing tells the table's end: eleven words, and one for each
/// table that belongs to it.
const LAST_RECORD_BYTES: usize = 4096;

/// No more is copied of either: the largest programs of Kubernetes have some 60 megabytes. What lies behind has no name.
const COPY_BYTES_MAX: usize = 256 << 20;

impl<'d> PcTable<'d> {
    /// A table alone, without the file around it, of code that begins at an address.
    ///
    /// # Errors
    ///
    /// When it does not begin with a sound header.
    pub fn of_bytes(
        bytes: &'d [u8],
        trees: &'d [u8],
        text_start_svma: u64,
    ) -> Result<Self, GoError> {
        let mut table = Self::new(bytes, None)?;
        table.place(text_start_svma);
        table.attach_inline_trees(trees);
        Ok(table)
    }

    /// The same on memory of its own, as far as it leads to anything.
    #[must_use]
    pub fn into_owned(self) -> PcTable<'static> {
        let records = || (0..self.meta.nfunc).filter_map(|index| self.record_offset(index));
        let last_record = records().max().map_or(0, |at| at + LAST_RECORD_BYTES);
        let functab_end = self.meta.functab_offset + self.meta.nfunc * 8 + 4;
        let last_tree = (0..self.meta.nfunc).filter_map(|index| {
            let offset = self
                .view()
                .funcdata_at(&self.record(index)?, FUNCDATA_INLINE_TREE)?;
            (offset != u32::MAX).then_some(offset as usize)
        });
        let trees_end = last_tree.max().map_or(0, |offset| offset + LAST_TREE_BYTES);
        PcTable {
            trees: copy(&self.trees, trees_end),
            table: copy(&self.table, functab_end.max(last_record)),
            meta: self.meta,
            text_start_svma: self.text_start_svma,
        }
    }

    /// The memory that it takes where it is owned.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.table.len() + self.trees.len()
    }

    /// Where a function's record lies in the table.
    fn record_offset(&self, index: usize) -> Option<usize> {
        let at = self.word(self.meta.functab_offset + index * 8 + 4)?;
        Some(self.meta.functab_offset + at as usize)
    }
}

fn copy(bytes: &[u8], end: usize) -> Cow<'static, [u8]> {
    let end = end.min(COPY_BYTES_MAX).min(bytes.len());
    Cow::Owned(bytes[..end].to_vec())
}
