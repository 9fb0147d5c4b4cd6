//! Owns the Kubernetes pod of a process, as reports tell it.
//! Must not know how its names were found.

use std::collections::BTreeMap;

/// The pod that a process runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct K8s {
    /// The pod's namespace, where it is known.
    pub namespace: Option<String>,
    /// The pod's name, where it is known.
    pub pod: Option<String>,
    /// The pod's uid.
    pub uid: Option<String>,
    /// Those of its labels that were asked for.
    pub labels: BTreeMap<String, String>,
    /// The container's name in the pod, where it is known.
    pub container: Option<String>,
    /// The node.
    pub node: Option<String>,
}
