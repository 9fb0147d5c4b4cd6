//! Owns which processes the targets' patterns mean, and what a process's container is called.
//! Must not know how probes are placed.

use super::Tracer;
use crate::{
    config::PodName,
    host::{
        container::Container,
        containers::{ContainerNames, NAMES_PATIENCE, NameSources},
        process::ProcessFacts,
    },
    places,
    report::model,
};

/// Whether a process is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Its container's name is not known yet.
    Later,
}

impl Tracer {
    /// Says where the names of containers come from, before anyone is traced.
    pub fn name_by(&mut self, sources: NameSources) {
        self.context.roster.containers.name_by(sources);
    }

    /// Whether the patterns of the targets mean a process.
    pub(super) fn is_meant(&mut self, tgid: u32) -> Meant {
        let Ok(facts) = ProcessFacts::read(tgid) else {
            return Meant::No;
        };
        let targets = &self.targets;
        let is_comm = targets.comms.iter().any(|glob| facts.comm_matches(glob));
        if is_comm || targets.cgroups.iter().any(|it| it.holds(&facts.cgroups)) {
            return Meant::Yes;
        }
        let Some(container) = &facts.container else {
            return Meant::No;
        };
        if targets.containers.is_empty() && targets.pods.is_empty() {
            return Meant::No;
        }
        if targets.containers.iter().any(|it| is_id_of(it, container)) {
            return Meant::Yes;
        }
        let containers = &mut self.context.roster.containers;
        containers.ask(container, tgid);
        let Some(names) = containers.names(&container.id) else {
            return Meant::Later;
        };
        let Some(names) = names else {
            return Meant::No;
        };
        let is_named = targets
            .containers
            .iter()
            .any(|it| names.name.as_ref() == Some(it));
        if is_named || targets.pods.iter().any(|it| is_pod(it, &names)) {
            return Meant::Yes;
        }
        Meant::No
    }

    /// Traces those whose containers got their names since they were met.
    pub(super) fn decide_undecided(&mut self) {
        for tgid in std::mem::take(&mut self.undecided) {
            self.follow_if_meant(tgid);
        }
    }

    /// Traces a process that executed a new image, or whose name came to be known, if it is meant.
    pub(super) fn follow_if_meant(&mut self, tgid: u32) {
        if self.ledger.key(tgid).is_some() {
            return;
        }
        match self.is_meant(tgid) {
            Meant::Yes => {
                // What cannot be traced is told in the report.
                let _ = self.attach_one(tgid);
                self.mark_late(tgid);
            }
            Meant::No => {}
            Meant::Later => self.undecided.push(tgid),
        }
    }

    /// Waits for names that were just asked for.
    pub(super) fn settle_names(&self) {
        self.context.roster.containers.settle(NAMES_PATIENCE);
    }

    /// A process's container and pod as reports tell them.
    pub(super) fn place(
        &self,
        container: Option<&Container>,
    ) -> (Option<model::Container>, Option<model::K8s>) {
        places::place(&self.context.roster.containers, container)
    }
}

/// Whether a word is a container's id, or as much of its beginning as Docker shows.
fn is_id_of(word: &str, container: &Container) -> bool {
    const SHORT_ID: usize = 12;
    word.len() >= SHORT_ID && container.id.starts_with(word)
}

fn is_pod(wanted: &PodName, names: &ContainerNames) -> bool {
    names
        .pod
        .as_ref()
        .is_some_and(|pod| pod.namespace == wanted.namespace && pod.name == wanted.name)
}
