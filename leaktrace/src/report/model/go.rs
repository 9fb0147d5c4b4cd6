//! Owns what a report says of Go's heap alone.
//! Must not know where it comes from.

/// What is told of a Go process alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Go {
    /// `go1.24.11`
    pub version: String,
    /// Collections that have begun since the trace did.
    pub gc_cycles: u64,
    /// How many bytes the samples of its own memory profile are apart, where its figures come from that.
    pub profile_bytes: Option<u64>,
    /// What they have said of its objects.
    pub collected: Collected,
}

/// What Go's collections have said of live objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Collections survived by the object that survived the most.
    pub gc_cycles_survived: u64,
    /// Live bytes that no collection has judged yet: garbage may be among them.
    pub not_yet_collected_bytes: u64,
}
