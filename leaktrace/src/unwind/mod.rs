//! Owns unwind tables: made from a file's call frame information, kept on disk, walked for tests.
//! Must not know processes, maps of the kernel or how tables are loaded into them.
//!
//! A file becomes `FrameSections` (bytes), these a `Table` (rows and the rules they name), and that
//! `Rows`, whose rules are numbered for the whole run by a `Dictionary`. Only the last step is not
//! pure: tables can be built in any thread and in any order, and come from the `cache` alike.

pub mod cache;
pub mod dictionary;
mod rules;
pub mod sections;
pub mod table;
pub mod walk;

pub use self::{
    dictionary::{Dictionary, Origin, Rows},
    sections::FrameSections,
    table::Table,
};

#[cfg(test)]
mod tests;
