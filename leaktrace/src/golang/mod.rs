//! Owns what there is to know of Go programs: their binaries, their runtime's memory, their heap.
//! Must not know probes' links, reports or which processes are of interest.

pub mod binary;
pub mod layout;
