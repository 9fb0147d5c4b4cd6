//! Owns looking at running Go programs from outside, again and again, on a thread of its own: at their goroutines,
//! and at their own memory profile where that is what is told of them.
//! Must not know blocks, names or reports.
//!
//! How long a goroutine has been blocked is told by two looks at least. So the thread looks every few seconds, and
//! spends a small share of its time with that, however large the programs are.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::{
    golang::{
        buckets::{Profile, called, read_profile, read_rate},
        goroutines::{
            Blocked, Census, Range, Word, read_goroutines, read_stack, words_of_blocks,
            words_of_stacks,
        },
        heap::Heap,
        program::{GoProcess, GoProgram},
    },
    host::{clock::Clock, maps::read_maps},
    modules::{Module, ModuleId},
};

/// Between two looks, at the least.
const PAUSE: Duration = Duration::from_secs(2);

/// How long the agent's loop waits for a program to be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looking takes no more than one part in so many of the time.
const ONE_IN: u32 = 50;

/// As many processes as are looked at; each keeps a descriptor open.
const PROCESSES_MAX: usize = 512;

/// As much memory as the function tables of all programs take: those of a node's own have some 60 megabytes each.
pub const TABLES_BYTES_MAX: usize = 1 << 30;

/// The same of programs that are asked for one by one, which are few.
pub const TABLES_BY_REQUEST_BYTES_MAX: usize = 256 << 20;

/// Larger programs are not read: the largest of Kubernetes have 200 megabytes.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// What one look at a process told.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Its goroutines.
    pub census: Census,
    /// The words on the stacks of those that stay blocked.
    pub words: Vec<Word>,
    /// Its heap, where that was asked for and some stay blocked; empty where it is not known.
    pub heap: Heap,
}

/// A process's own memory profile, its stacks without what was inlined.
#[derive(Debug)]
pub struct ProfileRead {
    /// Whose it is.
    pub tgid: u32,
    /// When it was read, in boot-clock nanoseconds.
    pub time_ns: u64,
    /// The profile, or why there is none.
    pub profile: Result<Profile, String>,
}

/// What a look is to tell.
#[derive(Clone, Copy, Debug)]
struct Asked {
    min_age_ns: u64,
    with_heap: bool,
}

/// Where an answer goes; who asked may have given up.
type Answer<T> = oneshot::Sender<T>;

enum Job {
    Follow(u32, Arc<Module>),
    Forget(u32),
    Profile(u32, mpsc::Sender<Option<u64>>),
    Look(u32, Asked, Answer<Result<Look, String>>),
    Blocks(u32, Vec<Range>, Answer<Vec<Word>>),
}

/// The way to the thread.
pub struct GoWatch {
    jobs: mpsc::Sender<Job>,
    profiles: mpsc::Receiver<ProfileRead>,
}

impl GoWatch {
    /// Starts the thread; it ends when this is dropped. The function tables of all programs take no more than so many
    /// bytes.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(tables_bytes_max: usize) -> anyhow::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let (read, profiles) = mpsc::channel();
        thread::Builder::new()
            .name("goroutines".to_owned())
            .spawn(move || Watcher::new(read, tables_bytes_max).run(&queue))
            .context("failed to start the thread that looks at goroutines")?;
        Ok(Self { jobs, profiles })
    }

    /// From now on reads the own memory profile of a process that is followed, and says how many bytes apart its
    /// samples are; `None` where it has none, or did not begin to run yet, or no answer came in time.
    #[must_use]
    pub fn profile(&self, tgid: u32) -> Option<u64> {
        let (answer, receiver) = mpsc::channel();
        self.say(Job::Profile(tgid, answer));
        receiver.recv_timeout(PATIENCE).ok().flatten()
    }

    /// The profiles that were read since the last time.
    pub fn profiles(&self) -> impl Iterator<Item = ProfileRead> {
        self.profiles.try_iter()
    }

    /// Looks at a process from now on.
    pub fn follow(&self, tgid: u32, module: &Arc<Module>) {
        self.say(Job::Follow(tgid, Arc::clone(module)));
    }

    /// Looks at it no more.
    pub fn forget(&self, tgid: u32) {
        self.say(Job::Forget(tgid));
    }

    /// Looks at a process now, and at its heap too where not each of its objects is known. The error is a clause that
    /// says why there is nothing to tell.
    pub fn look(
        &self,
        tgid: u32,
        min_age: Duration,
        with_heap: bool,
    ) -> oneshot::Receiver<Result<Look, String>> {
        let (answer, receiver) = oneshot::channel();
        let asked = Asked {
            min_age_ns: u64::try_from(min_age.as_nanos()).unwrap_or(u64::MAX),
            with_heap,
        };
        self.say(Job::Look(tgid, asked, answer));
        receiver
    }

    /// Reads what blocks of a process point to.
    pub fn blocks(&self, tgid: u32, blocks: Vec<Range>) -> oneshot::Receiver<Vec<Word>> {
        let (answer, receiver) = oneshot::channel();
        self.say(Job::Blocks(tgid, blocks, answer));
        receiver
    }

    /// A thread that is gone drops its jobs, and with them what they would have answered.
    fn say(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}

/// A process that is looked at.
struct Watched {
    process: GoProcess,
    blocked: Blocked,
    /// Whether its own memory profile is what is told of its heap.
    is_profiled: bool,
}

impl Watched {
    /// How many bytes its profile's samples are apart; `None` where it is off, or nothing ran yet: a program
    /// finds out at its beginning whether it has one.
    fn profile_rate(&self) -> Option<u64> {
        let snapshot = read_goroutines(&self.process).ok()?;
        let rate = read_rate(&self.process).ok()?;
        (rate != 0 && !snapshot.goroutines.is_empty()).then_some(rate)
    }

    fn read_profile(&self) -> Result<Profile, String> {
        let mut profile = read_profile(&self.process).map_err(|error| error.to_string())?;
        for bucket in &mut profile.buckets {
            bucket.stack = called(&self.process, &bucket.stack);
        }
        Ok(profile)
    }

    fn look(&mut self, min_age_ns: u64) -> Result<Census, String> {
        let now_ns = Clock::now_boot_ns();
        let process = &self.process;
        let snapshot = read_goroutines(process).map_err(|error| error.to_string())?;
        Ok(self.blocked.take_in(
            &snapshot,
            now_ns,
            min_age_ns,
            |goroutine| !process.is_of_the_runtime(goroutine),
            |goroutine| read_stack(process, goroutine),
        ))
    }
}

/// What the thread has.
struct Watcher {
    read: mpsc::Sender<ProfileRead>,
    processes: BTreeMap<u32, Result<Watched, String>>,
    programs: FxHashMap<ModuleId, Weak<GoProgram>>,
    tables_bytes_max: usize,
}

impl Watcher {
    fn new(read: mpsc::Sender<ProfileRead>, tables_bytes_max: usize) -> Self {
        Self {
            read,
            processes: BTreeMap::new(),
            programs: FxHashMap::default(),
            tables_bytes_max,
        }
    }

    /// Reads the profile of a process where that is wanted.
    fn profile(&self, tgid: u32) {
        if let Some(Ok(watched)) = self.processes.get(&tgid)
            && watched.is_profiled
        {
            // The time before: what is read is no younger.
            let time_ns = Clock::now_boot_ns();
            let profile = watched.read_profile();
            let _ = self.read.send(ProfileRead {
                tgid,
                time_ns,
                profile,
            });
        }
    }

    fn run(mut self, queue: &mpsc::Receiver<Job>) {
        let mut next = Instant::now() + PAUSE;
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            match queue.recv_timeout(wait) {
                Ok(job) => self.act(job),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let began = Instant::now();
                    for watched in self.processes.values_mut().flatten() {
                        // A look that fails is told when a report asks.
                        let _ = watched.look(u64::MAX);
                    }
                    for tgid in self.processes.keys() {
                        self.profile(*tgid);
                    }
                    let took = began.elapsed();
                    next = Instant::now() + PAUSE.max(took.saturating_mul(ONE_IN));
                }
            }
        }
    }

    fn act(&mut self, job: Job) {
        match job {
            Job::Follow(tgid, module) => {
                let watched = self.open(tgid, &module);
                self.processes.insert(tgid, watched);
            }
            Job::Forget(tgid) => {
                self.processes.remove(&tgid);
                self.programs
                    .retain(|_, program| program.strong_count() > 0);
            }
            Job::Profile(tgid, answer) => {
                let mut rate = None;
                if let Some(Ok(watched)) = self.processes.get_mut(&tgid) {
                    rate = watched.profile_rate();
                    watched.is_profiled = rate.is_some();
                }
                self.profile(tgid);
                let _ = answer.send(rate);
            }
            Job::Look(tgid, asked, answer) => {
                self.profile(tgid);
                // Its turn may come when nobody waits any more.
                if !answer.is_closed() {
                    let _ = answer.send(self.look(tgid, asked));
                }
            }
            Job::Blocks(tgid, blocks, answer) => {
                if let Some(Ok(watched)) = self.processes.get(&tgid)
                    && !answer.is_closed()
                {
                    let _ = answer.send(words_of_blocks(&watched.process, &blocks));
                }
            }
        }
    }

    fn look(&mut self, tgid: u32, asked: Asked) -> Result<Look, String> {
        let watched = self.processes.get_mut(&tgid);
        let watched = watched.ok_or("it was not looked at yet")?;
        let watched = watched.as_mut().map_err(|why| why.clone())?;
        let census = watched.look(asked.min_age_ns)?;
        let words = words_of_stacks(&watched.process, &census.staying);
        let heap = match asked.with_heap && !words.is_empty() {
            // Without it less is told of what they hold, and nothing that is wrong.
            true => read_heap(&watched.process),
            false => None,
        };
        Ok(Look {
            census,
            words,
            heap: heap.unwrap_or_default(),
        })
    }

    /// Makes a process readable. The error is a clause.
    fn open(&mut self, tgid: u32, module: &Module) -> Result<Watched, String> {
        if self.processes.len() >= PROCESSES_MAX {
            return Err(format!("more than {PROCESSES_MAX} Go processes"));
        }
        let program = self.program(module)?;
        let mappings =
            read_maps(tgid).map_err(|error| format!("its mappings cannot be read: {error}"))?;
        let mut failure = "its code is not mapped".to_owned();
        for mapping in mappings
            .iter()
            .filter(|it| it.is_file() && it.path == module.path)
        {
            match GoProcess::open(tgid, Arc::clone(&program), mapping) {
                Ok(process) => {
                    return Ok(Watched {
                        process,
                        blocked: Blocked::default(),
                        is_profiled: false,
                    });
                }
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    }

    fn program(&mut self, module: &Module) -> Result<Arc<GoProgram>, String> {
        if let Some(known) = self.programs.get(&module.id).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let file = module.file.as_ref().ok_or("its file could not be opened")?;
        let bytes =
            read_whole(file).map_err(|error| format!("its file cannot be read: {error}"))?;
        let program = GoProgram::read(&bytes).map_err(|error| error.to_string())?;
        let others = self.programs.values().filter_map(Weak::upgrade);
        let others: usize = others.map(|it| it.table.size_bytes()).sum();
        if others + program.table.size_bytes() > self.tables_bytes_max {
            return Err("its function table finds no room beside those of others".to_owned());
        }
        let program = Arc::new(program);
        self.programs.insert(module.id, Arc::downgrade(&program));
        Ok(program)
    }
}

/// The heap, and what of it the program's variables lead to.
fn read_heap(process: &GoProcess) -> Option<Heap> {
    let mut heap = Heap::read(process).ok().flatten()?;
    heap.find_rooted(process);
    Some(heap)
}

/// Reads a file at once, so that nobody can change it between two looks.
fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    if len > FILE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
