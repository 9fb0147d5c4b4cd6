//! Owns what a report tells: those who have or had probes, those without, and control groups.
//! Must not know when a report is due, or how it is written.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Run, groups::GroupSeen, survey::Seen, tell};
use crate::{
    host::{
        clock::Clock, container::parse_cgroup, containers::NAMES_PATIENCE, process::ProcessFacts,
    },
    places,
    report::model::{Cgroup, Process, Report},
};

/// Processes that grow and are told in one report, the fastest first; and so many groups.
const GROWING_MAX: usize = 100;

impl Run {
    /// Writes a report and shows it to those who ask.
    pub(super) async fn report(&mut self) -> anyhow::Result<()> {
        self.reports += 1;
        let ranked = self.survey.ranked();
        let Report {
            mut processes,
            mut lost,
            ..
        } = self.suspects.report(self.reports, &ranked).await?;
        self.add_unprobed(&mut processes, &ranked);
        let refused = [self.survey.refused_count, self.survey.groups.refused_count];
        let names = ["processes_not_followed", "cgroups_not_followed"];
        for ((name, count), told) in names.into_iter().zip(refused).zip(&mut self.refused_told) {
            let count = count - std::mem::replace(told, count);
            if count > 0 {
                lost.insert(name, count);
            }
        }
        let report = Report {
            number: self.reports,
            time_unix_ns: self.now_unix_ns(),
            elapsed: self.began.elapsed(),
            quiet_process_count: self.survey.count().saturating_sub(processes.len()) as u64,
            processes,
            cgroups: self.cgroups(),
            min_age: self.config.view.min_age,
            lost,
        };
        if self.config.listen.is_some() {
            self.board.show(Arc::new(report.clone()));
        }
        self.write(|output, host| output.report(host, report, false))
    }

    /// Adds those that keep growing, and the largest of the others, as far as they are not told yet.
    fn add_unprobed(&mut self, processes: &mut Vec<Process>, ranked: &[Seen]) {
        let told: FxHashSet<u32> = processes.iter().map(|it| it.identity.pid).collect();
        let growing = ranked.iter().filter(|seen| seen.trend.is_some()).count();
        let listed = growing.min(GROWING_MAX).max(self.config.largest);
        let began_ns = self.suspects.began_ns();
        let mut unprobed = Vec::new();
        for seen in ranked.iter().take(listed) {
            // One that is gone meanwhile has no memory to tell of.
            let facts = ProcessFacts::read(seen.pid).ok();
            let is_same = |it: &ProcessFacts| it.start_ticks == seen.start_ticks;
            if let Some(facts) = facts.filter(is_same)
                && !told.contains(&seen.pid)
            {
                if let Some(container) = &facts.container {
                    self.containers.ask(container, seen.pid);
                }
                unprobed.push((seen, facts));
            }
        }
        self.containers.settle(NAMES_PATIENCE);
        self.fresh.keep(ranked);
        let now_ns = Clock::now_boot_ns();
        for (seen, facts) in unprobed {
            let place = places::place(&self.containers, facts.container.as_ref());
            let why = self.suspects.why_left(seen.pid).map(str::to_owned);
            let hint = (seen.trend.is_some())
                .then(|| self.fresh.hint(seen, now_ns))
                .flatten();
            let more: Vec<String> = why.into_iter().chain(hint).collect();
            let process = tell::unprobed(seen, facts, &self.clock, began_ns, &more);
            processes.push(Process {
                container: place.0,
                k8s: place.1,
                ..process
            });
        }
    }

    /// Groups that keep growing or in which somebody was killed or came back, and the largest of the others.
    fn cgroups(&self) -> Vec<Cgroup> {
        let ranked = self.survey.groups.ranked();
        let has_news =
            |it: &&GroupSeen| it.trend.is_some() || it.oom_kill_count + it.restart_count > 0;
        let news = ranked.iter().filter(has_news).count();
        let listed = ranked
            .iter()
            .take(news.min(GROWING_MAX).max(self.config.largest));
        let told = listed.map(|seen| {
            let container = parse_cgroup(&format!("0::{}", seen.group.path().display()));
            let (container, k8s) = places::place(&self.containers, container.as_ref());
            Cgroup {
                container,
                k8s,
                ..tell::cgroup(seen)
            }
        });
        told.collect()
    }
}
