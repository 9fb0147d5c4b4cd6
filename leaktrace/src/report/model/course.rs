//! Owns how a site went over time, and what suppressions hide, as reports tell it.
//! Must not know who watched or what was judged.

/// The most points of a course in any report.
pub const POINTS_MAX: usize = 128;

/// Live bytes over time: as many times as figures, the earliest first, at most `POINTS_MAX`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Seconds since the trace began.
    pub seconds: Vec<f64>,
    /// Live bytes at these times.
    pub bytes: Vec<u64>,
}

impl Course {
    /// Its points.
    pub fn points(&self) -> impl Iterator<Item = (f64, u64)> {
        self.seconds.iter().copied().zip(self.bytes.iter().copied())
    }

    /// Adds a point; when there are too many, every other one goes, so that it always covers all the
    /// time.
    pub fn push(&mut self, seconds: f64, bytes: u64) {
        if self.seconds.len() >= POINTS_MAX {
            *self = self.thinned(2);
        }
        self.seconds.push(seconds);
        self.bytes.push(bytes);
    }

    /// One point in so many, the last one always.
    pub fn thinned(&self, one_in: usize) -> Self {
        let last = self.seconds.len().min(self.bytes.len()).saturating_sub(1);
        let kept = self.points().enumerate();
        let kept = kept.filter(|(i, _)| (last - i).is_multiple_of(one_in.max(1)));
        let (seconds, bytes) = kept.map(|(_, point)| point).unzip();
        Self { seconds, bytes }
    }
}

/// What one suppression hides of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressed {
    /// The pattern, as it stands in the file after `leak:`.
    pub pattern: String,
    /// Sites that it hides.
    pub site_count: u64,
    /// Their live bytes.
    pub live_bytes: u64,
    /// Their live objects.
    pub live_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long it is followed, a course keeps its size, its order and its last point.
    #[test]
    fn a_course_stays_small() {
        let mut course = Course::default();
        for i in 0..10_000_u64 {
            course.push(i as f64, i * 2);
            assert!(course.seconds.len() <= POINTS_MAX);
            assert_eq!(course.points().last(), Some((i as f64, i * 2)));
        }
        assert!(course.seconds.len() >= POINTS_MAX / 2);
        assert!(course.seconds.is_sorted_by(|a, b| a < b));
        assert!(
            course
                .points()
                .all(|(seconds, bytes)| seconds * 2.0 == bytes as f64)
        );
        assert_eq!(Course::default().thinned(2), Course::default());
    }
}
