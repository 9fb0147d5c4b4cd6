//! Owns the wire contract between the probes and the agent: records, counters, limits and names.
//! Must not know either side: it has no dependency, no allocation and no standard library.

#![no_std]

pub mod call;
pub mod code;
pub mod config;
pub mod cookie;
pub mod counter;
pub mod event;
pub mod go;
pub mod limits;
#[cfg(feature = "user")]
mod pod;
pub mod policy;
pub mod share;
pub mod stack;
pub mod unwind;
