//! Owns the report as Prometheus metrics: their names, labels and how many there may be.
//! Must not know HTTP, nor who asks.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: base units, `_total` for what only
//! rises. A monitoring system keeps each set of labels for ever, so both processes and sites are
//! capped, the largest first, and how many were left out is a metric itself.

mod cgroups;
mod families;

use std::collections::BTreeMap;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, prometheus_text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use self::families::{PROCESS_COUNTERS, PROCESS_GAUGES, PROCESS_STATES, State};
use super::{
    escape::visible,
    model::{Container, K8s, Process, Report, Site, Verdict},
};

/// Processes that get series of their own: about twenty series each.
pub const PROCESSES_MAX: usize = 100;

/// Growing sites of one process that get series of their own.
pub const SITES_MAX: usize = 5;

/// Longest value of a label, in characters; what is longer was not written for people.
const LABEL_CHARS_MAX: usize = 120;

/// The media type of `render`'s text.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What the agent tells of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agent {
    /// leaktrace's version.
    pub version: String,
    /// CPU time it has used, in seconds.
    pub cpu_seconds: f64,
    /// Its resident memory.
    pub resident_bytes: u64,
    /// Its open descriptors.
    pub open_fds: u64,
    /// When it started, in seconds since the Unix epoch.
    pub start_time_unix_seconds: f64,
    /// Everything that was lost since it started, by counter name.
    pub lost: BTreeMap<&'static str, u64>,
}

type Labels = Vec<(&'static str, String)>;

/// A report and the agent that made it, as a scrape finds them.
#[derive(Debug)]
struct Scrape {
    report: Option<std::sync::Arc<Report>>,
    agent: Agent,
}

/// Writes the metrics in the Prometheus text format 0.0.4. Without a report yet there are only the
/// agent's own.
#[must_use]
pub fn render(report: Option<std::sync::Arc<Report>>, agent: Agent) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { report, agent }));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a String takes all that is written");
    text
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        self.encode_agent(&mut encoder)?;
        let Some(report) = &self.report else {
            return Ok(());
        };
        encode_report(&mut encoder, report)?;
        cgroups::encode(&mut encoder, &report.cgroups)?;
        let listed = &report.processes[..report.processes.len().min(PROCESSES_MAX)];
        let labelled: Vec<(Labels, &Process)> = listed
            .iter()
            .map(|process| (labels(process), process))
            .collect();
        for family in PROCESS_GAUGES {
            let mut metric = gauge(&mut encoder, family.name, family.help)?;
            for (labels, process) in &labelled {
                if let Some(value) = (family.value)(process) {
                    sample(&mut metric, labels, value)?;
                }
            }
        }
        for family in PROCESS_COUNTERS {
            let mut metric = counter(&mut encoder, family.name, family.help)?;
            for (labels, process) in labelled.iter().filter(|(_, it)| it.has_figures()) {
                count(&mut metric, labels, (family.value)(process))?;
            }
        }
        encode_states(&mut encoder, &labelled)?;
        encode_sites(&mut encoder, &labelled)
    }
}

impl Scrape {
    fn encode_agent(&self, encoder: &mut DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Agent {
            version,
            cpu_seconds,
            resident_bytes,
            open_fds,
            start_time_unix_seconds,
            lost,
        } = &self.agent;
        let mut metric = gauge(encoder, "leaktrace_build_info", "The agent's version")?;
        sample(&mut metric, &vec![("version", label(version))], 1.0)?;
        let mut metric = encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time of the agent in seconds.",
            None,
            MetricType::Counter,
        )?;
        count_f64(&mut metric, &Vec::new(), *cpu_seconds)?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory of the agent",
                *resident_bytes as f64,
            ),
            (
                "process_open_fds",
                "Open descriptors of the agent",
                *open_fds as f64,
            ),
            (
                "process_start_time_seconds",
                "When the agent started, since the Unix epoch",
                *start_time_unix_seconds,
            ),
        ] {
            sample(&mut gauge(encoder, name, help)?, &Vec::new(), value)?;
        }
        let mut metric = counter(
            encoder,
            "leaktrace_lost_events",
            "Events that were lost, by the name of their counter",
        )?;
        for (counter, total) in lost {
            count(&mut metric, &vec![("counter", label(counter))], *total)?;
        }
        Ok(())
    }
}

fn encode_report(encoder: &mut DescriptorEncoder, report: &Report) -> Result<(), std::fmt::Error> {
    let unlisted = report.processes.len().saturating_sub(PROCESSES_MAX) as u64;
    for (name, help, value) in [
        (
            "leaktrace_report_timestamp_seconds",
            "When the last report was made, since the Unix epoch",
            report.time_unix_ns as f64 / 1e9,
        ),
        (
            "leaktrace_processes",
            "Processes in the last report",
            report.processes.len() as f64,
        ),
        (
            "leaktrace_processes_without_series",
            "Processes of the last report beyond the number that get series",
            (unlisted + report.quiet_process_count) as f64,
        ),
    ] {
        sample(&mut gauge(encoder, name, help)?, &Vec::new(), value)?;
    }
    let mut metric = counter(encoder, "leaktrace_reports", "Reports made")?;
    count(&mut metric, &Vec::new(), u64::from(report.number))
}

/// What is a state, not a number: a series for the one that holds.
fn encode_states(
    encoder: &mut DescriptorEncoder,
    labelled: &[(Labels, &Process)],
) -> Result<(), std::fmt::Error> {
    for State { key, family } in PROCESS_STATES {
        let mut metric = gauge(encoder, family.name, family.help)?;
        for (labels, process) in labelled {
            let mut labels = labels.clone();
            labels.push((key, (family.value)(process).to_owned()));
            sample(&mut metric, &labels, 1.0)?;
        }
    }
    let mut metric = counter(
        encoder,
        "leaktrace_process_lost_events",
        "Events of the process that were lost, by the name of their counter",
    )?;
    for (labels, process) in labelled {
        for (counter, total) in &process.accuracy.lost {
            let mut labels = labels.clone();
            labels.push(("counter", label(counter)));
            count(&mut metric, &labels, *total)?;
        }
    }
    Ok(())
}

/// Sites get series only while they are judged to be growing.
fn encode_sites(
    encoder: &mut DescriptorEncoder,
    labelled: &[(Labels, &Process)],
) -> Result<(), std::fmt::Error> {
    let growing = |process: &&Process| -> Vec<Site> {
        let sites = process.sites.iter();
        let growing = sites.filter(|site| site.verdict == Verdict::Growing);
        growing.take(SITES_MAX).cloned().collect()
    };
    let sites: Vec<(Labels, Site)> = labelled
        .iter()
        .flat_map(|(labels, process)| {
            growing(process).into_iter().map(|site| {
                let mut labels = labels.clone();
                labels.push(("site", format!("{:016x}", site.id)));
                let named = site.stack.iter().find_map(|frame| frame.function.as_ref());
                labels.push(("function", label(named.map_or("", String::as_str))));
                (labels, site)
            })
        })
        .collect();
    let mut metric = gauge(
        encoder,
        "leaktrace_growing_site_live_bytes",
        "Live bytes of a site that is judged to be growing",
    )?;
    for (labels, site) in &sites {
        sample(&mut metric, labels, site.counts.live_bytes as f64)?;
    }
    let mut metric = gauge(
        encoder,
        "leaktrace_growing_site_growth_bytes_per_second",
        "How fast the live bytes of a growing site rise",
    )?;
    for (labels, site) in &sites {
        if let Some(growth) = site.growth_bytes_per_second {
            sample(&mut metric, labels, growth)?;
        }
    }
    Ok(())
}

/// What tells one process from another to the people who are woken by it.
fn labels(process: &Process) -> Labels {
    let mut labels = vec![
        ("pid", process.identity.pid.to_string()),
        ("executable", label(&process.executable.name)),
    ];
    labels.extend(place_labels(
        process.container.as_ref(),
        process.k8s.as_ref(),
    ));
    labels
}

/// What tells where it runs.
fn place_labels(container: Option<&Container>, k8s: Option<&K8s>) -> Labels {
    let mut labels = Vec::new();
    if let Some(container) = container {
        labels.push(("container_id", label(&container.id)));
        if let Some(name) = &container.name {
            labels.push(("container", label(name)));
        }
    }
    if let Some(k8s) = k8s {
        let named = [("namespace", &k8s.namespace), ("pod", &k8s.pod)];
        let known = named
            .into_iter()
            .filter_map(|(name, text)| Some((name, label(text.as_deref()?))));
        labels.extend(known);
    }
    labels
}

/// Foreign text as a label's value: cut, and without what deceives a reader.
fn label(text: &str) -> String {
    let cut: String = text.chars().take(LABEL_CHARS_MAX).collect();
    visible(&cut, false).into_owned()
}

fn gauge<'e>(
    encoder: &'e mut DescriptorEncoder,
    name: &'static str,
    help: &str,
) -> Result<MetricEncoder<'e>, std::fmt::Error> {
    encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)
}

fn counter<'e>(
    encoder: &'e mut DescriptorEncoder,
    name: &'static str,
    help: &str,
) -> Result<MetricEncoder<'e>, std::fmt::Error> {
    encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)
}

fn sample(metric: &mut MetricEncoder, labels: &Labels, value: f64) -> Result<(), std::fmt::Error> {
    use prometheus_client::encoding::EncodeMetric as _;
    ConstGauge::new(value).encode(metric.encode_family(labels)?)
}

fn count(metric: &mut MetricEncoder, labels: &Labels, value: u64) -> Result<(), std::fmt::Error> {
    use prometheus_client::encoding::EncodeMetric as _;
    ConstCounter::new(value).encode(metric.encode_family(labels)?)
}

fn count_f64(
    metric: &mut MetricEncoder,
    labels: &Labels,
    value: f64,
) -> Result<(), std::fmt::Error> {
    use prometheus_client::encoding::EncodeMetric as _;
    ConstCounter::new(value).encode(metric.encode_family(labels)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::report::samples;

    fn agent() -> Agent {
        Agent {
            version: "0.1.0".into(),
            cpu_seconds: 1.5,
            resident_bytes: 9_000_000,
            open_fds: 30,
            start_time_unix_seconds: 1_772_619_000.0,
            lost: BTreeMap::from([("allocations_lost", 37)]),
        }
    }

    /// Every series of one family, without its help.
    fn family<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
        let is_of = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        text.lines().filter(is_of).collect()
    }

    /// Each process of a report has its figures, and an unseen one has none, not zero.
    #[test]
    fn figures_become_series() {
        let report = samples::rich();
        let seen = report
            .processes
            .iter()
            .filter(|it| it.has_figures())
            .count();
        let total = report.processes.len();
        assert!(seen < total, "the sample has an unseen process");
        let text = render(Some(Arc::new(report.clone())), agent());
        assert_eq!(family(&text, "leaktrace_process_live_bytes").len(), seen);
        assert_eq!(
            family(&text, "leaktrace_process_allocated_bytes_total").len(),
            seen
        );
        assert_eq!(family(&text, "leaktrace_process_verdict").len(), total);
        let growing = report.processes.iter().flat_map(|it| &it.sites);
        let growing = growing.filter(|site| site.verdict == Verdict::Growing);
        assert_eq!(
            family(&text, "leaktrace_growing_site_live_bytes").len(),
            growing.count()
        );
        assert_eq!(
            family(&text, "leaktrace_lost_events_total"),
            [r#"leaktrace_lost_events_total{counter="allocations_lost"} 37"#]
        );
    }

    /// The number of series is bounded however many processes there are, and what is left out is
    /// told.
    #[test]
    fn series_are_bounded() {
        let mut report = samples::rich();
        let process = report.processes[0].clone();
        report.processes = vec![process; PROCESSES_MAX + 23];
        report.quiet_process_count = 0;
        let text = render(Some(Arc::new(report)), agent());
        assert_eq!(
            family(&text, "leaktrace_process_verdict").len(),
            PROCESSES_MAX
        );
        assert_eq!(
            family(&text, "leaktrace_processes_without_series"),
            ["leaktrace_processes_without_series 23.0"]
        );
    }

    /// Names that a process chose can neither end a line nor fill a page.
    #[test]
    fn names_cannot_break_out() {
        let mut report = samples::calm();
        report.processes[0].executable.name = format!("a\"}} 1\nb\u{202e}{}", "x".repeat(9_000));
        let text = render(Some(Arc::new(report)), agent());
        let line = family(&text, "leaktrace_process_verdict")[0];
        assert!(line.contains(r#"a\"} 1\\nb\\u{202e}xxx"#), "{line}");
        assert!(line.len() < 400, "{} bytes", line.len());
    }

    /// Before the first report the agent's own metrics are there.
    #[test]
    fn the_agent_is_told_without_a_report() {
        let text = render(None, agent());
        assert_eq!(
            family(&text, "leaktrace_build_info"),
            [r#"leaktrace_build_info{version="0.1.0"} 1.0"#]
        );
        assert!(family(&text, "leaktrace_reports_total").is_empty());
    }
}
