//! Owns a static map whose entries no one removes, and leaks that the compiler is said to reject: `Box::leak` and
//! `mem::forget` behind a generic. Beside them a bounded cache, one that takes ten seconds to fill, a warm-up and a value
//! that is made once.

use std::{
    collections::{HashMap, VecDeque},
    hint::black_box,
    mem,
    sync::{Mutex, OnceLock},
};

static ORPHANS: Mutex<Option<HashMap<usize, Vec<u8>>>> = Mutex::new(None);
static CONFIG: OnceLock<Vec<u8>> = OnceLock::new();

/// Owns what it is given and forgets to give it back, whatever that is.
#[inline(never)]
fn keep<T>(value: T) {
    // Seen, so that the compiler does not leave the value out.
    mem::forget(black_box(value));
}

#[inline(never)]
fn remember(id: usize) {
    let mut orphans = ORPHANS.lock().unwrap();
    orphans.get_or_insert_default().insert(id, vec![1; 256]); // LEAK: orphaned entry 10240 bytes/s
}

#[inline(never)]
fn intern(id: usize) -> &'static str {
    Box::leak(format!("{id:0>64}").into_boxed_str()) // LEAK: interned name 2560 bytes/s
}

#[inline(never)]
fn forget() {
    keep(vec![2_u8; 128]); // LEAK: forgotten through a generic 5120 bytes/s
}

#[inline(never)]
fn bound(cache: &mut VecDeque<Vec<u8>>) {
    if cache.len() == 512 {
        cache.pop_front();
    }
    cache.push_back(vec![3; 512]); // INNOCENT: bounded cache
}

/// The oldest page goes once there are enough; until then it looks like a leak.
#[inline(never)]
fn cache_page(pages: &mut VecDeque<Box<[u8]>>) {
    if pages.len() == 2000 {
        pages.pop_front();
    }
    pages.push_back(vec![6; 256].into()); // INNOCENT: cache that fills slowly
}

#[inline(never)]
fn warm_up(tables: &mut Vec<Vec<u8>>) {
    tables.push(vec![4; 1024]); // INNOCENT: warm-up
}

fn main() {
    let (mut cache, mut tables) = (VecDeque::new(), Vec::new());
    let mut pages = VecDeque::with_capacity(2000);
    corpus::drive(|id| {
        CONFIG.get_or_init(|| vec![5; 4096]); // INNOCENT: made once
        if id % 5 == 0 {
            remember(id);
            intern(id);
            forget();
        }
        bound(&mut cache);
        cache_page(&mut pages);
        if id < 600 {
            warm_up(&mut tables);
        }
        async {}
    });
}
