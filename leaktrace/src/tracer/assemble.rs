//! Owns the making of a report out of what the trace holds.
//! Must not know how a report is written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leaktrace_common::{call::Call, counter::Counter};

use super::{
    Tracer,
    assemble_go::{GO, collected, doubted, native_name},
    goroutines,
    judging::set_memory_left,
};
use crate::{
    host::clock::Clock,
    ledger::{ProcessKey, ProcessLedger},
    naming::{Names, lasting_id},
    report::model::{self, Accuracy, AccuracyKind, Report},
    roster::Member,
    stacks::Stack,
    summary::{self, ProcessSummary, SiteSummary, View},
};

/// Counters of loss by process, 0 standing for the host.
pub(super) type Losses = BTreeMap<u32, Vec<(Counter, u64)>>;

impl Tracer {
    /// Makes the report number `number`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub async fn report(&mut self, number: u32, view: View) -> anyhow::Result<Report> {
        self.settle_early()?;
        let goroutines = self.look_at_goroutines(view.min_age).await?;
        let now_ns = Clock::now_boot_ns();
        let losses = self.losses()?;
        let summaries: Vec<(ProcessKey, ProcessSummary)> = self
            .ledger
            .keys()
            .into_iter()
            .filter_map(|key| {
                let process = self.ledger.get(key)?;
                let stacks = &self.context.stacks;
                let grounds = self.grounds(key, process, &losses);
                let mut summary = summary::summarize(process, stacks, now_ns, view, grounds);
                self.judge_windowed(key, process, &mut summary);
                set_memory_left(process, &mut summary);
                if let Some(seen) = goroutines.get(&key) {
                    seen.add_evidence(&mut summary);
                }
                Some((key, summary))
            })
            .collect();
        let listed = summaries.iter().flat_map(|(_, summary)| &summary.sites);
        let stacks: Vec<Arc<Stack>> = listed.filter_map(|site| site.stack.clone()).collect();
        let of_goroutines = goroutines.values().flat_map(goroutines::Seen::stacks);
        let names = Names::fetch(
            stacks.iter().map(Arc::as_ref).chain(of_goroutines),
            &self.context.modules,
            &self.symbolizer,
        )
        .await;
        let mut processes: Vec<model::Process> = summaries
            .into_iter()
            .filter_map(|(key, summary)| {
                let mut process = self.process(key, summary, &names, &losses, now_ns)?;
                process.goroutines = goroutines.get(&key).map(|seen| seen.told(&names));
                self.tell_windows(key, &mut process);
                Some(process)
            })
            .collect();
        processes.sort_by_key(|process| {
            let counts = process.counts;
            std::cmp::Reverse((counts.long_lived_bytes, counts.live_bytes))
        });
        Ok(Report {
            number,
            time_unix_ns: self.clock.boot_to_unix_ns(now_ns),
            elapsed: Duration::from_nanos(now_ns.saturating_sub(self.began_ns)),
            min_age: view.min_age,
            processes,
            cgroups: Vec::new(),
            quiet_process_count: 0,
            lost: self.risen(&losses),
        })
    }

    fn process(
        &mut self,
        key: ProcessKey,
        summary: ProcessSummary,
        names: &Names,
        losses: &Losses,
        now_ns: u64,
    ) -> Option<model::Process> {
        let rss_bytes = self.context.roster.rss_bytes(key);
        let member = self.context.roster.get_mut(key).clone();
        let process = self.ledger.get(key)?;
        let tgid = process.tgid();
        let hits = self.hits(process);
        let (reported_hits, reported_ns) = member.reported_hits;
        let since_ns = now_ns.saturating_sub(reported_ns.max(self.began_ns));
        self.context.roster.get_mut(key).reported_hits = (hits, now_ns);
        let covered = self.coverage(tgid);
        let (coverage, coverage_reason) =
            self.watched(&member, now_ns, covered.coverage, covered.reason);
        let allocators = covered.allocators;
        let executable = self.executable(tgid, &member);
        let process = self.ledger.get(key)?;
        let allocator = native_name(&allocators);
        let go = self.go_facts(process, &summary);
        let facts = member.facts.as_ref();
        let (container, k8s) = self.place(facts.and_then(|it| it.container.as_ref()));
        let site = |site: &SiteSummary| self.site(site, &allocator, names);
        Some(model::Process {
            identity: model::ProcessIdentity {
                pid: tgid,
                start_time_unix_ns: self.clock.boot_to_unix_ns(member.start_boot_ns),
            },
            executable,
            command_line: member
                .facts
                .as_ref()
                .map(|it| it.command_line.clone())
                .unwrap_or_default(),
            owner: match (&member.facts, member.uid) {
                (Some(facts), _) => facts.owner.clone(),
                (None, Some(uid)) => uid.to_string(),
                (None, None) => String::new(),
            },
            container,
            k8s,
            runtime: go
                .as_ref()
                .map_or_else(Default::default, |_| model::Runtime::Go),
            go,
            goroutines: None,
            coverage,
            coverage_reason,
            allocators,
            accuracy: self.estimated(
                accuracy(
                    process,
                    &member,
                    losses.get(&tgid),
                    now_ns,
                    self.drain.is_behind,
                ),
                (summary.sample_bytes, summary.live_bytes_variance),
                self.go.profile_rate(tgid),
            ),
            rss_bytes,
            counts: summary.counts,
            freed_untraced_count: process.anomalies().frees_untraced,
            verdict: summary.judgement.verdict,
            growth_bytes_per_second: summary.judgement.growth_bytes_per_second,
            overhead: self.overhead(reported_hits, hits, since_ns),
            exited: process.exited_ns().map(|exited_ns| model::Exited {
                time_unix_ns: self.clock.boot_to_unix_ns(exited_ns),
            }),
            sites: summary.sites.iter().map(site).collect(),
            site_count: summary.site_count,
            suppressed: Vec::new(),
        })
    }

    fn site(&self, site: &SiteSummary, allocator: &str, names: &Names) -> model::Site {
        let is_go = site.call == Some(Call::Mallocgc);
        let allocator = if is_go { GO } else { allocator };
        let allocator = site.family.map_or(allocator, |family| family.name());
        let stack = site.stack.as_deref();
        let (frames, truncated) = match stack {
            Some(stack) => names.of(stack),
            None => (Vec::new(), Some("the stack was lost".to_owned())),
        };
        model::Site {
            id: lasting_id(allocator, stack, &self.context.modules, names),
            allocator: allocator.to_owned(),
            counts: site.counts,
            oldest_age: Duration::from_micros(site.ages.oldest_us),
            collected: is_go.then(|| collected(&site.ages)),
            age_histogram: summary::age_histogram(&site.ages),
            verdict: site.judgement.verdict,
            growth_bytes_per_second: site.judgement.growth_bytes_per_second,
            evidence: site.judgement.evidence.clone(),
            course: self.course(site),
            stack: frames,
            stack_truncated: truncated,
        }
    }

    /// The course of a site, in seconds since the trace began.
    fn course(&self, site: &SiteSummary) -> Option<model::Course> {
        let began_s = self.began_ns as f64 / 1e9;
        let mut course = site.course.clone()?;
        for seconds in &mut course.seconds {
            *seconds = ((*seconds - began_s).max(0.0) * 10.0).round() / 10.0;
        }
        Some(course)
    }

    fn executable(&mut self, tgid: u32, member: &Member) -> model::Executable {
        let known = member
            .facts
            .as_ref()
            .and_then(|facts| facts.executable.clone());
        let space = self.context.spaces.get(tgid);
        // A process that was gone before we looked is known by its mappings, the program's first.
        let mapping = space.and_then(|space| match &known {
            Some(path) => space.iter().find(|it| *it.path == *path.to_string_lossy()),
            None => space.iter().find(|it| it.is_file()),
        });
        let mapping = mapping.cloned();
        let build_id = mapping.as_ref().and_then(|mapping| {
            let module = self.context.modules.resolve(tgid, mapping);
            self.context.modules.get(module).build_id.clone()
        });
        let path = match (known, mapping) {
            (Some(path), _) => path.to_string_lossy().into_owned(),
            (None, Some(mapping)) => mapping.path,
            (None, None) => String::new(),
        };
        let name = path
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or(&member.comm);
        model::Executable {
            name: name.to_owned(),
            path: path.clone(),
            build_id,
        }
    }

    /// Counters that belong to no traced process and rose since the last report.
    fn risen(&mut self, losses: &Losses) -> BTreeMap<&'static str, u64> {
        let mut now = self.lost.clone();
        let of_host = losses
            .iter()
            .filter(|(tgid, _)| self.ledger.key(**tgid).is_none());
        for (counter, count) in of_host.flat_map(|(_, counts)| counts) {
            *now.entry(counter.name()).or_default() += count;
        }
        for (name, count) in [
            (
                "records_undecoded",
                self.source.undecoded_count + self.early.undecoded_count(),
            ),
            ("early_stacks_refused", self.early.refused_count),
            ("unwind_rows_refused", self.unwinding.rows_refused()),
            ("unwind_spaces_refused", self.unwinding.spaces_refused),
            ("unwind_pieces_refused", self.unwinding.pieces_refused),
            ("map_records_lost", self.context.map_records_lost),
            ("modules_refused", self.context.modules.refused_modules()),
            ("site_courses_refused", self.courses.refused_count()),
            ("files_refused", self.context.modules.refused_files()),
            ("stacks_refused", self.context.stacks.refused_count),
        ] {
            *now.entry(name).or_default() += count;
        }
        let before = std::mem::replace(&mut self.reported_lost, now.clone());
        now.iter_mut().for_each(|(name, count)| {
            *count = count.saturating_sub(before.get(name).copied().unwrap_or(0));
        });
        now.retain(|_, count| *count > 0);
        now
    }

    /// Everything that was lost so far, by name, over all processes.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read its maps.
    pub fn total_losses(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        let mut total = self.reported_lost.clone();
        for counts in self
            .losses()?
            .into_iter()
            .filter(|(tgid, _)| self.ledger.key(*tgid).is_some())
        {
            for (counter, count) in counts.1 {
                *total.entry(counter.name()).or_default() += count;
            }
        }
        total.retain(|_, count| *count > 0);
        Ok(total)
    }

    /// Drops what ended and was reported, and stacks that nobody holds any more.
    pub fn settle(&mut self) {
        for key in self.ledger.keys() {
            if self
                .ledger
                .get(key)
                .is_some_and(|process| process.exited_ns().is_some())
            {
                self.forget(key);
            }
        }
        let mut needed = std::collections::HashSet::new();
        for key in self.ledger.keys() {
            let sites = self
                .ledger
                .get(key)
                .into_iter()
                .flat_map(ProcessLedger::sites);
            needed.extend(sites.map(|site| site.stack));
        }
        let gone = self.context.stacks.retain(|id| needed.contains(&id));
        self.probes.forget_stacks(gone.into_iter());
    }

    /// Events taken in so far.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.ledger.event_count
    }
}

fn accuracy(
    process: &ProcessLedger,
    member: &Member,
    counted: Option<&Vec<(Counter, u64)>>,
    now_ns: u64,
    is_behind: bool,
) -> Accuracy {
    let (mut lost, mut is_lossy) = summary::losses(counted.into_iter().flatten().copied());
    let anomalies = process.anomalies();
    for (name, count) in [
        ("frees_implied", anomalies.frees_implied),
        ("go_blocks_told_twice", anomalies.told_twice),
        ("go_spans_unsound", anomalies.spans_unsound),
        ("sites_merged", anomalies.sites_merged),
        ("attached_late", u64::from(member.is_attached_late)),
        ("reports_cut", u64::from(is_behind)),
        ("blocks_unfollowed", anomalies.blocks_unfollowed),
        ("blocks_refused", anomalies.blocks_refused),
        (
            "unwatched_milliseconds",
            member.unwatched_ns(now_ns) / 1_000_000,
        ),
    ] {
        if count > 0 {
            lost.insert(name, count);
        }
    }
    is_lossy |= anomalies.spans_unsound > 0 || anomalies.blocks_refused > 0;
    is_lossy |= is_behind || member.is_attached_late || member.unwatched_ns(now_ns) > 0;
    let kind = if is_lossy {
        AccuracyKind::Lossy
    } else {
        AccuracyKind::Exact
    };
    let accuracy = Accuracy {
        kind,
        lost,
        ..Accuracy::default()
    };
    doubted(process.tgid(), accuracy)
}
