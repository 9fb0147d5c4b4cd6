//! Stacks as a release build of Rust makes them: worker threads that take boxed tasks from a channel, closures in
//! closures, sorts that allocate, panics that are caught. Runs until its input ends.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

type Task = Box<dyn FnOnce(u64) -> usize + Send>;

/// Each task allocates in another way.
fn task(number: u64) -> Task {
    match number % 5 {
        0 => Box::new(|seed| {
            let mut words: Vec<String> = (0..30).map(|at| format!("{}", seed * 31 + at * 7919 % 101)).collect();
            words.sort_by(|a, b| a.chars().rev().collect::<String>().cmp(&b.chars().rev().collect()));
            words.concat().len()
        }),
        1 => Box::new(|seed| {
            let map: HashMap<String, Vec<u64>> = (0..10).map(|at| (format!("{at}-{seed}"), vec![at; 3])).collect();
            map.values().map(Vec::len).sum()
        }),
        2 => Box::new(|seed| {
            let failed = panic::catch_unwind(move || {
                if seed % 2 == 0 {
                    panic::resume_unwind(Box::new(format!("{seed}")));
                }
                format!("{seed:?}").len()
            });
            failed.unwrap_or(7)
        }),
        3 => Box::new(|seed| deeper(seed, 14)),
        _ => Box::new(|seed| {
            let tree: BTreeMap<u64, Box<u64>> = (0..40).map(|at| (at ^ seed, Box::new(at))).collect();
            tree.len()
        }),
    }
}

#[inline(never)]
fn deeper(seed: u64, depth: u64) -> usize {
    let text = format!("{seed}/{depth}");
    if depth == 0 {
        return text.len();
    }
    std::hint::black_box(text).len() + deeper(seed + 1, depth - 1)
}

fn main() {
    panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = mpsc::channel::<Task>();
    let receiver = Arc::new(Mutex::new(receiver));
    let is_over = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..3)
        .map(|number| {
            let receiver = Arc::clone(&receiver);
            thread::spawn(move || {
                let mut seed = number;
                loop {
                    let taken = receiver.lock().expect("no task holds it").recv();
                    let Ok(task) = taken else { return };
                    seed += task(seed) as u64;
                }
            })
        })
        .collect();
    let feeder = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                sender.send(task(number)).expect("workers live as long");
                thread::sleep(Duration::from_micros(200));
            }
        }
    });
    println!("ready {}", std::process::id());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    is_over.store(true, Ordering::Relaxed);
    feeder.join().expect("it ends by itself");
    for worker in workers {
        worker.join().expect("tasks catch their panics");
    }
}
