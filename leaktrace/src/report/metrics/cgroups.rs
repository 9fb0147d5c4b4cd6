//! Owns the metrics of control groups.
//! Must not know those of processes.

use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, count, counter, gauge, label, place_labels, sample};
use crate::report::model::Cgroup;

/// Groups that get series of their own, the first of the report: six series each.
const CGROUPS_MAX: usize = 100;

/// A figure of a group; `None` where it has none.
type Figure = fn(&Cgroup) -> Option<f64>;

const GAUGES: [(&str, &str, Figure); 4] = [
    (
        "leaktrace_cgroup_memory_bytes",
        "All memory that is charged to the control group, caches of files too",
        |it| Some(it.memory_bytes as f64),
    ),
    (
        "leaktrace_cgroup_anonymous_bytes",
        "Memory of the control group that no file backs",
        |it| Some(it.anonymous_bytes as f64),
    ),
    (
        "leaktrace_cgroup_limit_bytes",
        "The most memory that the control group may have",
        |it| it.limit_bytes.map(|bytes| bytes as f64),
    ),
    (
        "leaktrace_cgroup_growth_bytes_per_second",
        "How fast the control group's anonymous memory keeps growing",
        |it| it.growth_bytes_per_second,
    ),
];

/// What only rises of a group.
type Count = fn(&Cgroup) -> u64;

const COUNTERS: [(&str, &str, Count); 2] = [
    (
        "leaktrace_cgroup_oom_kills",
        "Processes that were killed in the control group for want of memory",
        |it| it.oom_kill_count,
    ),
    (
        "leaktrace_cgroup_restarts",
        "Programs of the control group that ended and came back",
        |it| it.restart_count,
    ),
];

/// Writes those of all groups.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder,
    groups: &[Cgroup],
) -> Result<(), std::fmt::Error> {
    let listed = &groups[..groups.len().min(CGROUPS_MAX)];
    if listed.is_empty() {
        return Ok(());
    }
    let labels = |it: &Cgroup| -> Labels {
        let mut labels = vec![("cgroup", label(&it.path))];
        labels.extend(place_labels(it.container.as_ref(), it.k8s.as_ref()));
        labels
    };
    let labelled: Vec<(Labels, &Cgroup)> = listed.iter().map(|it| (labels(it), it)).collect();
    for (name, help, value) in GAUGES {
        let mut metric = gauge(encoder, name, help)?;
        for (labels, group) in &labelled {
            if let Some(value) = value(group) {
                sample(&mut metric, labels, value)?;
            }
        }
    }
    for (name, help, value) in COUNTERS {
        let mut metric = counter(encoder, name, help)?;
        for (labels, group) in &labelled {
            count(&mut metric, labels, value(group))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::report::{
        metrics::{Agent, render},
        model::{Cgroup, Report},
    };

    /// A group's figures stand under its path; what it does not have is left out.
    #[test]
    fn groups_have_metrics() {
        let group = Cgroup {
            path: "/system.slice/web.service".into(),
            memory_bytes: 7,
            oom_kill_count: 2,
            ..Cgroup::default()
        };
        let report = Report {
            cgroups: vec![group],
            ..Report::default()
        };
        let text = render(Some(Arc::new(report)), Agent::default());
        for line in [
            r#"leaktrace_cgroup_memory_bytes{cgroup="/system.slice/web.service"} 7.0"#,
            r#"leaktrace_cgroup_oom_kills_total{cgroup="/system.slice/web.service"} 2"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("leaktrace_cgroup_limit_bytes{"));
    }
}
