//! Owns a process's container and pod as they are read.
//! Must not know the rest of the line.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::report::model::{Container, K8s};

#[derive(Deserialize)]
pub struct ContainerPart {
    id: String,
    name: Option<String>,
    runtime: Option<String>,
}

impl From<ContainerPart> for Container {
    fn from(from: ContainerPart) -> Self {
        Self {
            id: from.id,
            name: from.name,
            runtime: from.runtime,
        }
    }
}

#[derive(Deserialize)]
pub struct K8sPart {
    namespace: Option<NamedPart>,
    pod: Option<PodPart>,
    container: Option<NamedPart>,
    node: Option<NamedPart>,
}

#[derive(Deserialize)]
struct NamedPart {
    name: String,
}

#[derive(Default, Deserialize)]
struct PodPart {
    name: Option<String>,
    uid: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl From<K8sPart> for K8s {
    fn from(from: K8sPart) -> Self {
        let pod = from.pod.unwrap_or_default();
        Self {
            namespace: from.namespace.map(|it| it.name),
            pod: pod.name,
            uid: pod.uid,
            labels: pod.labels,
            container: from.container.map(|it| it.name),
            node: from.node.map(|it| it.name),
        }
    }
}
