//! Owns how a process's container and pod stand in a line.
//! Must not know the rest of any line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::cut::Cuts;
use super::longest;
use crate::report::model;

/// Where a process runs. Both are left out on the bare host.
#[derive(Serialize)]
pub(super) struct Place<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Container<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<K8s<'a>>,
}

/// A container as it stands in every line.
#[derive(Serialize)]
struct Container<'a> {
    id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct K8s<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Pod<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: Cow<'a, str>,
}

#[derive(Serialize)]
struct Pod<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, Cow<'a, str>>,
}

/// Where a process runs, within what a line may hold.
pub(super) fn place<'a>(cuts: &mut Cuts, process: &'a model::Process) -> Place<'a> {
    place_of(cuts, process.container.as_ref(), process.k8s.as_ref())
}

/// The same of what is told without figures.
pub(super) fn place_of<'a>(
    cuts: &mut Cuts,
    within: Option<&'a model::Container>,
    k8s: Option<&'a model::K8s>,
) -> Place<'a> {
    Place {
        container: within.map(|from| container(cuts, from)),
        k8s: k8s.map(|from| pod(cuts, from)),
    }
}

/// A container, within what a line may hold.
fn container<'a>(cuts: &mut Cuts, from: &'a model::Container) -> Container<'a> {
    Container {
        id: cuts.text("container.id", &from.id, longest::NAME),
        name: cuts.optional("container.name", &from.name, longest::NAME),
        runtime: cuts.optional("container.runtime", &from.runtime, longest::WORD),
    }
}

fn pod<'a>(cuts: &mut Cuts, from: &'a model::K8s) -> K8s<'a> {
    let name = cuts.optional("k8s.pod.name", &from.pod, longest::POD);
    let uid = cuts.optional("k8s.pod.uid", &from.uid, longest::WORD);
    let labels: Vec<_> = from
        .labels
        .iter()
        .map(|(key, value)| {
            let value = cuts.text("k8s.pod.labels.value", value, longest::NAME);
            (key.as_str(), value)
        })
        .collect();
    let labels = cuts.map("k8s.pod.labels", labels.into_iter(), longest::LABELS);
    let is_known = name.is_some() || uid.is_some();
    let mut named = |field, text: &'a Option<String>| {
        let name = cuts.optional(field, text, longest::NAME)?;
        Some(Named { name })
    };
    K8s {
        namespace: named("k8s.namespace.name", &from.namespace),
        pod: is_known.then_some(Pod { name, uid, labels }),
        container: named("k8s.container.name", &from.container),
        node: named("k8s.node.name", &from.node),
    }
}
