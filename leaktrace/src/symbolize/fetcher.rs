//! Owns waiting for debug info that is fetched from servers: on a thread of its own, so that nobody waits for long.
//! Must not know servers, or what the file is for.

use std::{
    fs::File,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::debuginfod::Debuginfod;

/// How long the names of one report wait for servers, all files together.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// A file that is asked for.
struct Ask {
    build_id: String,
    /// Its name for people.
    what: String,
}

/// What became of a file.
enum State {
    /// The thread asks for it.
    Asked,
    /// Nobody has it.
    Nowhere,
    /// It came too late for who asked first, and was not taken yet.
    Late(File),
}

/// The way to the thread that asks servers, and what is known of its answers.
pub(super) struct Fetcher {
    /// `None` where nobody is asked.
    asks: Option<mpsc::Sender<Ask>>,
    answers: mpsc::Receiver<(String, Option<File>)>,
    states: FxHashMap<String, State>,
    patience: Duration,
    deadline: Instant,
    /// Whether a file came after who asked for it had given up.
    has_late: bool,
}

impl Fetcher {
    /// Asks these servers, and waits for so long at most in one go.
    pub(super) fn new(mut servers: Debuginfod, patience: Duration) -> Self {
        let (asks, queue) = mpsc::channel::<Ask>();
        let (sender, answers) = mpsc::channel();
        let has_servers = !servers.is_empty();
        let ask_all = move || {
            for Ask { build_id, what } in queue {
                let file = servers.fetch(&build_id, &what);
                if sender.send((build_id, file)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("debuginfod".to_owned());
        // Where no thread can be had, no file can.
        let is_asking = has_servers && thread.spawn(ask_all).is_ok();
        Self {
            asks: is_asking.then_some(asks),
            answers,
            states: FxHashMap::default(),
            patience,
            deadline: Instant::now(),
            has_late: false,
        }
    }

    /// Begins to wait anew; whether files have come by now that were named without.
    pub(super) fn begin(&mut self) -> bool {
        // Nobody wanted them any more.
        self.states.retain(|_, it| !matches!(it, State::Late(_)));
        while let Ok((build_id, file)) = self.answers.try_recv() {
            self.note(build_id, file);
        }
        self.deadline = Instant::now() + self.patience;
        std::mem::take(&mut self.has_late)
    }

    /// The debug info of a build, in lower-case hex, if it is there in time; `what` is its name for people.
    pub(super) fn fetch(&mut self, build_id: &str, what: &str) -> Option<File> {
        let asks = self.asks.as_ref()?;
        match self.states.remove(build_id) {
            Some(State::Late(file)) => return Some(file),
            Some(State::Nowhere) => {
                self.states.insert(build_id.to_owned(), State::Nowhere);
                return None;
            }
            Some(State::Asked) => {}
            None => {
                let (build_id, what) = (build_id.to_owned(), what.to_owned());
                asks.send(Ask { build_id, what }).ok()?;
            }
        }
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok((id, file)) if id == build_id => {
                    if file.is_none() {
                        self.states.insert(id, State::Nowhere);
                    }
                    return file;
                }
                Ok((id, file)) => self.note(id, file),
                Err(_) => {
                    eprintln!(
                        "leaktrace: {what} is named without debug info until a server has sent it"
                    );
                    self.states.insert(build_id.to_owned(), State::Asked);
                    return None;
                }
            }
        }
    }

    /// Takes in what came for nobody who still waits.
    fn note(&mut self, build_id: String, file: Option<File>) {
        self.has_late |= file.is_some();
        self.states
            .insert(build_id, file.map_or(State::Nowhere, State::Late));
    }
}
