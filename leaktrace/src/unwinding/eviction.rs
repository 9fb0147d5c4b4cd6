//! Owns the giving back of rows of files that no process maps any more, and of spaces that nobody refers to.
//! Must not know how rows are made or placed.
//!
//! A child refers to its parent's space without anyone being told, until its own code is published: so a space's files
//! count as used until the space is cleared, after which whoever still refers to it finds no code there.

use std::time::{Duration, Instant};

use leaktrace_common::{code::CodeSpace, limits::CODE_SPACES_MAX};

use super::{REUSE_PAUSE, State, Unwinding};
use crate::{modules::ModuleId, probes::Probes};

/// A file's rows stay for so long after its last process: programs that come and go need not have them made
/// each time.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// How often it is looked for files that are not used any more.
const PAUSE: Duration = Duration::from_secs(1);

impl Unwinding {
    /// A space that nobody refers to; `None` when there is none.
    pub(super) fn fresh_space(&mut self, probes: &mut Probes) -> anyhow::Result<Option<u32>> {
        self.clear_rested(probes)?;
        if let Some(number) = self.cleared.pop() {
            return Ok(Some(number));
        }
        if self.never_used < CODE_SPACES_MAX {
            self.never_used += 1;
            return Ok(Some(self.never_used - 1));
        }
        Ok(None)
    }

    /// Clears spaces that were left long enough ago for every walk in them to have ended.
    fn clear_rested(&mut self, probes: &mut Probes) -> anyhow::Result<()> {
        let is_rested = |(since, _): &(Instant, u32)| since.elapsed() > REUSE_PAUSE;
        while self.resting.front().is_some_and(is_rested) {
            let Some((_, number)) = self.resting.pop_front() else {
                break;
            };
            probes.write_code(number, &CodeSpace::EMPTY)?;
            let files = self.files_of.remove(&number).unwrap_or_default();
            self.leaves(&files, Instant::now());
            self.cleared.push(number);
        }
        Ok(())
    }

    /// Notes that a space has pieces of files no more.
    fn leaves(&mut self, files: &[ModuleId], now: Instant) {
        for file in files {
            if let Some(State::Ready {
                spaces,
                unused_since,
                ..
            }) = self.files.get_mut(file)
            {
                *spaces = spaces.saturating_sub(1);
                if *spaces == 0 {
                    *unused_since = Some(now);
                }
            }
        }
    }

    /// Notes that a space has pieces of files.
    pub(super) fn uses(&mut self, files: &[ModuleId]) {
        for file in files {
            if let Some(State::Ready {
                spaces,
                unused_since,
                ..
            }) = self.files.get_mut(file)
            {
                *spaces += 1;
                *unused_since = None;
            }
        }
    }

    /// Gives back the rows of files that no process has mapped for a while.
    pub(super) fn evict(&mut self, probes: &mut Probes) -> anyhow::Result<()> {
        if self.evicted.elapsed() < PAUSE {
            return Ok(());
        }
        self.evicted = Instant::now();
        self.clear_rested(probes)?;
        self.release_unused(Instant::now());
        Ok(())
    }

    /// The same for the rows alone.
    fn release_unused(&mut self, now: Instant) {
        let shards = &mut self.shards;
        self.files.retain(|_, state| match state {
            State::Ready {
                segments,
                unused_since: Some(since),
                ..
            } if now.saturating_duration_since(*since) > UNUSED_MAX => {
                shards.release(segments);
                false
            }
            _ => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{modules::Modules, unwind::Rows};

    /// A file's rows stay as long as any process maps it and a minute longer, also when one comes back within; then its
    /// room is another's.
    #[test]
    fn rows_are_given_back_a_minute_after_the_last_process() {
        let mut unwinding = Unwinding::new().unwrap();
        let rows = Rows {
            pcs: vec![4, 8, 12],
            rules: vec![7; 3],
        };
        let mut modules = Modules::default();
        let [library, other] = ["/bin/sh", "/bin/ls"].map(|it| modules.adopt(Path::new(it)));
        let segments = unwinding.shards.add(&rows);
        let first = segments.clone();
        unwinding.files.insert(library, State::ready(segments));
        let segments = unwinding.shards.add(&rows);
        unwinding.files.insert(other, State::ready(segments));
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        // Two processes map the library, of which one also maps the other file.
        unwinding.uses(&[library, other]);
        unwinding.uses(&[library]);
        unwinding.release_unused(at(1_000));
        assert_eq!(unwinding.files.len(), 2);
        unwinding.leaves(&[library, other], at(1_000));
        unwinding.release_unused(at(1_059));
        assert_eq!(unwinding.files.len(), 2);
        unwinding.release_unused(at(1_061));
        assert!(unwinding.files.contains_key(&library));
        assert!(!unwinding.files.contains_key(&other));
        // The last one ends, and another comes before the minute is over.
        unwinding.leaves(&[library], at(2_000));
        unwinding.release_unused(at(2_030));
        unwinding.uses(&[library]);
        unwinding.release_unused(at(9_000));
        assert!(unwinding.files.contains_key(&library));
        unwinding.leaves(&[library], at(9_000));
        unwinding.release_unused(at(9_061));
        assert!(unwinding.files.is_empty());
        assert_eq!(unwinding.shards.add(&rows), first);
    }
}
