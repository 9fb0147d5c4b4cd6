//! Owns how many of a site's live bytes were born when: what tells survivors from churn.
//! Must not know blocks' addresses, or what the figures are judged to be.
//!
//! A site may hand out and take back gigabytes and leak a kilobyte of them: its live bytes then move
//! by far more than it leaks. What was born some time ago and is still there moves with the leak
//! alone. So live bytes are kept by the epoch of their birth, in a fixed number of epochs which
//! double in width as time goes on.

/// Epochs that are told apart. As wide as they are, the youngest half of them covers at least a
/// quarter of the time since the first birth.
const EPOCHS_MAX: usize = 32;

/// Width of the first epochs: 2^20 microseconds, about a second.
const FIRST_SHIFT: u32 = 20;

/// Objects and bytes, in the units of the site's estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Objects.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Live objects of one site by birth: 16 bytes for each epoch since the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cohorts {
    /// When the first epoch began, in microseconds since boot.
    base_us: u64,
    /// An epoch is 2^(`FIRST_SHIFT` + this) microseconds wide.
    widening: u32,
    live: Vec<Units>,
}

impl Cohorts {
    /// A block was born.
    pub(super) fn add(&mut self, born_us: u64, (count, bytes): (u64, u64)) {
        if self.live.is_empty() {
            self.base_us = born_us;
        }
        let index = self.index(born_us);
        if index >= self.live.len() {
            self.live.resize(index + 1, Units::default());
        }
        let units = &mut self.live[index];
        units.count += count;
        units.bytes += bytes;
    }

    /// A block that was added is gone.
    pub(super) fn remove(&mut self, born_us: u64, (count, bytes): (u64, u64)) {
        let index = self.index(born_us);
        if let Some(units) = self.live.get_mut(index) {
            units.count = units.count.saturating_sub(count);
            units.bytes = units.bytes.saturating_sub(bytes);
        }
    }

    /// What is live of all that was born before a time. Of the epoch in which it lies nothing counts:
    /// to take churn for survivors would be worse than to see survivors an epoch later.
    #[must_use]
    pub fn born_before(&self, time_us: u64) -> Units {
        let Some(since_us) = time_us.checked_sub(self.base_us) else {
            return Units::default();
        };
        let whole = usize::try_from(since_us >> self.shift()).unwrap_or(usize::MAX);
        let mut sum = Units::default();
        for units in self.live.iter().take(whole) {
            sum.count += units.count;
            sum.bytes += units.bytes;
        }
        sum
    }

    /// When the first block was born that is known of, in microseconds since boot.
    #[must_use]
    pub fn first_birth_us(&self) -> Option<u64> {
        (!self.live.is_empty()).then_some(self.base_us)
    }

    const fn shift(&self) -> u32 {
        FIRST_SHIFT + self.widening
    }

    /// The epoch of a birth, after it was made to fit. Records of several threads can be out of order
    /// by microseconds, so that a birth before the first counts as the first.
    fn index(&mut self, born_us: u64) -> usize {
        let since_us = born_us.saturating_sub(self.base_us);
        while since_us >> self.shift() >= EPOCHS_MAX as u64 {
            self.widen();
        }
        // Below `EPOCHS_MAX`.
        (since_us >> self.shift()) as usize
    }

    fn widen(&mut self) {
        self.widening += 1;
        let pairs = self.live.chunks(2);
        self.live = pairs
            .map(|pair| Units {
                count: pair.iter().map(|it| it.count).sum(),
                bytes: pair.iter().map(|it| it.bytes).sum(),
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// What is born and dies in between leaves no trace, however long the trace runs, and what stays
    /// is told by when it was born.
    #[test]
    fn survivors_are_told_from_churn() {
        let mut cohorts = Cohorts::default();
        let start = 77 * SECOND;
        for second in 0..10_000 {
            let now = start + second * SECOND;
            cohorts.add(now, (1, 1_000_000));
            cohorts.add(now, (1, 10));
            cohorts.remove(now, (1, 1_000_000));
        }
        assert!(cohorts.live.len() <= EPOCHS_MAX);
        let all = cohorts.born_before(u64::MAX);
        assert_eq!(
            all,
            Units {
                count: 10_000,
                bytes: 100_000
            }
        );
        let half = cohorts.born_before(start + 5_000 * SECOND).count;
        // An epoch is 10 000 / 16 seconds wide at most.
        assert!((4_375..=5_000).contains(&half), "{half}");
    }

    /// The epoch that a time lies in does not count, and nothing does before the first birth.
    #[test]
    fn the_youngest_do_not_count() {
        let mut cohorts = Cohorts::default();
        assert_eq!(cohorts.first_birth_us(), None);
        cohorts.add(100 * SECOND, (1, 8));
        assert_eq!(cohorts.born_before(99 * SECOND), Units::default());
        assert_eq!(cohorts.born_before(101 * SECOND), Units::default());
        assert_eq!(cohorts.born_before(102 * SECOND).bytes, 8);
        assert_eq!(cohorts.first_birth_us(), Some(100 * SECOND));
    }

    /// A birth that is told late, and a death that was never told of, break nothing.
    #[test]
    fn odd_times_are_survived() {
        let mut cohorts = Cohorts::default();
        cohorts.add(50, (1, 8));
        cohorts.add(10, (1, 8));
        cohorts.remove(40, (5, 500));
        cohorts.remove(u64::MAX, (1, 1));
        cohorts.add(u64::MAX, (1, 1));
        assert_eq!(cohorts.born_before(u64::MAX), Units::default());
        assert_eq!(cohorts.live.iter().map(|it| it.count).sum::<u64>(), 1);
    }
}
