//! Owns what containers and their pods are called: asked once for each, on a thread of its own, and kept.
//! Must not know processes' memory, probes, or how a name is shown.
//!
//! A name is asked for when a container's first process is seen, so that it is known when the container
//! is gone by the time of the report. Who runs the container is asked in this order: the runtime by CRI,
//! the runtime's own files, the kubelet.

mod cri;
mod kubelet;
mod state;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::container::{Container, ContainerRuntime};

/// Containers whose names are kept; the one asked for the longest ago goes when there are more. A node
/// has 110 pods by default, and this is for weeks of jobs.
const KEPT_MAX: usize = 8_192;

/// A container without a name is asked for again after this, when it is met again: its runtime may have
/// been restarting.
const RETRY: Duration = Duration::from_secs(30);

/// How long the beginning of a trace, and a report, wait for names that were just asked for. A runtime
/// answers within some milliseconds.
pub const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// Where runtimes listen that nobody has named, as this host has them.
pub fn cri_sockets() -> Vec<PathBuf> {
    state::cri_sockets(None)
}

/// Where names come from, as far as the user said so.
#[derive(Clone, Debug, Default)]
pub struct NameSources {
    /// The runtime's CRI socket; `None` looks for it.
    pub cri_socket: Option<PathBuf>,
    /// Host and port of the kubelet's read-only interface; `None` is the default place.
    pub kubelet: Option<String>,
    /// Keys of the pods' labels that reports tell.
    pub pod_labels: Vec<String>,
}

/// What a container is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerNames {
    /// The container's name: with Kubernetes the one in the pod.
    pub name: Option<String>,
    /// Who runs it, where its cgroup did not tell.
    pub runtime: Option<ContainerRuntime>,
    /// Its pod.
    pub pod: Option<Pod>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Those of its labels that were asked for.
    pub labels: BTreeMap<String, String>,
}

/// What is known of one container.
#[derive(Clone, Debug)]
enum Known {
    /// The thread has not answered yet.
    Asked,
    /// Named, or found to have no name at this time.
    Answered(Option<Arc<ContainerNames>>, Instant),
}

/// Names that were asked for, oldest first.
#[derive(Debug, Default)]
struct Book {
    known: FxHashMap<String, Known>,
    order: VecDeque<String>,
    /// Requests without an answer.
    waiting: usize,
}

impl Book {
    /// Whether the container is to be asked for now, which is noted.
    fn begin(&mut self, id: &str) -> bool {
        match self.known.get(id) {
            Some(Known::Asked | Known::Answered(Some(_), _)) => return false,
            Some(Known::Answered(None, when)) if when.elapsed() < RETRY => return false,
            Some(Known::Answered(None, _)) => {}
            None => self.order.push_back(id.to_owned()),
        }
        self.known.insert(id.to_owned(), Known::Asked);
        self.waiting += 1;
        while self.order.len() > KEPT_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        true
    }

    fn answer(&mut self, id: &str, names: Option<ContainerNames>) {
        self.waiting -= 1;
        // It may have been dropped meanwhile.
        if let Some(known) = self.known.get_mut(id) {
            *known = Known::Answered(names.map(Arc::new), Instant::now());
        }
    }
}

/// The book and the bell that rings at each answer.
#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    answered: Condvar,
}

impl Shared {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        // Whoever panicked with it left it whole: each change is one insertion.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container to be named, and one of its processes.
type Question = (Container, u32);

/// The names of all containers that were met.
#[derive(Debug, Default)]
pub struct Containers {
    sources: NameSources,
    shared: Arc<Shared>,
    questions: Option<Sender<Question>>,
}

impl Containers {
    /// Says where names come from; nothing may have been asked yet.
    pub fn name_by(&mut self, sources: NameSources) {
        self.sources = sources;
        self.questions = None;
    }

    /// Asks for the names of a container that `pid` is in, unless they are known.
    pub fn ask(&mut self, container: &Container, pid: u32) {
        if !self.shared.book().begin(&container.id) {
            return;
        }
        let questions = self
            .questions
            .get_or_insert_with(|| spawn(&self.shared, &self.sources));
        if questions.send((container.clone(), pid)).is_err() {
            // The thread could not be made: there are no names, and the report shows ids.
            self.shared.book().answer(&container.id, None);
        }
    }

    /// The names of a container, if they are known; `None` outside where the answer is still to come.
    #[must_use]
    pub fn names(&self, id: &str) -> Option<Option<Arc<ContainerNames>>> {
        match self.shared.book().known.get(id) {
            Some(Known::Asked) => None,
            Some(Known::Answered(names, _)) => Some(names.clone()),
            None => Some(None),
        }
    }

    /// Waits until all that was asked is answered, but no longer than `patience`.
    pub fn settle(&self, patience: Duration) {
        // A poisoned lock is no reason to wait: see `Shared::book`.
        let _ = self
            .shared
            .answered
            .wait_timeout_while(self.shared.book(), patience, |book| book.waiting > 0);
    }
}

fn spawn(shared: &Arc<Shared>, sources: &NameSources) -> Sender<Question> {
    let (sender, receiver) = mpsc::channel();
    let (shared, sources) = (Arc::clone(shared), sources.clone());
    let thread = thread::Builder::new().name("names".to_owned());
    // Where no thread can be made the receiver is dropped, and the next `send` tells.
    let _ = thread.spawn(move || answer_all(&receiver, &shared, sources));
    sender
}

fn answer_all(questions: &Receiver<Question>, shared: &Shared, sources: NameSources) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let mut finder = Finder {
        sources,
        cri: cri::Clients::default(),
    };
    while let Ok((container, pid)) = questions.recv() {
        let names = runtime
            .as_ref()
            .ok()
            .and_then(|runtime| runtime.block_on(finder.find(&container, pid)));
        shared.book().answer(&container.id, names);
        shared.answered.notify_all();
    }
}

/// Asks whoever may know a container.
struct Finder {
    sources: NameSources,
    cri: cri::Clients,
}

impl Finder {
    async fn find(&mut self, container: &Container, pid: u32) -> Option<ContainerNames> {
        let keeper = state::Keeper::of(pid, &container.id);
        let is_pod = container.pod_uid.is_some();
        let mut names = None;
        // What no pod holds is unknown to CRI, except below drivers that do not tell of pods.
        if is_pod || !matches!(keeper, Some(state::Keeper::Conmon { .. })) {
            let sockets = match &self.sources.cri_socket {
                Some(path) => vec![path.clone()],
                None => state::cri_sockets(keeper.as_ref()),
            };
            names = self.cri.names(&sockets, &container.id).await;
        }
        if names.is_none() {
            names = state::names(keeper.as_ref(), container);
        }
        if names.as_ref().is_none_or(|it| it.pod.is_none()) && is_pod {
            let address = self.sources.kubelet.as_deref();
            names = kubelet::names(address, container).await.or(names);
        }
        let mut names = names?;
        if let Some(pod) = &mut names.pod {
            pod.labels
                .retain(|key, _| self.sources.pod_labels.contains(key));
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(number: usize) -> Container {
        Container {
            id: format!("{number:064x}"),
            runtime: None,
            pod_uid: None,
        }
    }

    /// A container is asked for once, and one without a name not again at once.
    #[test]
    fn asked_once() {
        let mut book = Book::default();
        assert!(book.begin("a"));
        assert!(!book.begin("a"));
        book.answer("a", None);
        assert!(!book.begin("a"));
        assert!(book.begin("b"));
        book.answer("b", Some(ContainerNames::default()));
        assert!(!book.begin("b"));
        assert_eq!(book.waiting, 0);
    }

    /// The book does not grow without end, and an answer that comes too late does no harm.
    #[test]
    fn bounded() {
        let mut book = Book::default();
        for number in 0..=KEPT_MAX {
            assert!(book.begin(&container(number).id));
        }
        assert_eq!(book.known.len(), KEPT_MAX);
        book.answer(&container(0).id, Some(ContainerNames::default()));
        assert_eq!(book.known.len(), KEPT_MAX);
        assert_eq!(book.waiting, KEPT_MAX);
    }

    /// What nobody knows is answered, with no name.
    #[test]
    fn nobody_knows() {
        let mut containers = Containers::default();
        containers.name_by(NameSources {
            cri_socket: Some("/nonexistent/cri.sock".into()),
            ..NameSources::default()
        });
        containers.ask(&container(1), u32::MAX);
        containers.settle(Duration::from_secs(20));
        assert_eq!(containers.names(&container(1).id), Some(None));
    }
}
