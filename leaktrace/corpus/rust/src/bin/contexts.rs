//! Owns large objects that small references retain: a slice of `Bytes` that pins its request's body, and a closure
//! that keeps its context. Beside them a copy of the slice, an arena, and the origin's task, which does not leak.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;

const BODY_BYTES: usize = 4096;

#[inline(never)]
fn read(id: usize) -> Bytes {
    Bytes::from(vec![id as u8; BODY_BYTES]) // LEAK: pinned body 81920 bytes/s
}

#[inline(never)]
fn read_short(id: usize) -> Bytes {
    Bytes::from(vec![id as u8; BODY_BYTES / 2]) // INNOCENT: body that is copied from
}

#[inline(never)]
fn later(id: usize) -> Box<dyn Fn() -> usize> {
    let context = vec![id; 64]; // LEAK: context of a closure 10240 bytes/s
    Box::new(move || context[0]) // LEAK: closure 480 bytes/s
}

#[inline(never)]
fn scratch(arena: &mut Vec<Vec<u8>>) {
    arena.push(vec![7; 2048]); // INNOCENT: arena
    if arena.len() == 1000 {
        arena.clear();
    }
}

/// The example of the text: it is said to leak and to be rejected. It compiles, and the string is freed.
async fn leaky_async_task() {
    let context = "request context".repeat(20); // INNOCENT: context of a sleeping task
    let task = async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        drop(context);
    };
    tokio::spawn(task); // INNOCENT: sleeping task
}

fn main() {
    let mut index = HashMap::new();
    let mut shorts = HashMap::new();
    let (mut callbacks, mut arena) = (Vec::new(), Vec::new());
    corpus::drive(|id| {
        if id % 10 == 0 {
            index.insert(id, read(id).slice(..16)); // LEAK: index of bodies 83900 bytes/s
            callbacks.push(later(id)); // EITHER: list of callbacks, which grows in steps
        }
        shorts.insert(id % 256, Bytes::copy_from_slice(&read_short(id)[..16])); // INNOCENT: bounded index
        scratch(&mut arena);
        leaky_async_task()
    });
}
