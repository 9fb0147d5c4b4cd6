//! Owns the report: its model, what each sink makes of it, and the reading of what a sink has made.
//! Must not know the kernel, files, clocks or how any figure came about.

pub mod diff;
pub mod folded;
pub mod history;
pub mod html;
pub mod json;
pub mod metrics;
pub mod model;
pub mod pprof;
pub mod read;
pub mod sink;
pub mod snapshot;
pub mod suppressions;
pub mod text;

pub(crate) mod escape;
pub(crate) mod units;
mod words;

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod samples;
