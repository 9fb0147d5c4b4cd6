//! Tests verdicts on courses whose truth is known: a description in, a word out.

use super::*;
use crate::judge::samples::Noise;

/// A course of survivors at one point a second.
fn course(seconds: usize, mut bytes: impl FnMut(f64) -> f64) -> (Vec<f64>, Vec<Point>) {
    let times: Vec<f64> = (0..seconds).map(|i| 1_000.0 + i as f64).collect();
    let points = (0..seconds).map(|i| {
        let bytes = bytes(i as f64).max(0.0) as u64;
        Point {
            live_bytes: bytes,
            old_bytes: bytes,
            old_count: bytes / 100,
        }
    });
    (times, points.collect())
}

#[track_caller]
fn check(what: &str, seconds: usize, bytes: impl FnMut(f64) -> f64, expected: Verdict) {
    let (times, points) = course(seconds, bytes);
    let judgement = judge(&times, &times, &points, Circumstances::default());
    assert_eq!(judgement.verdict, expected, "{what}: {judgement:?}");
}

/// What rises for ever is a leak, however slow, in steps or between releases of other things.
#[test]
fn leaks_are_growing() {
    check("steady", 60, |t| 1_024.0 * t, Verdict::Growing);
    check("short", 16, |t| 1_024.0 * t, Verdict::Growing);
    check(
        "beside a large level",
        100,
        |t| 1e9 + 1_024.0 * t,
        Verdict::Growing,
    );
    check(
        "a large block each ten seconds",
        100,
        |t| (t / 10.0).floor() * 1e6,
        Verdict::Growing,
    );
    check(
        "a vector that doubles",
        135,
        |t| 2_f64.powf((t + 1.0).log2().ceil()) * 4_096.0,
        Verdict::Growing,
    );
    let mut noise = Noise::new(1);
    check(
        "under noise",
        120,
        |t| 1e6 + 1_024.0 * t + 10_000.0 * noise.normal(),
        Verdict::Growing,
    );
    check(
        "beneath a buffer that is emptied",
        120,
        |t| 20_000.0 * t + (t % 20.0) * 50_000.0,
        Verdict::Growing,
    );
}

/// A full cache whose entries are replaced ever more slowly has ever more survivors, and no more bytes; a leak beside churn
/// has both.
#[test]
fn a_cache_that_is_asked_less_is_no_leak() {
    for (live, expected) in [
        ((|_| 512_000.0) as fn(f64) -> f64, Verdict::Stable),
        (|t| 512_000.0 + 1_200.0 * t, Verdict::Growing),
    ] {
        let (times, mut points) = course(30, |t| 300_000.0 + 1_200.0 * t);
        for (at, point) in points.iter_mut().enumerate() {
            point.live_bytes = live(at as f64) as u64;
        }
        let judgement = judge(&times, &times, &points, Circumstances::default());
        assert_eq!(judgement.verdict, expected, "{judgement:?}");
    }
}

/// What rose and levels off is a cache.
#[test]
fn caches_are_saturating() {
    check(
        "full at a third",
        90,
        |t| t.min(30.0) * 1e5,
        Verdict::Saturating,
    );
    check(
        "ever more hits",
        120,
        |t| 1e7 * (1.0 - (-t / 30.0).exp()),
        Verdict::Saturating,
    );
    check(
        "filled during warm-up",
        60,
        |t| t.min(5.0) * 1e6,
        Verdict::Saturating,
    );
    let mut noise = Noise::new(2);
    check(
        "full, with comings and goings",
        120,
        |t| 1e7 * (1.0 - (-t / 15.0).exp()) + 50_000.0 * noise.normal(),
        Verdict::Saturating,
    );
}

/// What is replaced, emptied or never moved is stable.
#[test]
fn replacement_is_stable() {
    check("nothing survives", 60, |_| 0.0, Verdict::Stable);
    check("constant", 60, |_| 1e6, Verdict::Stable);
    check(
        "emptied each ten seconds",
        95,
        |t| (t % 10.0) * 1e5,
        Verdict::Stable,
    );
    check(
        "emptied once, refilling",
        60,
        |t| ((t + 20.0) % 50.0) * 1e5,
        Verdict::Stable,
    );
    let mut noise = Noise::new(3);
    check(
        "noise",
        120,
        |_| 1e6 + 1e5 * noise.normal(),
        Verdict::Stable,
    );
    check("falling", 60, |t| 1e6 - 1e4 * t, Verdict::Stable);
}

/// Before there is evidence there is no verdict.
#[test]
fn the_young_are_not_judged() {
    check("ten seconds", 10, |t| 1e6 * t, Verdict::Young);
    check("began late", 60, |t| (t - 50.0) * 1e6, Verdict::Young);
    check("nothing at all", 0, |_| 0.0, Verdict::Young);
}

/// Stationary noise of any memory is rarely blamed: at most one course in fifty.
#[test]
fn stationary_courses_are_rarely_blamed() {
    for memory in [0.0, 0.6, 0.9] {
        let mut noise = Noise::new(17);
        let mut blamed = 0;
        for _ in 0..500 {
            let mut level = 0.0;
            let (times, points) = course(120, |_| {
                level = memory * level + noise.normal();
                1e6 + 1e5 * level
            });
            let judgement = judge(&times, &times, &points, Circumstances::default());
            blamed += u32::from(judgement.verdict == Verdict::Growing);
        }
        assert!(blamed <= 10, "memory {memory}: {blamed} of 500");
    }
}

/// One kibibyte a second is found beside survivors that come and go by the hundred kilobytes.
#[test]
fn slow_leaks_are_found_under_noise() {
    let mut noise = Noise::new(23);
    let mut found = 0;
    for _ in 0..200 {
        let (times, points) = course(120, |t| 1e6 + 1_024.0 * t + 30_000.0 * noise.normal());
        let judgement = judge(&times, &times, &points, Circumstances::default());
        found += u32::from(judgement.verdict == Verdict::Growing);
    }
    assert!(found >= 180, "{found} of 200");
}

/// The growth told is that of the leak, and the time until memory is used up follows from it.
#[test]
fn growth_is_the_rate_of_the_leak() {
    let (times, points) = course(60, |t| 2_048.0 * t);
    let mut judgement = judge(&times, &times, &points, Circumstances::default());
    judgement.set_memory_left(2_048_000);
    let growth = judgement.growth_bytes_per_second.unwrap();
    assert!((growth - 2_048.0).abs() < 1.0, "{growth}");
    assert_eq!(judgement.evidence["seconds_to_exhaustion"], 1_000.0);
    assert_eq!(judgement.evidence["observed_seconds"], 59.0);
}

/// Where collections tell now and then what survives, each longer after the last, the growth is that of the
/// leak all the same; before the first has told anything there is no verdict.
#[test]
fn growth_between_collections_is_the_rate_of_the_leak() {
    let (times, _) = course(130, |_| 0.0);
    let collected = |t: f64| match t - 1_000.0 {
        since if since < 4.0 => 0.0,
        since => 1_000.0 + 4.0 * 2_f64.powf((since / 4.0).log2().floor()),
    };
    let horizons: Vec<f64> = times.iter().map(|it| collected(*it)).collect();
    let (_, points) = course(130, |t| 2_048.0 * (collected(1_000.0 + t) - 1_000.0));
    let judgement = judge(&times, &horizons, &points, Circumstances::default());
    assert_eq!(judgement.verdict, Verdict::Growing, "{judgement:?}");
    let growth = judgement.growth_bytes_per_second.unwrap();
    assert!((growth - 2_048.0).abs() < 1.0, "{growth}");
    let never = vec![0.0; times.len()];
    let living = Point {
        live_bytes: 1,
        ..Point::default()
    };
    let judgement = judge(&times, &never, &[living; 130], Circumstances::default());
    assert_eq!(judgement.verdict, Verdict::Young, "{judgement:?}");
}

/// What a leak looks like after one or two collections is no cache that has filled: too little is known of it.
#[test]
fn few_collections_judge_nothing_that_rises() {
    let (times, _) = course(120, |_| 0.0);
    for every in [90.0, 50.0] {
        let collected = |t: f64| 1_000.0 + ((t - 1_000.0) / every).floor() * every;
        let horizons: Vec<f64> = times.iter().map(|it| collected(*it)).collect();
        let (_, points) = course(120, |t| 2_048.0 * (collected(1_000.0 + t) - 1_000.0));
        let judgement = judge(&times, &horizons, &points, Circumstances::default());
        assert_eq!(judgement.verdict, Verdict::Young, "{judgement:?}");
        assert_eq!(judgement.growth_bytes_per_second, None);
        assert_eq!(
            judgement.evidence["looks"],
            1.0 + (120.0_f64 / every).floor()
        );
    }
}

/// As long as as much of what is older than the trace is freed as comes, it may be replacement.
#[test]
fn replacement_of_what_is_older_is_not_blamed() {
    // 1 000 bytes and so 10 objects a second.
    let (times, points) = course(60, |t| 1_000.0 * t);
    for (frees, expected) in [
        (0.0, Verdict::Growing),
        (6.0, Verdict::Growing),
        (10.0, Verdict::Young),
    ] {
        let circumstances = Circumstances {
            untraced_frees_per_second: frees,
        };
        let judgement = judge(&times, &times, &points, circumstances);
        assert_eq!(judgement.verdict, expected, "{frees}: {judgement:?}");
    }
}
