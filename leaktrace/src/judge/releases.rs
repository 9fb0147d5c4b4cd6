//! Owns where a course falls back: buffers that are emptied, caches that are flushed.
//! Must not know what that means for a verdict.

use super::RELEASE_SHARE;

/// The falls of a course.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Releases {
    /// The level after each fall, in order.
    pub troughs: Vec<f64>,
    /// The highest level before the last fall; 0 where there was none.
    pub peak: f64,
    /// The index of the last trough.
    pub last: usize,
    /// The most points between two troughs, or the beginning and the first one.
    pub longest: usize,
}

/// Finds every fall by `RELEASE_SHARE` of the highest level since the one before. A fall lasts until
/// the course rises by that share of the fall again.
#[must_use]
pub fn find(values: &[f64]) -> Releases {
    let mut found = Releases::default();
    let mut peak = 0.0_f64;
    let mut trough: Option<(usize, f64)> = None;
    let mut previous = 0;
    for (index, value) in values.iter().copied().enumerate() {
        match trough {
            Some((at, low)) if value <= low => {
                trough = Some((index, value));
                let _ = at;
            }
            Some((at, low)) if value >= low + RELEASE_SHARE * (peak - low) => {
                found.close(at, low, peak, &mut previous);
                trough = None;
                peak = value;
            }
            Some(_) => {}
            None if value < peak * (1.0 - RELEASE_SHARE) => trough = Some((index, value)),
            None => peak = peak.max(value),
        }
    }
    if let Some((at, low)) = trough {
        found.close(at, low, peak, &mut previous);
    }
    found
}

impl Releases {
    fn close(&mut self, at: usize, low: f64, peak: f64, previous: &mut usize) {
        self.troughs.push(low);
        self.peak = self.peak.max(peak);
        self.longest = self.longest.max(at - *previous);
        self.last = at;
        *previous = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each tooth of a saw is a release; a rise or a little noise is none.
    #[test]
    fn teeth_are_found() {
        let saw: Vec<f64> = (0..50).map(|i| f64::from(i % 10) * 100.0 + 50.0).collect();
        let found = find(&saw);
        assert_eq!(found.troughs, [50.0; 4]);
        assert_eq!((found.peak, found.last, found.longest), (950.0, 40, 10));
        let rise: Vec<f64> = (0..50).map(f64::from).collect();
        assert_eq!(find(&rise), Releases::default());
        let noisy: Vec<f64> = (0..50).map(|i| 100.0 + f64::from(i % 3)).collect();
        assert_eq!(find(&noisy), Releases::default());
        assert_eq!(find(&[]), Releases::default());
    }

    /// A fall in steps is one fall, and one that lasts to the end counts.
    #[test]
    fn slow_falls_are_one() {
        let found = find(&[0.0, 100.0, 60.0, 40.0, 10.0]);
        assert_eq!(found.troughs, [10.0]);
        assert_eq!(found.last, 4);
    }
}
