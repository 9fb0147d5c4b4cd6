//! Owns the questions to a container runtime by CRI, the interface that the kubelet uses itself.
//! Must not know where sockets are looked for, or who asks.
//!
//! The messages are the few fields that matter of
//! <https://github.com/kubernetes/cri-api/blob/v0.32.3/pkg/apis/runtime/v1/api.proto>.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::http::uri::PathAndQuery;
use prost::Message;
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{ContainerNames, Pod};
use crate::host::container::ContainerRuntime;

/// A runtime on a loaded node answers within tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer to a question for one container is a few KiB, with all its labels.
const ANSWER_MAX: usize = 1 << 20;

#[derive(Clone, PartialEq, Message)]
struct IdFilter {
    #[prost(string, tag = "1")]
    id: String,
}

/// `ListContainersRequest` and `ListPodSandboxRequest` alike.
#[derive(Clone, PartialEq, Message)]
struct ListRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<IdFilter>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct CriContainer {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<CriContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<SandboxMetadata>,
    #[prost(map = "string, string", tag = "7")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct ListSandboxesResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct VersionRequest {}

#[derive(Clone, PartialEq, Message)]
struct VersionResponse {
    #[prost(string, tag = "2")]
    runtime_name: String,
}

/// One runtime that answers.
#[derive(Clone)]
struct Client {
    grpc: Grpc<Channel>,
    runtime: Option<ContainerRuntime>,
}

impl Client {
    async fn connect(socket: &Path) -> Option<Self> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.to_str()?)).ok()?;
        let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
        let channel = endpoint.connect().await.ok()?;
        let grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_MAX);
        let mut client = Self {
            grpc,
            runtime: None,
        };
        let version: VersionResponse = client.call("Version", VersionRequest {}).await?;
        client.runtime = match version.runtime_name.as_str() {
            "containerd" => Some(ContainerRuntime::Containerd),
            "cri-o" => Some(ContainerRuntime::CriO),
            "docker" => Some(ContainerRuntime::Docker),
            _ => None,
        };
        Some(client)
    }

    async fn call<Q, A>(&mut self, method: &str, question: Q) -> Option<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let path = PathAndQuery::from_maybe_shared(path).ok()?;
        tokio::time::timeout(PATIENCE, async {
            self.grpc.ready().await.ok()?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = self.grpc.unary(Request::new(question), path, codec).await;
            Some(answer.ok()?.into_inner())
        })
        .await
        .ok()?
    }

    async fn sandbox(&mut self, id: &str) -> Option<Pod> {
        let answer: ListSandboxesResponse = self.call("ListPodSandbox", only(id)).await?;
        let sandbox = answer.items.into_iter().find(|it| it.id == id)?;
        let metadata = sandbox.metadata?;
        Some(Pod {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            labels: sandbox.labels.into_iter().collect(),
        })
    }

    async fn names(&mut self, id: &str) -> Option<ContainerNames> {
        let answer: ListContainersResponse = self.call("ListContainers", only(id)).await?;
        let container = answer.containers.into_iter().find(|it| it.id == id);
        let (name, pod) = match container {
            Some(container) => (
                container.metadata.map(|metadata| metadata.name),
                self.sandbox(&container.pod_sandbox_id).await,
            ),
            // The container that holds a pod's namespaces is the sandbox itself, and has no name.
            None => (None, Some(self.sandbox(id).await?)),
        };
        Some(ContainerNames {
            name,
            runtime: self.runtime,
            pod,
        })
    }
}

fn only(id: &str) -> ListRequest {
    ListRequest {
        filter: Some(IdFilter { id: id.to_owned() }),
    }
}

/// The runtimes that answered before.
#[derive(Default)]
pub struct Clients(HashMap<PathBuf, Client>);

impl Clients {
    /// Asks the runtimes behind these sockets, in this order, for the names of one container.
    pub async fn names(&mut self, sockets: &[PathBuf], id: &str) -> Option<ContainerNames> {
        for socket in sockets {
            let known = match self.0.get(socket) {
                Some(client) => Some(client.clone()),
                None => Client::connect(socket).await,
            };
            let Some(mut client) = known else {
                continue;
            };
            // A channel connects anew by itself when the runtime was restarted.
            let names = client.names(id).await;
            self.0.insert(socket.clone(), client);
            if names.is_some() {
                return names;
            }
        }
        None
    }
}
