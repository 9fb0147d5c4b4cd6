//! Owns taking in mappings as they come, on a thread of its own, and opening the files behind them while their
//! processes live.
//! Must not know stacks, symbols or what the files are for.
//!
//! The agent's loop may be a long way behind on a busy host, and by then a brief process is gone, its program may be
//! replaced, and the kernel's rings are full. This thread has nothing else to do, so it is there in time.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};

use anyhow::Context as _;
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use tokio::sync::Notify;

use crate::{
    host::{clock::Clock, maps::Mapping},
    mmap_events::{MapChange, MapEvent, MmapEvents},
    modules::{self, EARLY_FILES_MAX, Mark},
};

/// Changes that wait to be taken, about 250 bytes each. Some thousand come a second on a host that starts programs
/// without pause. Beyond it they are lost and counted, as those that find a ring full.
const WAITING_MAX: usize = 262_144;

/// How often the thread looks whether anybody still listens.
const LIFE_SIGN_MS: u16 = 500;

/// A change, and the file behind it where it is a mapping of one that was not opened before.
pub struct Seen {
    /// What has changed.
    pub event: MapEvent,
    /// The file.
    pub file: Option<File>,
}

/// What the thread and the agent's loop share.
struct Inner {
    events: MmapEvents,
    waiting: Vec<Seen>,
    dropped: u64,
    opened: HashSet<Mark>,
    /// The same, oldest first.
    opened_order: VecDeque<Mark>,
    prepare: Prepare,
    /// Whose changes count; `None` where everyone's do.
    wanted: Option<HashSet<u32>>,
}

/// What completes a mapping while its process lives.
type Prepare = Box<dyn FnMut(u32, &mut Mapping) + Send>;

struct Shared {
    inner: Mutex<Inner>,
    news: Notify,
}

/// The way to what was mapped on the whole host.
pub struct MappingWatch {
    shared: Arc<Shared>,
}

impl MappingWatch {
    /// Starts the thread; it ends when this is dropped. `prepare` completes each mapping of a file while its process
    /// lives.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn spawn(events: MmapEvents, prepare: Prepare) -> anyhow::Result<Self> {
        let readiness = events.readiness().context("failed to share an epoll")?;
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                events,
                waiting: Vec::new(),
                dropped: 0,
                opened: HashSet::new(),
                opened_order: VecDeque::new(),
                prepare,
                wanted: None,
            }),
            news: Notify::new(),
        });
        let listener = Arc::downgrade(&shared);
        thread::Builder::new()
            .name("mappings".to_owned())
            .spawn(move || listen(&readiness, &listener))
            .context("failed to start the thread that listens to mappings")?;
        Ok(Self { shared })
    }

    /// From now on only what these processes map counts: all else is dropped before it costs anything.
    pub fn want_only(&self, tgids: HashSet<u32>) {
        self.shared.lock().wanted = Some(tgids);
    }

    /// Waits until something is mapped.
    pub async fn changed(&self) {
        self.shared.news.notified().await;
    }

    /// Everything up to now, oldest first within what one ring held, and up to when that is.
    pub fn take(&self) -> (Vec<Seen>, u64) {
        let now_ns = Clock::now_boot_ns();
        let mut inner = self.shared.lock();
        inner.drain();
        (mem::take(&mut inner.waiting), now_ns)
    }

    /// How many changes were lost. They may have been mappings: those processes need a snapshot of their maps.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let inner = self.shared.lock();
        inner.events.lost() + inner.dropped
    }
}

impl Shared {
    /// A thread that panicked leaves at worst an event half taken in.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(readiness: &Epoll, listener: &Weak<Shared>) {
    let mut ready = [EpollEvent::empty(); 1];
    loop {
        // An interrupted wait is as good as one that is over.
        let _ = readiness.wait(&mut ready, EpollTimeout::from(LIFE_SIGN_MS));
        let Some(shared) = listener.upgrade() else {
            return;
        };
        if shared.lock().drain() {
            shared.news.notify_one();
        }
    }
}

impl Inner {
    /// Takes in what the rings hold; whether there was anything.
    fn drain(&mut self) -> bool {
        let mut new = Vec::new();
        let wanted = self.wanted.as_ref();
        self.events.drain(|event| {
            if wanted.is_none_or(|it| it.contains(&event.tgid)) {
                new.push(event);
            }
        });
        let is_new = !new.is_empty();
        for mut event in new {
            if self.waiting.len() >= WAITING_MAX {
                self.dropped += 1;
                continue;
            }
            let file = match &mut event.change {
                MapChange::Mapped(mapping) if mapping.is_file() => {
                    (self.prepare)(event.tgid, mapping);
                    self.open(event.tgid, mapping)
                }
                _ => None,
            };
            self.waiting.push(Seen { event, file });
        }
        is_new
    }

    /// Opens the file, unless that was done lately for another process.
    fn open(&mut self, tgid: u32, mapping: &Mapping) -> Option<File> {
        let mark = Mark::of(mapping);
        if self.opened.contains(&mark) {
            return None;
        }
        let file = modules::open_mapped(tgid, mapping)?;
        if self.opened.len() >= EARLY_FILES_MAX
            && let Some(oldest) = self.opened_order.pop_front()
        {
            self.opened.remove(&oldest);
        }
        self.opened.insert(mark.clone());
        self.opened_order.push_back(mark);
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    /// Listens, or says why the test is skipped.
    fn watch() -> Option<MappingWatch> {
        let events = match MmapEvents::open(64) {
            Ok(events) => events,
            Err(error) if std::env::var_os("LEAKTRACE_REQUIRE_KERNEL").is_some() => {
                panic!("{error:#}")
            }
            Err(error) => {
                eprintln!("skipped: {error:#}");
                return None;
            }
        };
        Some(MappingWatch::spawn(events, Box::new(|_, _| ())).expect("a thread can be started"))
    }

    /// The program of a process that is gone, and whose file is gone too, was opened while it lived, once for all that
    /// run it.
    #[test]
    fn a_file_is_opened_before_it_is_gone() {
        let Some(watch) = watch() else { return };
        let path = std::env::temp_dir().join(format!("leaktrace-early-{}", std::process::id()));
        fs::copy("/bin/sleep", &path).expect("it can be copied");
        let sleeper = || {
            let mut command = Command::new(&path);
            let mut child = command.arg("0.05").stdout(Stdio::null()).spawn().unwrap();
            child.wait().unwrap();
        };
        sleeper();
        sleeper();
        let length = fs::metadata(&path).unwrap().len();
        fs::remove_file(&path).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut files = Vec::new();
        let mut mapped = 0;
        while mapped < 2 {
            assert!(Instant::now() < deadline, "its mappings come");
            for Seen { event, file } in watch.take().0 {
                let of_ours = |it: &Mapping| it.path.starts_with(&*path.to_string_lossy());
                if matches!(&event.change, MapChange::Mapped(mapping) if of_ours(mapping)) {
                    mapped += 1;
                    files.extend(file);
                }
            }
        }
        assert_eq!(files.len(), 1);
        // Once others are asked for, nothing of this one comes any more.
        watch.want_only([std::process::id()].into());
        let theirs = |seen: &Seen| seen.event.tgid != std::process::id();
        drop(watch.take());
        Command::new("/bin/true").status().unwrap();
        assert!(!watch.take().0.iter().any(theirs));
        assert_eq!(files[0].metadata().unwrap().len(), length);
    }
}
