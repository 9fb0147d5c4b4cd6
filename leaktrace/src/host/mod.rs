//! Owns what the agent knows about the machine and the processes on it.
//! Must not know probes, events, or how anything is reported.

pub mod cgroup;
pub mod clock;
pub mod container;
pub mod containers;
pub mod doctor;
pub mod footprint;
pub mod fresh_memory;
pub mod group_memory;
#[cfg(test)]
mod growing;
pub mod lineage;
pub mod maps;
pub mod memory;
pub mod node;
pub mod own;
mod owner;
pub mod process;
pub mod process_root;
pub mod resident;
pub mod return_probes;
