//! Owns what can be told from the bytes of a program file: functions, and where to probe them.
//! Must not know paths, processes, the kernel's interfaces or who asks.

pub mod elf;
pub mod flow;
pub mod placement;
pub mod sparse;
