//! Owns what a report says of a Go process's goroutines.
//! Must not know where it comes from.

use std::{collections::BTreeMap, time::Duration};

use super::Frame;

/// The goroutines of one process, without the runtime's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Goroutines {
    /// How many there are.
    pub count: u64,
    /// How many have not run for the minimum age.
    pub blocked_count: u64,
    /// How many there are in each state.
    pub states: BTreeMap<&'static str, u64>,
    /// How many more there may be than were read.
    pub unread_count: u64,
    /// By who made them, most first; not all where there are many.
    pub created: Vec<CreatedGoroutines>,
    /// Those that are blocked, by where, most first; not all where there are many.
    pub blocked: Vec<BlockedGoroutines>,
    /// Why there is nothing to tell, where there is not.
    pub unavailable: Option<String>,
}

/// Goroutines that one `go` statement made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreatedGoroutines {
    /// How many there are.
    pub count: u64,
    /// How many of them have not run for the minimum age.
    pub blocked_count: u64,
    /// The statement; `None` for the program's first goroutine.
    pub created_by: Option<Frame>,
    /// The function that they run, where it has a name.
    pub function: Option<String>,
}

/// Goroutines that are blocked at one place and were made at one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockedGoroutines {
    /// How many there are.
    pub count: u64,
    /// How many of them have not run for the minimum age.
    pub blocked_count: u64,
    /// What they do: `waiting`, `syscall`, …
    pub state: String,
    /// Why they wait, in the words of Go's own stack traces.
    pub wait_reason: Option<String>,
    /// For how long the first of them has been seen there: at least so long it has been.
    pub age: Duration,
    /// The statement that made them; `None` for the program's first goroutine.
    pub created_by: Option<Frame>,
    /// Where they are, innermost first.
    pub stack: Vec<Frame>,
}
