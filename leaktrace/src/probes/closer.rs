//! Owns taking probes out of the kernel, without anybody having to wait for it, and before the agent ends.
//! Must not know which probes they are.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::programs::uprobe::UProbeLink;

/// Threads that wait for links to close. The kernel waits for every running probe of the host when one goes, some tens of
/// milliseconds in which this thread sleeps and others may wait for the same end: a host with 60 allocators has 240 links.
const THREADS: usize = 32;

/// Threads at most, while there is more to close: a thousand processes that are traced by name have 3000 links.
const THREADS_MAX: usize = 256;

/// They do little more than one system call.
const STACK_BYTES: usize = 128 * 1024;

/// As long does an end in haste wait for links that are being closed: 64 of them take no longer on an idle host.
const HASTE: Duration = Duration::from_secs(5);

/// Links that are being closed right now.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Whether no more links are to be closed, because the process ends.
static ENDS: AtomicBool = AtomicBool::new(false);

/// The links of one file, in the order in which they are to be closed.
type Links = Vec<UProbeLink>;

/// What the threads share.
#[derive(Debug)]
struct Queue {
    links: Mutex<mpsc::Receiver<Links>>,
    /// Files whose links wait or are being closed.
    outstanding: AtomicUsize,
}

/// Closes links on threads of its own; dropping it waits until all are closed.
///
/// The process must not end before: a thread that is killed while the kernel takes a breakpoint out of some process's
/// memory leaves it there, for as long as that process lives.
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/events/uprobes.c>, `uprobe_unregister_nosync`
#[derive(Debug)]
pub(super) struct Closer {
    links: Option<mpsc::Sender<Links>>,
    queue: Arc<Queue>,
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
        let queue = Queue {
            links: Mutex::new(links),
            outstanding: AtomicUsize::new(0),
        };
        let queue = Arc::new(queue);
        let start = |_| spawn(&queue, close_all);
        let threads = (0..THREADS).map(start).collect::<io::Result<_>>();
        Ok(Self {
            links: Some(sender),
            threads: threads.context("failed to start a thread that closes links")?,
            queue,
        })
    }

    /// Closes these soon, in this order.
    pub(super) fn close(&mut self, links: Links) {
        let outstanding = self.queue.outstanding.fetch_add(1, Ordering::SeqCst) + 1;
        // Should nobody take them, they are closed right here.
        let _ = self.links.as_ref().map(|sender| sender.send(links));
        self.threads.retain(|thread| !thread.is_finished());
        if outstanding > self.threads.len() && self.threads.len() < THREADS_MAX {
            // One that cannot be started is not needed: those that are there close everything too.
            self.threads.extend(spawn(&self.queue, close_some).ok());
        }
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

fn spawn(queue: &Arc<Queue>, work: fn(&Queue)) -> io::Result<JoinHandle<()>> {
    let queue = Arc::clone(queue);
    let thread = thread::Builder::new().name("link-closer".to_owned());
    thread.stack_size(STACK_BYTES).spawn(move || work(&queue))
}

/// Until nothing can come any more.
fn close_all(queue: &Queue) {
    loop {
        let next = receiver(queue).recv();
        let Ok(next) = next else { return };
        close_in_order(queue, next);
    }
}

/// As long as there is something; the next link that is closed ends it at the latest.
fn close_some(queue: &Queue) {
    loop {
        // It waits here too, where another waits in `recv` and there is nothing for anybody.
        let next = receiver(queue).try_recv();
        let Ok(next) = next else { return };
        close_in_order(queue, next);
    }
}

fn receiver(queue: &Queue) -> MutexGuard<'_, mpsc::Receiver<Links>> {
    queue.links.lock().unwrap_or_else(PoisonError::into_inner)
}

fn close_in_order(queue: &Queue, links: Links) {
    for link in links {
        BUSY.fetch_add(1, Ordering::SeqCst);
        if ENDS.load(Ordering::SeqCst) {
            // The kernel closes it with the process.
            std::mem::forget(link);
        } else {
            drop(link);
        }
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
    queue.outstanding.fetch_sub(1, Ordering::SeqCst);
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
