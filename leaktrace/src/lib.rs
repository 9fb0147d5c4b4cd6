//! The agent of leaktrace: it places probes, takes in what they record, and reports what stays.
//!
//! Modules stand in the order in which they may know each other: each knows only those above it.
//! `ARCHITECTURE.md` has the picture.

pub mod config;
pub mod decode;
pub mod host;
pub mod judge;
pub mod ledger;
pub mod report;

pub mod address_spaces;
pub mod allocators;
pub mod binary;
pub mod golang;
pub mod mapping_watch;
pub mod mappings;
pub mod mmap_events;
pub mod modules;
pub mod naming;
pub mod places;
pub mod roster;
pub mod stacks;
pub mod summary;
pub mod symbolize;
pub mod unwind;
pub mod watchpoints;

pub mod examine;

pub mod attachments;
pub mod budget;
pub mod calibration;
pub mod cli;
pub mod diff;
pub mod go_watch;
pub mod inspect;
pub mod launch;
pub mod listen;
pub mod notify;
pub mod output;
pub mod probes;
pub mod render;
pub mod saved;
pub mod session;
pub mod source;
pub mod top;
pub mod tracefs;
pub mod tracer;
pub mod unwinding;
pub mod watch;
