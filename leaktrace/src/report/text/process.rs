//! Owns how one process reads: who it is, what it holds and how far to trust that.
//! Must not know other processes, nor how a site is laid out.

use std::time::Duration;

use super::fit::{Cut, cells};
use super::page::{Page, Span, Tone};
use super::{goroutines, loss, site};
use crate::report::model::{
    AccuracyKind, Counts, Coverage, Process, Report, Runtime, Site, Verdict,
};
use crate::report::units;

/// The rule of a headline is not drawn wider than this.
const RULE_WIDTH: usize = 120;
/// Where the lines under a headline begin.
const INDENT: usize = 3;

/// Bytes and objects that count against a process or a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub bytes: u64,
    pub count: u64,
}

impl Held {
    /// Of a process: what is long-lived, or all that was live when it exited.
    pub fn of(process: &Process) -> Self {
        Self::choose(process, &process.counts)
    }

    /// Of a site, by the same measure as its process.
    pub fn of_site(process: &Process, site: &Site) -> Self {
        Self::choose(process, &site.counts)
    }

    fn choose(process: &Process, counts: &Counts) -> Self {
        if process.exited.is_some() {
            Self {
                bytes: counts.live_bytes,
                count: counts.live_count,
            }
        } else {
            Self {
                bytes: counts.long_lived_bytes,
                count: counts.long_lived_count,
            }
        }
    }
}

/// Writes a process with its sites.
pub(super) fn write(page: &mut Page<'_>, report: &Report, process: &Process) {
    headline(page, process);
    figures(page, report, process);
    identity(page, process);
    trust(page, process);
    suppressed(page, process);
    if let Some(told) = &process.goroutines {
        goroutines::write(page, report, told);
    }
    let held = Held::of(process);
    // Sites without a share in what is held would only be noise.
    if held.count == 0 || !process.has_figures() {
        return;
    }
    for (i, site) in process.sites.iter().enumerate() {
        page.gap();
        site::write(page, process, i + 1, site);
    }
    remainder(page, process, held);
}

/// `── nginx  pid 812 ─────────── growing +1.2 MiB/s ──`.
fn headline(page: &mut Page<'_>, process: &Process) {
    let rule = page.glyph("─", "-");
    let width = page.style.width.min(RULE_WIDTH);
    let mut state = Vec::new();
    if let Some(exited) = process.exited {
        let at = units::date_time(exited.time_unix_ns);
        // The day stands in the report's first line.
        let time = at.split_once(' ').map_or(at.as_str(), |(_, time)| time);
        state.push(Span::new(Tone::Strong, format!(" exited at {time}")));
    } else if !process.has_figures() {
        state.push(Span::new(Tone::Warning, " not covered"));
    } else {
        state.push(Span::new(
            tone(process.verdict),
            format!(" {}", process.verdict.word()),
        ));
        if let Some(growth) = growth(process.verdict, process.growth_bytes_per_second) {
            state.push(Span::new(tone(process.verdict), format!(" {growth}")));
        }
    }
    let pid = format!("pid {}", process.identity.pid);
    // Two cells of rule at either end and one in the middle, at the least.
    let fixed = 3 + 2 + cells(&pid) + 2 + state.iter().map(|s| cells(&s.text)).sum::<usize>() + 3;
    let name = page.foreign(&process.executable.name);
    let name = page.fit(&name, width.saturating_sub(fixed).max(8), Cut::Middle);
    let filling = width.saturating_sub(fixed + cells(&name)) + 1;
    let mut spans = vec![
        Span::new(Tone::Dim, format!("{} ", rule.repeat(2))),
        Span::new(Tone::Strong, name),
        Span::new(Tone::Plain, format!("  {pid} ")),
        Span::new(Tone::Dim, rule.repeat(filling)),
    ];
    spans.extend(state);
    spans.push(Span::new(Tone::Dim, format!(" {}", rule.repeat(2))));
    page.line(0, &spans);
}

/// What it holds, how fast it allocates and what tracing costs it.
fn figures(page: &mut Page<'_>, report: &Report, process: &Process) {
    let mut items = Vec::new();
    if process.has_figures() {
        outstanding(page, report, process, &mut items);
    }
    if let Some(rss) = process.rss_bytes {
        items.push(plain(format!("RSS {}", units::bytes(rss))));
    }
    let rate = units::rate(process.counts.allocated_bytes, traced_for(report, process));
    if let Some(rate) = rate.filter(|_| process.has_figures()) {
        let allocates = if process.exited.is_some() {
            "allocated"
        } else {
            "allocates"
        };
        items.push(plain(format!("{allocates} {rate}")));
    }
    if let Some(cpu) = process
        .overhead
        .cpu_fraction()
        .filter(|cpu| cpu.is_finite())
    {
        items.push(plain(format!("tracing costs {} of a CPU", units::cpu(cpu))));
    }
    row(page, items);
}

/// What it holds, and of that what is young.
fn outstanding(page: &Page<'_>, report: &Report, process: &Process, items: &mut Vec<Vec<Span>>) {
    let held = Held::of(process);
    let live = Held {
        bytes: process.counts.live_bytes,
        count: process.counts.live_count,
    };
    let mut item = |tone, what: Held, rest: &str| {
        let objects = page.counted(what.count, "object");
        items.push(vec![
            Span::new(tone, units::bytes(what.bytes)),
            Span::new(Tone::Plain, rest.replace("{}", &objects)),
        ]);
    };
    if live.count == 0 {
        items.push(plain("nothing outstanding".to_owned()));
    } else if process.exited.is_some() {
        item(Tone::Strong, held, " outstanding at exit in {}");
    } else if report.min_age.is_zero() {
        item(Tone::Strong, held, " outstanding in {}");
    } else if held.count == 0 {
        let age = units::duration(report.min_age);
        item(
            Tone::Strong,
            live,
            &format!(" live in {{}}, none older than {age}"),
        );
    } else {
        item(Tone::Strong, held, " long-lived in {}");
        if live != held {
            item(Tone::Plain, live, " live in {}");
        }
    }
}

/// Whose it is and where it runs.
fn identity(page: &mut Page<'_>, process: &Process) {
    let mut items = Vec::new();
    if !process.owner.is_empty() {
        items.push(plain(format!("user {}", page.foreign(&process.owner))));
    }
    if let Some(container) = &process.container {
        // As docker and crictl do, the first twelve digits stand for an id.
        let short = container.id.chars().take(12).collect::<String>();
        let name = page.foreign(container.name.as_deref().unwrap_or(&short));
        let runtime = container
            .runtime
            .as_deref()
            .map(|runtime| page.foreign(runtime));
        items.push(plain(match runtime {
            Some(runtime) => format!("container {name} ({runtime})"),
            None => format!("container {name}"),
        }));
    }
    if let Some(pod) = process.k8s.as_ref().and_then(|it| it.pod.as_deref()) {
        let namespace = process.k8s.as_ref().and_then(|it| it.namespace.as_deref());
        let (pod, namespace) = (page.foreign(pod), page.foreign(namespace.unwrap_or("?")));
        items.push(plain(format!("pod {namespace}/{pod}")));
    }
    if process.runtime == Runtime::Go {
        items.push(plain(go_words(process, page)));
    }
    if process.has_figures() {
        match process.accuracy.kind {
            AccuracyKind::Exact => items.push(plain("exact figures".to_owned())),
            AccuracyKind::Sampled => items.push(plain(format!(
                "sampled, one in {}: figures are estimates",
                units::bytes(process.accuracy.sample_bytes)
            ))),
            // It has a line of its own.
            AccuracyKind::Lossy => {}
        }
    }
    row(page, items);
}

/// The version of a Go program, and what its collections leave open.
fn go_words(process: &Process, page: &Page<'_>) -> String {
    let Some(go) = &process.go else {
        return "Go heap".to_owned();
    };
    let version = page.foreign(&go.version);
    let collections = match go.gc_cycles {
        0 => "no collection yet".to_owned(),
        1 => "1 collection".to_owned(),
        count => format!("{count} collections"),
    };
    let collections = match go.profile_bytes {
        Some(_) => format!("{collections}, from its own memory profile"),
        None => collections,
    };
    let open = go.collected.not_yet_collected_bytes;
    if open == 0 {
        return format!("Go heap, {version}, {collections}");
    }
    let open = units::bytes(open);
    format!("Go heap, {version}, {collections}, {open} not judged by one")
}

/// What was lost, and what is not covered.
fn trust(page: &mut Page<'_>, process: &Process) {
    let (grave, harmless) = loss::clauses(&process.accuracy.lost, page.style.unicode);
    let (grave, harmless) = (page.foreign(&grave), page.foreign(&harmless));
    let hang = INDENT + 2;
    if process.accuracy.kind == AccuracyKind::Lossy {
        let lossy = if grave.is_empty() {
            "LOSSY".to_owned()
        } else {
            format!("LOSSY: {grave}")
        };
        page.prose(INDENT, hang, Tone::Alarm, &lossy);
    } else if !grave.is_empty() {
        page.prose(INDENT, hang, Tone::Warning, &grave);
    }
    if !harmless.is_empty() {
        page.prose(INDENT, hang, Tone::Dim, &harmless);
    }
    let what = match process.coverage {
        Coverage::Full => return,
        Coverage::Partial => "partly covered",
        Coverage::None => "not covered",
    };
    let reason = match &process.coverage_reason {
        Some(reason) => page.foreign(reason),
        None => uncovered(page, process),
    };
    let text = if reason.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {reason}")
    };
    page.prose(INDENT, hang, Tone::Warning, &text);
}

/// The entry points that are not probed, where no reason was given as a whole.
fn uncovered(page: &Page<'_>, process: &Process) -> String {
    let all = process
        .allocators
        .iter()
        .flat_map(|allocator| &allocator.not_covered);
    let told: Vec<String> = all
        .clone()
        .take(3)
        .map(|e| page.foreign(&format!("{} ({})", e.name, e.reason)))
        .collect();
    match all.count() - told.len() {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// What suppressions hide, each with what it holds.
fn suppressed(page: &mut Page<'_>, process: &Process) {
    const TOLD: usize = 8;
    for hidden in process.suppressed.iter().take(TOLD) {
        let text = format!(
            "suppressed: {} in {} at {} (leak:{})",
            units::bytes(hidden.live_bytes),
            page.counted(hidden.live_count, "object"),
            page.counted(hidden.site_count, "site"),
            page.foreign(&hidden.pattern),
        );
        page.prose(INDENT, INDENT + 2, Tone::Dim, &text);
    }
    let more = process.suppressed.len().saturating_sub(TOLD) as u64;
    if more > 0 {
        let patterns = page.counted(more, "more pattern");
        let verb = if more == 1 { "hides" } else { "hide" };
        page.prose(
            INDENT,
            INDENT + 2,
            Tone::Dim,
            &format!("{patterns} {verb} sites"),
        );
    }
}

/// What the sites that are not listed hold.
fn remainder(page: &mut Page<'_>, process: &Process, held: Held) {
    let listed: u64 = process.sites.iter().fold(0, |sum, site| {
        Held::of_site(process, site).bytes.saturating_add(sum)
    });
    // Of what is suppressed only live bytes are told, which is what counts once it has exited.
    let hidden = process.suppressed.iter().map(|it| it.live_bytes);
    let hidden: u64 = hidden.fold(0, u64::saturating_add);
    let rest = held.bytes.saturating_sub(listed).saturating_sub(hidden);
    let hidden_sites = process.suppressed.iter().map(|it| it.site_count);
    let more = process
        .site_count
        .saturating_sub(process.sites.len() as u64)
        .saturating_sub(hidden_sites.fold(0, u64::saturating_add));
    // Sites whose blocks are all young hold nothing that counts here.
    if more > 0 && rest > 0 {
        page.gap();
        let dots = page.glyph("…", "...");
        let sites = page.counted(more, "more site");
        let holds = if more == 1 { "holds" } else { "hold" };
        let text = format!("{dots} {sites} {holds} {}", units::bytes(rest));
        page.line(INDENT, &[Span::new(Tone::Dim, text)]);
    }
}

/// How long the process has been traced: since the trace or the process began,
/// until now or its exit.
fn traced_for(report: &Report, process: &Process) -> Duration {
    let until = process
        .exited
        .map_or(report.time_unix_ns, |exited| exited.time_unix_ns);
    let elapsed = u64::try_from(report.elapsed.as_nanos()).unwrap_or(u64::MAX);
    let began = report.time_unix_ns.saturating_sub(elapsed);
    Duration::from_nanos(until.saturating_sub(began.max(process.identity.start_time_unix_ns)))
}

/// The trend, where the verdict makes it worth a look.
pub(super) fn growth(verdict: Verdict, bytes_per_second: Option<f64>) -> Option<String> {
    let trend = bytes_per_second.filter(|n| n.is_finite() && n.abs() >= 0.5)?;
    (verdict != Verdict::Stable).then(|| units::trend(trend))
}

/// How much a verdict should wake the reader.
pub(super) fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Growing => Tone::Alarm,
        Verdict::Saturating => Tone::Warning,
        Verdict::Stable => Tone::Good,
        Verdict::Young => Tone::Dim,
    }
}

fn plain(text: String) -> Vec<Span> {
    vec![Span::new(Tone::Plain, text)]
}

/// Facts in a row under the headline, if there are any.
fn row(page: &mut Page<'_>, items: Vec<Vec<Span>>) {
    if items.is_empty() {
        return;
    }
    let lead = vec![Span::new(Tone::Plain, " ".repeat(INDENT))];
    let separator = page.glyph(" · ", ", ");
    page.row(lead, INDENT, separator, items);
}
