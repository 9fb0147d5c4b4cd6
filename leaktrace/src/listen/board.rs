//! Owns what those who ask are told: the last report, what was lost, and whether all is well.
//! Must not know HTTP.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::report::model::Report;

/// Shared by the loop that makes reports and the server that tells of them.
#[derive(Debug, Default)]
pub struct Board {
    is_ready: AtomicBool,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    report: Option<Arc<Report>>,
    lost: BTreeMap<&'static str, u64>,
    beat: Option<Instant>,
}

impl Board {
    /// Notes that everything is in place.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Release);
        self.beat();
    }

    /// Whether everything is in place.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Notes that the loop is alive.
    pub fn beat(&self) {
        self.shown().beat = Some(Instant::now());
    }

    /// How long ago the loop was alive; `None` before it began.
    #[must_use]
    pub fn since_beat(&self) -> Option<Duration> {
        self.shown().beat.map(|beat| beat.elapsed())
    }

    /// Shows a report in place of the last one. Losses are told by a report as they rise, and add
    /// up here.
    pub fn show(&self, report: Arc<Report>) {
        let mut shown = self.shown();
        for (counter, count) in &report.lost {
            *shown.lost.entry(counter).or_default() += count;
        }
        shown.report = Some(report);
    }

    /// The last report.
    #[must_use]
    pub fn report(&self) -> Option<Arc<Report>> {
        self.shown().report.clone()
    }

    /// Everything that was lost, by counter name.
    #[must_use]
    pub fn lost(&self) -> BTreeMap<&'static str, u64> {
        self.shown().lost.clone()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Nothing that is done under the lock leaves it half done.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was lost between reports adds up, and the last report is the one that is shown.
    #[test]
    fn losses_add_up() {
        let board = Board::default();
        for (number, lost) in [(1, 2), (2, 5)] {
            board.show(Arc::new(Report {
                number,
                lost: BTreeMap::from([("frees_lost", lost)]),
                ..Report::default()
            }));
        }
        assert_eq!(board.report().map(|report| report.number), Some(2));
        assert_eq!(board.lost(), BTreeMap::from([("frees_lost", 7)]));
    }
}
