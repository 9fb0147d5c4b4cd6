//! Owns the folded form: one stack a line with its live bytes, as flame graph tools read it.
//! Must not know who draws it.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use super::{
    escape::visible,
    snapshot::{OTHER_SITES, Snapshot, process_name, remainder, stack_names},
};

/// The live bytes of every stack, a line each, outermost frame first: the process (under its host,
/// where there are several), then its frames. What belongs to sites that are not listed stands under
/// `[other sites]`, so that the lines of a process sum to what it holds.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for (host, _, process) in snapshot.processes() {
        let mut root = String::new();
        if snapshot.has_many_hosts() {
            push(&mut root, &visible(&host.name, false));
        }
        push(&mut root, &process_name(process));
        let mut add = |names: &[Cow<'_, str>], bytes: u64| {
            let mut stack = root.clone();
            names.iter().for_each(|name| push(&mut stack, name));
            let sum = stacks.entry(stack).or_default();
            *sum = sum.saturating_add(bytes);
        };
        for site in &process.sites {
            add(&stack_names(site), site.counts.live_bytes);
        }
        add(&[Cow::Borrowed(OTHER_SITES)], remainder(process).0);
    }
    let mut text = String::new();
    for (stack, bytes) in stacks.iter().filter(|(_, bytes)| **bytes > 0) {
        writeln!(text, "{} {bytes}", unambiguous(stack)).expect("a String takes all");
    }
    text
}

/// Adds a frame; what would end it is replaced.
fn push(stack: &mut String, name: &str) {
    if !stack.is_empty() {
        stack.push(';');
    }
    stack.extend(name.chars().map(|c| if c == ';' { ':' } else { c }));
}

/// Readers take the last word of a line for its figure, and a number before it for another one.
fn unambiguous(stack: &str) -> Cow<'_, str> {
    match stack.rsplit_once(' ') {
        Some((before, last)) if last.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            Cow::Owned(format!("{before}_{last}"))
        }
        _ => Cow::Borrowed(stack),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{model::Report, samples};

    fn folded(report: Report) -> String {
        render(&Snapshot::of(&samples::host(), report))
    }

    /// The lines of each process sum to its live bytes, less what is suppressed.
    #[test]
    fn lines_sum_to_live_bytes() {
        let report = samples::rich();
        let text = folded(report.clone());
        for process in &report.processes {
            let root = format!("{};", process_name(process));
            let lines = text.lines().filter(|line| line.starts_with(&root));
            let sum: u64 = lines
                .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
                .sum();
            let hidden: u64 = process.suppressed.iter().map(|it| it.live_bytes).sum();
            assert_eq!(sum, process.counts.live_bytes - hidden, "{root}");
        }
    }

    /// Whatever a name is, a line has one stack and one figure, and nothing that deceives.
    #[test]
    fn names_cannot_break_lines() {
        let mut report = samples::rich();
        report.processes.truncate(1);
        let process = &mut report.processes[0];
        process.sites.truncate(1);
        process.suppressed.clear();
        process.counts.live_bytes = process.sites[0].counts.live_bytes;
        process.executable.name = "a;b\nc \u{202e}".to_owned();
        process.sites[0].stack.truncate(2);
        process.sites[0].stack[0].function = Some("operator new; 7\t 42".to_owned());
        let text = folded(report);
        assert_eq!(
            text,
            "a:b\\nc \\u{202e}-4312;AllocSetAlloc;operator new: 7\\t_42 276824064\n"
        );
    }

    /// Stacks that are cut say so at their outer end.
    #[test]
    fn cut_stacks_say_so() {
        let text = folded(samples::rich());
        assert!(text.contains("renderer-70777;[stack cut];0x7f1234567890;libvendor.so.3+0x12345;"));
        assert!(!text.contains("java"));
    }

    /// Of several hosts, each has a root of its own.
    #[test]
    fn hosts_stand_apart() {
        let mut snapshot = Snapshot::of(&samples::host(), samples::calm());
        let mut other = samples::host();
        other.name = "node-8".to_owned();
        snapshot.take(&other, samples::calm());
        assert_eq!(
            render(&snapshot),
            "node-7;systemd-1;[other sites] 20480\nnode-8;systemd-1;[other sites] 20480\n"
        );
    }
}
