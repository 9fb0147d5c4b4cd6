//! Owns what is said of a verdict: the figures behind it, in a sentence.
//! Must not know how verdicts are found, nor the form of the report.

use std::{collections::BTreeMap, time::Duration};

use super::{model::Verdict, units};

/// The figures behind a verdict, in words; `None` where there is nothing to say but the verdict.
pub(super) fn evidence(verdict: Verdict, evidence: &BTreeMap<&'static str, f64>) -> Option<String> {
    let figures = Figures(evidence);
    match verdict {
        Verdict::Growing => figures.growing(),
        Verdict::Saturating => figures.saturating(),
        Verdict::Stable => figures.stable(),
        Verdict::Young => figures.young(),
    }
}

/// Figures by name.
struct Figures<'a>(&'a BTreeMap<&'static str, f64>);

impl Figures<'_> {
    fn of(&self, name: &str) -> Option<f64> {
        self.0
            .get(name)
            .copied()
            .filter(|figure| figure.is_finite())
    }

    /// `257.4 MiB`, of what is above zero.
    fn bytes(&self, name: &str) -> Option<String> {
        let figure = self.of(name).filter(|figure| *figure >= 1.0)?;
        Some(units::bytes(figure as u64))
    }

    fn time(&self, name: &str) -> Option<String> {
        let figure = self.of(name).filter(|figure| *figure >= 0.0)?;
        let duration = Duration::try_from_secs_f64(figure).ok()?;
        Some(units::duration(duration))
    }

    fn rate(&self, name: &str) -> Option<String> {
        self.of(name).map(units::trend)
    }

    /// `survivors rose by 257.4 MiB in 2m 10s and still rise by +2.0 MiB/s (trend: 99.99% sure); …`
    fn growing(&self) -> Option<String> {
        let growth = self.bytes("growth_bytes")?;
        let mut said = format!("rose by {growth}");
        if let Some(observed) = self.time("observed_seconds") {
            said.push_str(&format!(" in {observed}"));
        }
        let late = self.rate("late_bytes_per_second");
        if let Some(rate) = late.or_else(|| self.rate("bytes_per_second")) {
            said.push_str(&format!(", of late {rate}"));
        }
        if let Some(confidence) = self.of("trend_confidence") {
            said.push_str(&format!("; trend {} sure", confidence_words(confidence)));
        }
        if let Some(releases) = self.releases() {
            said.push_str(&format!(", in spite of {releases}"));
        }
        if let (Some(left), Some(time)) = (
            self.bytes("memory_left_bytes"),
            self.time("seconds_to_exhaustion"),
        ) {
            said.push_str(&format!(
                "; the {left} of memory left last {time} at this rate"
            ));
        }
        Some(said)
    }

    /// `rose by 140.0 MiB in 2m 10s, at first +1.2 MiB/s, of late +1.0 KiB/s`
    fn saturating(&self) -> Option<String> {
        let survivors = self.bytes("survivor_bytes")?;
        let mut said = format!("rose to {survivors}");
        if let Some(observed) = self.time("observed_seconds") {
            said.push_str(&format!(" in {observed}"));
        }
        if let (Some(early), Some(late)) = (
            self.rate("early_bytes_per_second"),
            self.rate("late_bytes_per_second"),
        ) {
            said.push_str(&format!(", at first {early}, of late {late}"));
        }
        Some(said)
    }

    /// `holds 1.2 MiB, no rise in 2m 10s`, or what was given back and how often.
    fn stable(&self) -> Option<String> {
        let observed = self.time("observed_seconds")?;
        if let Some(releases) = self.releases() {
            return Some(format!("rises and falls: {releases} in {observed}"));
        }
        Some(match self.bytes("survivor_bytes") {
            Some(survivors) => format!("{survivors} survive, with no lasting rise in {observed}"),
            None => format!("nothing survives, in {observed}"),
        })
    }

    /// Why there is no verdict yet.
    fn young(&self) -> Option<String> {
        if let Some(frees) = self.of("untraced_frees_per_second").filter(|it| *it > 0.0) {
            return Some(format!(
                "rises, but {frees:.1} frees a second are of blocks older than the trace, which these may replace"
            ));
        }
        let observed = self.time("observed_seconds")?;
        if let (Some(growth), Some(looks)) = (self.bytes("growth_bytes"), self.of("looks")) {
            let looks = units::counted(looks as u64, "look", false);
            return Some(format!(
                "rose by {growth} in {observed}, in which only {looks} told what survives: too few to judge"
            ));
        }
        Some(format!("watched for {observed}, too short to judge"))
    }

    /// `3 releases`
    fn releases(&self) -> Option<String> {
        match self.of("releases")? as u64 {
            0 => None,
            count => Some(units::counted(count, "release", false)),
        }
    }
}

/// A confidence, never more than there is: 99.9%, 99.99%, and above that `>99.99%`.
fn confidence_words(confidence: f64) -> String {
    match confidence.clamp(0.0, 1.0) {
        c if c > 0.9999 => ">99.99%".to_owned(),
        c if c >= 0.99 => format!("{:.2}%", (c * 1e4).floor() / 1e2),
        c => format!("{:.0}%", (c * 1e2).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(verdict: Verdict, figures: &[(&'static str, f64)], expected: Option<&str>) {
        let figures = figures.iter().copied().collect();
        assert_eq!(evidence(verdict, &figures).as_deref(), expected);
    }

    /// A leak is told with its rate and with what it will come to.
    #[test]
    fn leaks_in_words() {
        let figures = [
            ("observed_seconds", 130.0),
            ("growth_bytes", 1_048_576.0),
            ("trend_confidence", 0.99951),
            ("bytes_per_second", 8_065.0),
            ("late_bytes_per_second", 8_192.0),
            ("releases", 0.0),
            ("memory_left_bytes", 1_073_741_824.0),
            ("seconds_to_exhaustion", 131_072.0),
        ];
        let said = "rose by 1.0 MiB in 2m 10s, of late +8.0 KiB/s; trend 99.95% sure; \
                    the 1.0 GiB of memory left last 1d 12h at this rate";
        check(Verdict::Growing, &figures, Some(said));
        let some = [("growth_bytes", 2_048.0), ("releases", 4.0)];
        check(
            Verdict::Growing,
            &some,
            Some("rose by 2.0 KiB, in spite of 4 releases"),
        );
        check(Verdict::Growing, &[], None);
    }

    /// What is no leak is told with what shows it.
    #[test]
    fn innocents_in_words() {
        let figures = [
            ("observed_seconds", 60.0),
            ("survivor_bytes", 1_048_576.0),
            ("early_bytes_per_second", 65_536.0),
            ("late_bytes_per_second", 0.0),
            ("releases", 0.0),
        ];
        check(
            Verdict::Saturating,
            &figures,
            Some("rose to 1.0 MiB in 1m, at first +64.0 KiB/s, of late +0 B/s"),
        );
        check(
            Verdict::Stable,
            &figures,
            Some("1.0 MiB survive, with no lasting rise in 1m"),
        );
        check(
            Verdict::Stable,
            &[("observed_seconds", 60.0), ("releases", 3.0)],
            Some("rises and falls: 3 releases in 1m"),
        );
        check(
            Verdict::Young,
            &[("observed_seconds", 8.0)],
            Some("watched for 8s, too short to judge"),
        );
        check(
            Verdict::Young,
            &[
                ("observed_seconds", 60.0),
                ("growth_bytes", 2_048.0),
                ("looks", 2.0),
            ],
            Some(
                "rose by 2.0 KiB in 1m, in which only 2 looks told what survives: too few to judge",
            ),
        );
    }

    /// Figures that make no sense are left out, and confidence is never rounded up.
    #[test]
    fn odd_figures_do_no_harm() {
        let odd = [f64::NAN, f64::INFINITY, -1.0, f64::MAX, f64::MIN, 0.0];
        let names = [
            "observed_seconds",
            "growth_bytes",
            "trend_confidence",
            "late_bytes_per_second",
            "releases",
            "survivor_bytes",
            "memory_left_bytes",
            "seconds_to_exhaustion",
            "untraced_frees_per_second",
        ];
        for value in odd {
            let figures = names.map(|name| (name, value)).into_iter().collect();
            for verdict in [
                Verdict::Growing,
                Verdict::Saturating,
                Verdict::Stable,
                Verdict::Young,
            ] {
                let said = evidence(verdict, &figures).unwrap_or_default();
                assert!(!said.contains("NaN") && !said.contains("inf "), "{said}");
            }
        }
        assert_eq!(confidence_words(0.99999), ">99.99%");
        assert_eq!(confidence_words(0.99999 - 1e-4), "99.98%");
        assert_eq!(confidence_words(0.9), "90%");
    }
}
