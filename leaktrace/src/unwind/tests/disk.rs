//! The cache: it gives back what it was given, and nothing else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use super::{libc_path, sections};
use crate::unwind::{FrameSections, Table, cache::Cache};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("leaktrace-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    /// The only entry.
    fn entry(&self) -> PathBuf {
        let entries = fs::read_dir(&self.0).expect("the directory is there");
        let mut tables = entries
            .map(|it| it.expect("an entry").path())
            .filter(|it| it.extension().is_some_and(|it| it == "table"));
        tables.next().expect("an entry is there")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A table comes back equal, in another run too, and only for the bytes that it was made from.
#[test]
fn tables_come_back() {
    let directory = Directory::new("back");
    let cache = Cache::open(&directory.0).expect("a new directory");
    let found = sections(&libc_path());
    let (table, _) = Table::build(&found);
    assert_eq!(cache.load(&found), None);
    cache.store(&found, &table).expect("room");
    let again = Cache::open(&directory.0).expect("our directory");
    assert_eq!(again.load(&found).as_ref(), Some(&table));
    let mut moved = found.clone();
    moved.code[0].file_offset += 4096;
    assert_eq!(again.load(&moved), None);
    let mut changed = found.clone();
    changed.eh_frame.bytes[100] ^= 1;
    assert_eq!(again.load(&changed), None);
    let empty = FrameSections::default();
    cache.store(&empty, &Table::default()).expect("room");
    assert_eq!(cache.load(&empty), Some(Table::default()));
}

/// Torn, changed, foreign and misplaced entries are not there.
#[test]
fn unsound_entries_are_not_there() {
    let directory = Directory::new("unsound");
    let cache = Cache::open(&directory.0).expect("a new directory");
    let found = sections("/proc/self/exe");
    let small = FrameSections {
        code: found.code.clone(),
        ..FrameSections::default()
    };
    let table = Table::from_parts(
        vec![1, 2, 3],
        vec![1, 2, 0],
        vec![
            leaktrace_common::unwind::Rule::NONE,
            leaktrace_common::unwind::Rule::BAD,
            leaktrace_common::unwind::Rule::END,
        ],
    )
    .expect("a sound table");
    cache.store(&small, &table).expect("room");
    let path = directory.entry();
    let whole = fs::read(&path).expect("the entry");
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).expect("room");
        assert_eq!(cache.load(&small), None, "{length}");
    }
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, changed).expect("room");
        assert_eq!(cache.load(&small), None, "{bit}");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).expect("room");
    assert_eq!(cache.load(&small), None);
    fs::write(&path, &whole).expect("room");
    assert_eq!(cache.load(&small), Some(table));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).expect("ours");
    assert_eq!(cache.load(&small), None);
    let other = directory.0.join("other");
    fs::rename(&path, &other).expect("ours");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("ours");
    symlink(&other, &path).expect("ours");
    assert_eq!(cache.load(&small), None);
}

/// Directories that others can write, and links to directories, are refused; a lost secret makes
/// all entries unknown.
#[test]
fn directories_must_be_ours() {
    let directory = Directory::new("ours");
    let cache = Cache::open(&directory.0).expect("a new directory");
    let found = FrameSections::default();
    cache.store(&found, &Table::default()).expect("room");
    let link = Directory::new("link");
    symlink(&directory.0, &link.0).expect("room");
    assert!(Cache::open(&link.0).is_err());
    fs::remove_file(&link.0).expect("ours");
    fs::write(directory.0.join("secret"), b"short").expect("ours");
    let cache = Cache::open(&directory.0).expect("a new secret");
    assert_eq!(cache.load(&found), None);
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o770)).expect("ours");
    assert!(Cache::open(&directory.0).is_err());
}

/// The least recently used go first.
#[test]
fn pruning_keeps_what_is_used() {
    let directory = Directory::new("prune");
    let cache = Cache::open(&directory.0).expect("a new directory");
    let mut made = Vec::new();
    for number in 0..4 {
        let mut found = FrameSections::default();
        found.eh_frame.svma = number;
        cache.store(&found, &Table::default()).expect("room");
        made.push(found);
    }
    let size = fs::metadata(directory.entry()).expect("an entry").len();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(cache.load(&made[1]).is_some());
    let pruned = cache.prune(size).expect("our directory");
    assert_eq!((pruned.kept_bytes, pruned.removed), (size, 3));
    assert!(cache.load(&made[1]).is_some());
    assert!(cache.load(&made[0]).is_none());
}
