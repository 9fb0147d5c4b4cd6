//! Owns the report: its model, and what each sink makes of it.
//! Must not know the kernel, files, clocks or how any figure came about.

pub mod json;
pub mod metrics;
pub mod model;
pub mod text;

pub(crate) mod escape;
pub(crate) mod units;

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod samples;
