//! Owns the statistics of a course: whether it has a trend, how sure that is, and how steep it is.
//! Must not know what the numbers measure.

/// The least points that a trend can be told from.
pub const POINTS_MIN: usize = 8;

/// Standard errors beyond which the autocorrelation of a lag counts (two-sided 95 %).
const LAG_ERRORS: f64 = 1.96;

/// The outcome of a trend test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Standard errors by which the course rises (or falls, below 0).
    pub z: f64,
    /// How sure it is that it rises, from 0 to 1: one minus the one-sided p value.
    pub confidence: f64,
}

/// The test of Mann (1945) and Kendall (1975) for a monotonic trend, with the variance corrected for
/// autocorrelation by Hamed and Rao, "A modified Mann-Kendall trend test for autocorrelated data",
/// Journal of Hydrology 204 (1998). It assumes no distribution, and outliers do not sway it. A
/// correction that would make the test more sure is not believed. Quadratic in the points.
///
/// `None` for fewer than `POINTS_MIN` points.
#[must_use]
pub fn mann_kendall(times: &[f64], values: &[f64]) -> Option<Trend> {
    let n = values.len();
    if n < POINTS_MIN || times.len() != n {
        return None;
    }
    let mut score = 0_i64;
    for (i, early) in values.iter().enumerate() {
        for late in &values[i + 1..] {
            score += match late.total_cmp(early) {
                std::cmp::Ordering::Greater => 1,
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Less => -1,
            };
        }
    }
    let variance = variance_with_ties(values) * inflation(times, values);
    let score = score as f64;
    // One step towards zero: the score is discrete.
    let z = if variance > 0.0 && score != 0.0 {
        (score - score.signum()) / variance.sqrt()
    } else {
        0.0
    };
    Some(Trend {
        z,
        confidence: normal_cdf(z),
    })
}

/// The slope of Theil (1950) and Sen (1968): the median of the slopes of all pairs of points. Up to
/// 29 % of the points may be anything. 0 for fewer than two points.
#[must_use]
pub fn theil_sen(times: &[f64], values: &[f64]) -> f64 {
    let mut slopes = Vec::with_capacity(times.len() * times.len() / 2);
    for (i, (t, v)) in times.iter().zip(values).enumerate() {
        for (later_t, later_v) in times[i + 1..].iter().zip(&values[i + 1..]) {
            let span = later_t - t;
            if span > 0.0 {
                slopes.push((later_v - v) / span);
            }
        }
    }
    median(&mut slopes).unwrap_or(0.0)
}

/// The standard error of a slope through evenly spaced points, from how far each is from the next: a
/// trend adds little to that. 0 where most points stay where they were.
#[must_use]
pub fn slope_error(times: &[f64], values: &[f64]) -> f64 {
    /// From the median absolute deviation to the standard deviation of a normal distribution.
    const NORMAL: f64 = 1.482_6;
    let mut steps: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let Some(middle) = median(&mut steps) else {
        return 0.0;
    };
    steps
        .iter_mut()
        .for_each(|step| *step = (*step - middle).abs());
    // Of two neighbours each has its own deviation.
    let deviation = median(&mut steps).unwrap_or(0.0) * NORMAL / 2_f64.sqrt();
    let span = times.last().zip(times.first()).map_or(0.0, |(b, a)| b - a);
    let n = values.len() as f64;
    if span > 0.0 {
        deviation * (12.0 / n).sqrt() / span
    } else {
        0.0
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let (_, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*upper)
}

fn variance_with_ties(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let ties: f64 = sorted
        .chunk_by(|a, b| a == b)
        .map(|tied| term(tied.len() as f64))
        .sum();
    (term(values.len() as f64) - ties) / 18.0
}

/// What autocorrelation makes of the variance: formula 14 of Hamed and Rao, over the ranks of what
/// the trend leaves over.
fn inflation(times: &[f64], values: &[f64]) -> f64 {
    let n = values.len();
    let slope = theil_sen(times, values);
    let rest: Vec<f64> = times
        .iter()
        .zip(values)
        .map(|(t, v)| v - slope * t)
        .collect();
    let ranks = ranks(&rest);
    let mean = ranks.iter().sum::<f64>() / n as f64;
    let spread: f64 = ranks.iter().map(|rank| (rank - mean).powi(2)).sum();
    if spread == 0.0 {
        return 1.0;
    }
    let size = n as f64;
    let bound = LAG_ERRORS / size.sqrt();
    let mut sum = 0.0;
    for lag in 1..n - 2 {
        let products: f64 = ranks
            .iter()
            .zip(&ranks[lag..])
            .map(|(a, b)| (a - mean) * (b - mean))
            .sum();
        let correlation = products / spread;
        if correlation.abs() > bound {
            let k = lag as f64;
            sum += (size - k) * (size - k - 1.0) * (size - k - 2.0) * correlation;
        }
    }
    (1.0 + 2.0 / (size * (size - 1.0) * (size - 2.0)) * sum).max(1.0)
}

/// Ranks from 1; equal values share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (tied.len() as f64 + 1.0) / 2.0;
        for index in tied {
            ranks[*index] = rank;
        }
        first += tied.len();
    }
    ranks
}

/// The normal distribution function, by formula 26.2.17 of Abramowitz and Stegun: off by 7.5e-8.
fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{CONFIDENCE_MIN, samples::Noise};

    fn seconds(n: usize) -> Vec<f64> {
        (0..n).map(|i| i as f64).collect()
    }

    /// The published values for a series without trend, with a perfect one, and with ties.
    #[test]
    fn scores_are_those_of_the_literature() {
        let rising = seconds(10);
        let trend = mann_kendall(&rising, &rising).unwrap();
        // S = 45, Var = 125: (45 - 1) / sqrt(125).
        assert!((trend.z - 3.935_479).abs() < 1e-5, "{trend:?}");
        let tied = [23.0, 24.0, 29.0, 6.0, 29.0, 24.0, 24.0, 29.0, 23.0];
        // Gilbert (1987), section 16.4.2, example with ties t = 2, 3, 3: Var(S) = 1458 / 18 for n = 9.
        assert!(
            (variance_with_ties(&tied) - (9.0 * 8.0 * 23.0 - 18.0 - 66.0 - 66.0) / 18.0).abs()
                < 1e-9
        );
        let flat = mann_kendall(&rising, &[5.0; 10]).unwrap();
        assert_eq!(flat.z, 0.0);
        assert!((flat.confidence - 0.5).abs() < 1e-6, "{flat:?}");
        assert_eq!(mann_kendall(&rising[..4], &rising[..4]), None);
    }

    /// The slope is that of the line, also where a quarter of the points are wild.
    #[test]
    fn outliers_do_not_sway_the_slope() {
        let times = seconds(40);
        let mut values: Vec<f64> = times.iter().map(|t| 7.0 + 3.0 * t).collect();
        for i in (0..40).step_by(4) {
            values[i] = 1e9;
        }
        let slope = theil_sen(&times, &values);
        assert!((slope - 3.0).abs() < 0.5, "{slope}");
        assert_eq!(theil_sen(&[1.0], &[2.0]), 0.0);
    }

    /// Noise without trend, also where each value is near the one before, is called rising no more
    /// often than the confidence allows for.
    #[test]
    fn noise_is_rarely_called_a_trend() {
        let times = seconds(64);
        for (memory, rate_max) in [(0.0, 0.005), (0.5, 0.02), (0.8, 0.06)] {
            let mut noise = Noise::new(11);
            let mut found = 0;
            for _ in 0..1_000 {
                let mut level = 0.0;
                let values: Vec<f64> = times
                    .iter()
                    .map(|_| {
                        level = memory * level + noise.normal();
                        level
                    })
                    .collect();
                let trend = mann_kendall(&times, &values).unwrap();
                found += u32::from(trend.confidence > CONFIDENCE_MIN);
            }
            let rate = f64::from(found) / 1_000.0;
            assert!(rate <= rate_max, "memory {memory}: {rate}");
        }
    }

    /// A slope of a fifth of the noise is found in a hundred points.
    #[test]
    fn slow_trends_are_found() {
        let times = seconds(100);
        let mut noise = Noise::new(5);
        let mut found = 0;
        for _ in 0..200 {
            let values: Vec<f64> = times.iter().map(|t| 0.2 * t + noise.normal()).collect();
            found += u32::from(mann_kendall(&times, &values).unwrap().confidence > 0.99);
        }
        assert!(found >= 198, "{found} of 200");
    }

    /// The distribution function has the values of the tables.
    #[test]
    fn the_normal_distribution_is_known() {
        for (z, p) in [
            (0.0, 0.5),
            (1.0, 0.841_344_7),
            (-1.959_964, 0.025),
            (2.575_829, 0.995),
        ] {
            assert!((normal_cdf(z) - p).abs() < 1e-6, "{z}");
        }
    }
}
