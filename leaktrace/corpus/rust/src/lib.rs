//! Owns what every Rust program of the corpus shares: a load that the program drives itself, at a rate that one core
//! does not notice, for as many seconds as it is told.
//!
//! The truth stands in comments: `LEAK: NAME N bytes/s` and `INNOCENT: NAME` on the line whose call makes the
//! blocks. Where it is `EITHER: NAME`, growth is no error and no growth neither. The runner finds lines by these marks.
//! Functions that leak and their twins differ in more than their names: the compiler makes one of two that are alike.

use std::{env, future::Future, time::Duration};

use tokio::{
    runtime::Builder,
    time::{MissedTickBehavior, interval},
};

/// How many requests come each second.
pub const PER_SECOND: u32 = 200;

/// Calls `serve` with 0, 1, 2… at the rate above until the seconds of the command line are over.
pub fn drive<F: Future<Output = ()>>(mut serve: impl FnMut(usize) -> F) {
    let seconds = env::args()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .unwrap_or(60_usize);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for id in 0..seconds * PER_SECOND as usize {
            serve(id).await;
            ticks.tick().await;
        }
    });
}
