//! Owns the last report of each host, which is what a picture shows, and the names in it.
//! Must not know the form of the picture.

use std::borrow::Cow;

use super::{
    escape::visible,
    history::History,
    model::{Frame, Host, Process, Report, Site},
};

/// Stands for the sites that a report does not list.
pub(super) const OTHER_SITES: &str = "[other sites]";

/// Stands at the outer end of a stack that ends early.
pub(super) const CUT: &str = "[stack cut]";

/// Stands for a stack that is not known at all.
pub(super) const NO_STACK: &str = "[no stack]";

/// The last report of each host, and how it came to it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In the order in which hosts were first heard of.
    pub reports: Vec<(Host, Report)>,
    /// What reports before them told.
    pub history: History,
}

impl Snapshot {
    /// Takes in a report, in place of the last one of its host.
    pub fn take(&mut self, host: &Host, report: Report) {
        self.history.observe(host, &report);
        match self.reports.iter_mut().find(|(of, _)| of == host) {
            Some((_, last)) => *last = report,
            None => self.reports.push((host.clone(), report)),
        }
    }

    /// A snapshot of one report alone.
    pub fn of(host: &Host, report: Report) -> Self {
        let mut snapshot = Self::default();
        snapshot.take(host, report);
        snapshot
    }

    /// All processes, each with its host and report.
    pub fn processes(&self) -> impl Iterator<Item = (&Host, &Report, &Process)> {
        let reports = self.reports.iter();
        reports.flat_map(|(host, report)| {
            let processes = report.processes.iter();
            processes.map(move |process| (host, report, process))
        })
    }

    /// Whether names need their host to be told apart.
    pub fn has_many_hosts(&self) -> bool {
        self.reports.len() > 1
    }
}

/// `nginx-812`: the name of a process's root frame, as `perf` writes it.
pub(super) fn process_name(process: &Process) -> String {
    let name = visible(&process.executable.name, false);
    format!("{name}-{}", process.identity.pid)
}

/// A frame's name on one line: its function, or where its code is.
pub(super) fn frame_name(frame: &Frame) -> Cow<'_, str> {
    match (&frame.function, &frame.module) {
        (Some(function), _) => visible(function, false),
        (None, Some(module)) => {
            Cow::Owned(format!("{}+{:#x}", visible(module, false), frame.address))
        }
        (None, None) => Cow::Owned(format!("{:#x}", frame.address)),
    }
}

/// The names of a site's stack, outermost first.
pub(super) fn stack_names(site: &Site) -> Vec<Cow<'_, str>> {
    let mut names = Vec::with_capacity(site.stack.len() + 1);
    if site.stack.is_empty() {
        names.push(Cow::Borrowed(NO_STACK));
    } else if site.stack_truncated.is_some() {
        names.push(Cow::Borrowed(CUT));
    }
    names.extend(site.stack.iter().rev().map(frame_name));
    names
}

/// How functions begin that only pass on what others ask for: of C++'s, Rust's and Go's own libraries,
/// and wrappers of malloc.
const PLUMBING: [&str; 20] = [
    "operator new",
    "std::",
    "__gnu_cxx::",
    "void* std::",
    "alloc::",
    "core::",
    "<alloc::",
    "<core::",
    "<std::",
    "<T as alloc::",
    "<T as core::",
    "hashbrown::",
    "__rust",
    "runtime.",
    "malloc",
    "calloc",
    "realloc",
    "strdup",
    "__strdup",
    "g_malloc",
];

/// The frame that people know a site by: the innermost one that is no plumbing, or the innermost.
pub(super) fn own_frame(site: &Site) -> Option<&Frame> {
    let is_own = |frame: &&Frame| {
        let name = frame.function.as_deref();
        name.is_some_and(|name| !PLUMBING.iter().any(|it| name.starts_with(it)))
    };
    site.stack.iter().find(is_own).or(site.stack.first())
}

/// Bytes and objects that belong to no site that is shown or suppressed.
pub(super) fn remainder(process: &Process) -> (u64, u64) {
    let mut left = (process.counts.live_bytes, process.counts.live_count);
    let mut take = |bytes, count| {
        left = (left.0.saturating_sub(bytes), left.1.saturating_sub(count));
    };
    for site in &process.sites {
        take(site.counts.live_bytes, site.counts.live_count);
    }
    for hidden in &process.suppressed {
        take(hidden.live_bytes, hidden.live_count);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A site is known by who asked, not by what passed it on.
    #[test]
    fn plumbing_is_passed_over() {
        let check = |names: &[&str], expected: Option<&str>| {
            let stack = names.iter().map(|name| Frame {
                function: Some((*name).to_owned()),
                ..Frame::default()
            });
            let site = Site {
                stack: stack.collect(),
                ..Site::default()
            };
            let found = own_frame(&site).and_then(|frame| frame.function.as_deref());
            assert_eq!(found, expected);
        };
        check(
            &["alloc::raw_vec::RawVec<T>::grow", "app::keep", "main"],
            Some("app::keep"),
        );
        check(
            &[
                "operator new(unsigned long)",
                "std::vector<int>::push_back",
                "App::add",
            ],
            Some("App::add"),
        );
        check(&["runtime.makeslice", "main.keep"], Some("main.keep"));
        check(&["runtime.malg", "runtime.newproc1"], Some("runtime.malg"));
        check(&[], None);
    }
}
