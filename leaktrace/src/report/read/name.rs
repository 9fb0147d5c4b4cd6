//! Owns names that come from a stream and live as long as the program: of counters and of evidence.
//! Must not know what they name.
//!
//! In the model they are names of the program's own text, which need no memory. A stream brings the
//! same ones, and at times one of a later version: each is kept once, and there is an end to it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// Different names that are kept; leaktrace has a few dozen.
const NAMES_MAX: usize = 512;

/// The longest name that is kept.
const NAME_BYTES_MAX: usize = 64;

/// What further names are called: their figures are still told.
const OTHER: &str = "other";

/// The name for good.
pub(super) fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<Names> = Mutex::new(Names(BTreeSet::new()));
    // Nothing that is done under the lock leaves it half done.
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.lasting(name)
}

/// The names so far.
struct Names(BTreeSet<&'static str>);

impl Names {
    fn lasting(&mut self, name: &str) -> &'static str {
        if let Some(known) = self.0.get(name) {
            return known;
        }
        if self.0.len() >= NAMES_MAX || name.len() > NAME_BYTES_MAX {
            return OTHER;
        }
        let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
        self.0.insert(kept);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are kept once and up to a limit; further ones share a name.
    #[test]
    fn names_come_to_an_end() {
        let mut names = Names(BTreeSet::new());
        for i in 0..2 * NAMES_MAX {
            let name = format!("name_{i}");
            let expected = if i < NAMES_MAX { &name } else { OTHER };
            assert_eq!(names.lasting(&name), expected);
            assert_eq!(names.lasting(&name), expected);
        }
        assert_eq!(names.0.len(), NAMES_MAX);
        let mut names = Names(BTreeSet::new());
        assert_eq!(names.lasting(&"x".repeat(NAME_BYTES_MAX + 1)), OTHER);
    }
}
