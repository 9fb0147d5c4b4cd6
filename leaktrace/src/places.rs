//! Owns where a process runs, as reports tell it: its container and pod, by what is known of their names.
//! Must not know how names are found.

use crate::{
    host::{container::Container, containers::Containers, node},
    report::model,
};

/// A process's container and pod; neither on the bare host. What has no name yet is told by its id.
#[must_use]
pub fn place(
    containers: &Containers,
    container: Option<&Container>,
) -> (Option<model::Container>, Option<model::K8s>) {
    let Some(container) = container else {
        return (None, None);
    };
    let names = containers.names(&container.id);
    let names = names.flatten().unwrap_or_default();
    let runtime = container.runtime.or(names.runtime);
    let pod = names.pod.as_ref();
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    let k8s = (pod.is_some() || container.pod_uid.is_some()).then(|| model::K8s {
        namespace: pod.and_then(|it| known(&it.namespace)),
        pod: pod.and_then(|it| known(&it.name)),
        uid: pod
            .and_then(|it| known(&it.uid))
            .or_else(|| container.pod_uid.clone()),
        labels: pod.map(|it| it.labels.clone()).unwrap_or_default(),
        container: names.name.clone(),
        node: Some(node::name()),
    });
    let container = model::Container {
        id: container.id.clone(),
        name: names.name.clone(),
        runtime: runtime.map(|it| it.as_str().to_owned()),
    };
    (Some(container), k8s)
}
