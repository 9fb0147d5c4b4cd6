//! Owns files that were opened when they were mapped, until somebody asks for them.
//! Must not know what is in them.

use std::{collections::VecDeque, fs::File};

use rustc_hash::FxHashMap;

use crate::host::maps::{BuildId, Mapping};

/// As many files are kept. A busy host maps some hundred distinct ones, and each takes a descriptor.
pub const EARLY_FILES_MAX: usize = 1_024;

/// What a mapping tells of its file: with the same mark, one file is as good as the other for names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    build_id: Option<BuildId>,
    device: (u32, u32),
    inode: u64,
    path: String,
}

impl Mark {
    /// Of a mapping.
    #[must_use]
    pub fn of(mapping: &Mapping) -> Self {
        Self {
            build_id: mapping.build_id,
            device: mapping.device,
            inode: mapping.inode,
            path: mapping.path.clone(),
        }
    }
}

/// Files by what their mappings tell; the oldest makes room.
#[derive(Default)]
pub(super) struct EarlyFiles {
    files: FxHashMap<Mark, File>,
    order: VecDeque<Mark>,
}

impl EarlyFiles {
    /// Keeps a file.
    pub(super) fn keep(&mut self, mapping: &Mapping, file: File) {
        let mark = Mark::of(mapping);
        if self.order.len() >= EARLY_FILES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
        self.order.push_back(mark.clone());
        self.files.insert(mark, file);
    }

    /// Gives the file of a mapping away.
    pub(super) fn take(&mut self, mapping: &Mapping) -> Option<File> {
        self.files.remove(&Mark::of(mapping))
    }
}
