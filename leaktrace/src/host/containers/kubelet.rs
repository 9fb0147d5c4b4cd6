//! Owns the question to the kubelet for the pods of its node, by its read-only interface.
//! Must not know runtimes.

use std::{collections::BTreeMap, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::{ContainerNames, Pod};
use crate::host::container::Container;

/// Where the kubelet serves its pods to whoever is on the node, where that is switched on
/// (`readOnlyPort`).
const READ_ONLY: &str = "127.0.0.1:10255";

/// The kubelet answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// A pod is 5 to 20 KiB, and a node has 110 of them, or 500.
const ANSWER_MAX: usize = 32 << 20;

#[derive(Deserialize)]
struct PodList {
    #[serde(default)]
    items: Vec<KubeletPod>,
}

#[derive(Deserialize)]
struct KubeletPod {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID", default)]
    container_id: String,
}

/// Asks for the names of a container of a pod.
pub async fn names(address: Option<&str>, container: &Container) -> Option<ContainerNames> {
    let address = address.unwrap_or(READ_ONLY);
    let text = tokio::time::timeout(PATIENCE, fetch(address))
        .await
        .ok()??;
    find(&text, container)
}

async fn fetch(address: &str) -> Option<Bytes> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/pods").header(HOST, address);
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let answer = async {
        let answer = sender.send_request(request).await.ok()?;
        let body = Limited::new(answer.into_body(), ANSWER_MAX);
        Some(body.collect().await.ok()?.to_bytes())
    };
    tokio::select! {
        bytes = answer => bytes,
        // It ends before the answer only when it fails.
        _ = connection => None,
    }
}

/// Finds a container, or at least its pod, in the text of the answer.
fn find(text: &[u8], container: &Container) -> Option<ContainerNames> {
    /// A static pod has another uid in the API than in its cgroup, which is told here.
    const STATIC_UID: &str = "kubernetes.io/config.hash";
    let pods: PodList = serde_json::from_slice(text).ok()?;
    let pod_uid = container.pod_uid.as_deref();
    for pod in pods.items {
        let status = pod.status;
        let name = status
            .container_statuses
            .into_iter()
            .chain(status.init_container_statuses)
            .chain(status.ephemeral_container_statuses)
            .find(|it| it.container_id.ends_with(&format!("://{}", container.id)))
            .map(|it| it.name);
        let hash = pod.metadata.annotations.get(STATIC_UID);
        let uids = [Some(&pod.metadata.uid), hash];
        let is_pod = pod_uid.is_some()
            && uids
                .iter()
                .flatten()
                .any(|uid| Some(uid.as_str()) == pod_uid);
        if name.is_none() && !is_pod {
            continue;
        }
        return Some(ContainerNames {
            name,
            runtime: None,
            pod: Some(Pod {
                namespace: pod.metadata.namespace,
                name: pod.metadata.name,
                uid: pod.metadata.uid,
                labels: pod.metadata.labels,
            }),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: &str = r#"{"kind":"PodList","items":[
        {"metadata":{"name":"other","namespace":"a","uid":"1"}},
        {"metadata":{"name":"cart-0","namespace":"shop","uid":"u-2","labels":{"app":"cart"}},
         "spec":{},"status":{"phase":"Running","containerStatuses":[
            {"name":"side","containerID":"containerd://bb"},
            {"name":"cart","containerID":"containerd://aa"}]}},
        {"metadata":{"name":"etcd","namespace":"kube-system","uid":"u-3",
                     "annotations":{"kubernetes.io/config.hash":"83d6"}},"status":{}}]}"#;

    #[track_caller]
    fn check(id: &str, pod_uid: Option<&str>, expected: &str) {
        let container = Container {
            id: id.to_owned(),
            runtime: None,
            pod_uid: pod_uid.map(str::to_owned),
        };
        let found = find(PODS.as_bytes(), &container).map_or("none".to_owned(), |names| {
            let pod = names.pod.unwrap();
            let name = names.name.unwrap_or_default();
            format!("{}/{} {name} {:?}", pod.namespace, pod.name, pod.labels)
        });
        assert_eq!(found, expected);
    }

    /// A container is found by its id, its pod also by either of its uids.
    #[test]
    fn by_id_and_by_uid() {
        check("aa", None, r#"shop/cart-0 cart {"app": "cart"}"#);
        check("cc", Some("u-2"), r#"shop/cart-0  {"app": "cart"}"#);
        check("cc", Some("83d6"), "kube-system/etcd  {}");
        check("cc", Some("u-9"), "none");
        check("cc", None, "none");
    }

    /// What is no answer names nobody.
    #[test]
    fn odd_answers() {
        let container = Container {
            id: "aa".to_owned(),
            runtime: None,
            pod_uid: None,
        };
        for text in ["", "Unauthorized", "{}", r#"{"items":[{"metadata":{}}]}"#] {
            assert_eq!(find(text.as_bytes(), &container), None, "{text}");
        }
    }
}
