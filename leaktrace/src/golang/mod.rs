//! Owns what there is to know of Go programs: their binaries, their runtime's memory, their heap.
//! Must not know probes' links, reports or which processes are of interest.

pub mod binary;
pub mod buckets;
pub mod debug_info;
pub mod globals;
pub mod goroutines;
pub mod heap;
pub mod layout;
pub mod memory;
pub mod peek;
pub mod plan;
pub mod program;
pub mod sites;
