//! Owns taking probes out of the kernel, without anybody having to wait for it, and before the agent ends.
//! Must not know which probes they are.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::programs::uprobe::UProbeLink;

/// Threads that close links. The kernel waits for every running probe of the host when one goes, some tens of
/// milliseconds in which this thread sleeps and others may wait for the same end: a host with 60 allocators has 240 links.
const THREADS: usize = 32;

/// As long does an end in haste wait for links that are being closed: 64 of them take no longer on an idle host.
const HASTE: Duration = Duration::from_secs(5);

/// Links that are being closed right now.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Whether no more links are to be closed, because the process ends.
static ENDS: AtomicBool = AtomicBool::new(false);

/// The links of one file, in the order in which they are to be closed.
type Links = Vec<UProbeLink>;

/// Closes links on threads of its own; dropping it waits until all are closed.
///
/// The process must not end before: a thread that is killed while the kernel takes a breakpoint out of some process's
/// memory leaves it there, for as long as that process lives.
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/events/uprobes.c>, `uprobe_unregister_nosync`
#[derive(Debug)]
pub(super) struct Closer {
    links: Option<mpsc::Sender<Links>>,
    threads: Vec<JoinHandle<()>>,
}

impl Closer {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub(super) fn start() -> anyhow::Result<Self> {
        let (sender, links) = mpsc::channel::<Links>();
        let links = Arc::new(Mutex::new(links));
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let links = Arc::clone(&links);
            let thread = thread::Builder::new().name("link-closer".to_owned());
            let thread = thread.spawn(move || close_all(&links));
            threads.push(thread.context("failed to start a thread that closes links")?);
        }
        Ok(Self {
            links: Some(sender),
            threads,
        })
    }

    /// Closes these soon, in this order.
    pub(super) fn close(&self, links: Links) {
        // Should nobody take them, they are closed right here.
        let _ = self.links.as_ref().map(|sender| sender.send(links));
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.links = None;
        for thread in self.threads.drain(..) {
            // One that panicked has closed what it had.
            let _ = thread.join();
        }
    }
}

fn close_all(links: &Mutex<mpsc::Receiver<Links>>) {
    loop {
        let next = links.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(next) = next else { return };
        for link in next {
            BUSY.fetch_add(1, Ordering::SeqCst);
            if ENDS.load(Ordering::SeqCst) {
                // The kernel closes it with the process.
                std::mem::forget(link);
            } else {
                drop(link);
            }
            BUSY.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Closes nothing more and waits, not for long, until no link is being closed: then the process may end at once, and the
/// kernel closes the others.
pub fn end_in_haste() {
    ENDS.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + HASTE;
    while BUSY.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}
