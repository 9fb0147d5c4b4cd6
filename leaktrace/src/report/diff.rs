//! Owns the comparison of two reports: what is new, gone, grown or shrunk, by site.
//! Must not know files, nor how the comparison is shown.
//!
//! A site keeps its id over restarts of the same build, but a process does not keep its pid: processes
//! are compared by the name of what they execute, all of the same name together.

use std::collections::BTreeMap;

use super::{
    model::{Process, Site, Verdict},
    snapshot::Snapshot,
};

/// Live bytes and objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Bytes.
    pub bytes: u64,
    /// Objects.
    pub count: u64,
}

impl Live {
    fn add(&mut self, bytes: u64, count: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.count = self.count.saturating_add(count);
    }
}

/// Before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// In the old report.
    pub before: Live,
    /// In the new one.
    pub after: Live,
}

impl Change {
    /// By how many bytes it rose, or fell.
    #[must_use]
    pub fn bytes(&self) -> i64 {
        difference(self.before.bytes, self.after.bytes)
    }

    /// By how many objects.
    #[must_use]
    pub fn count(&self) -> i64 {
        difference(self.before.count, self.after.count)
    }
}

fn difference(before: u64, after: u64) -> i64 {
    let difference = i128::from(after) - i128::from(before);
    let bounded = difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(bounded).expect("it is within bounds")
}

/// What became of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the new report alone.
    New,
    /// It is in the old report alone.
    Gone,
    /// It holds more.
    Grown,
    /// It holds less.
    Shrunk,
}

impl Fate {
    /// Its word in every output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Gone => "gone",
            Self::Grown => "grown",
            Self::Shrunk => "shrunk",
        }
    }
}

/// One site that holds something else than before.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteChange {
    /// The site, of the new report if it is there.
    pub site: Site,
    /// What became of it.
    pub fate: Fate,
    /// Whether it was not there at all where it is not listed: a report lists only the first sites.
    pub is_certain: bool,
    /// Its live bytes and objects.
    pub change: Change,
}

/// All processes that execute something of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgramChange {
    /// The name.
    pub name: String,
    /// How many processes there were and are.
    pub processes: (u64, u64),
    /// Their live bytes and objects, over all sites.
    pub change: Change,
    /// The sites that hold something else, the largest difference first.
    pub sites: Vec<SiteChange>,
    /// How many more there are than are kept.
    pub more_sites: u64,
}

/// One of the two reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Its number.
    pub number: u32,
    /// When it was made.
    pub time_unix_ns: u64,
}

/// Two reports compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// The old one.
    pub old: End,
    /// The new one.
    pub new: End,
    /// Programs, the one that grew most first.
    pub programs: Vec<ProgramChange>,
}

/// Compares two snapshots, and keeps so many sites of each program.
#[must_use]
pub fn compare(old: &Snapshot, new: &Snapshot, top: usize) -> Difference {
    let (old_programs, new_programs) = (programs(old), programs(new));
    let none = Program::default();
    let mut names: Vec<&str> = old_programs
        .keys()
        .chain(new_programs.keys())
        .copied()
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut changes: Vec<ProgramChange> = names
        .into_iter()
        .map(|name| {
            let old = old_programs.get(name).unwrap_or(&none);
            let new = new_programs.get(name).unwrap_or(&none);
            program(name, old, new, top)
        })
        .collect();
    changes.sort_by_key(|it| std::cmp::Reverse(it.change.bytes()));
    Difference {
        old: end(old),
        new: end(new),
        programs: changes,
    }
}

/// The latest of a snapshot's reports.
fn end(snapshot: &Snapshot) -> End {
    let ends = snapshot.reports.iter().map(|(_, report)| End {
        number: report.number,
        time_unix_ns: report.time_unix_ns,
    });
    ends.max_by_key(|it| it.time_unix_ns).unwrap_or_default()
}

/// Processes of one name, added up.
#[derive(Default)]
struct Program<'a> {
    processes: u64,
    live: Live,
    /// By id, with what all of them hold.
    sites: BTreeMap<u64, (&'a Site, Live)>,
    /// Whether every site with something live is listed.
    lists_all: bool,
}

fn programs(snapshot: &Snapshot) -> BTreeMap<&str, Program<'_>> {
    let mut programs: BTreeMap<&str, Program<'_>> = BTreeMap::new();
    for (_, _, process) in snapshot.processes().filter(|(.., it)| it.has_figures()) {
        let program = programs
            .entry(process.executable.name.as_str())
            .or_insert_with(|| Program {
                lists_all: true,
                ..Program::default()
            });
        program.processes += 1;
        program.lists_all &= lists_all(process);
        let counts = &process.counts;
        program.live.add(counts.live_bytes, counts.live_count);
        for site in &process.sites {
            let entry = program
                .sites
                .entry(site.id)
                .or_insert((site, Live::default()));
            entry.1.add(site.counts.live_bytes, site.counts.live_count);
        }
    }
    programs
}

fn lists_all(process: &Process) -> bool {
    process.sites.len() as u64 >= process.site_count
}

fn program(name: &str, old: &Program<'_>, new: &Program<'_>, top: usize) -> ProgramChange {
    let mut ids: Vec<u64> = old.sites.keys().chain(new.sites.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut sites: Vec<SiteChange> = ids
        .into_iter()
        .filter_map(|id| site(old, new, id))
        .collect();
    sites.sort_by_key(|it| std::cmp::Reverse(it.change.bytes().unsigned_abs()));
    let more_sites = sites.len().saturating_sub(top) as u64;
    sites.truncate(top);
    ProgramChange {
        name: name.to_owned(),
        processes: (old.processes, new.processes),
        change: Change {
            before: old.live,
            after: new.live,
        },
        sites,
        more_sites,
    }
}

/// What became of a site; `None` where it holds what it held.
fn site(old: &Program<'_>, new: &Program<'_>, id: u64) -> Option<SiteChange> {
    let (before, after) = (old.sites.get(&id), new.sites.get(&id));
    let change = Change {
        before: before.map(|it| it.1).unwrap_or_default(),
        after: after.map(|it| it.1).unwrap_or_default(),
    };
    let (fate, is_certain) = match (before, after) {
        (None, _) => (Fate::New, old.processes == 0 || old.lists_all),
        (_, None) => (Fate::Gone, new.processes == 0 || new.lists_all),
        _ if change.before == change.after => return None,
        _ if change.bytes() < 0 => (Fate::Shrunk, true),
        _ => (Fate::Grown, true),
    };
    let (site, _) = after.or(before)?;
    let mut site = (*site).clone();
    if after.is_none() {
        // What was thought of it then says nothing of it now.
        site.verdict = Verdict::Young;
    }
    Some(SiteChange {
        site,
        fate,
        is_certain,
        change,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn snapshot(change: impl FnOnce(&mut crate::report::model::Report)) -> Snapshot {
        let mut report = samples::rich();
        change(&mut report);
        Snapshot::of(&samples::host(), report)
    }

    /// Each site has its fate, and what did not change is not told.
    #[test]
    fn sites_have_fates() {
        let old = snapshot(|report| {
            let process = &mut report.processes[0];
            process.sites[0].counts.live_bytes = 100;
            process.sites[1].counts.live_bytes += 50;
            let mut gone = process.sites[1].clone();
            gone.id = 1;
            process.sites.push(gone);
            process.site_count = 3;
        });
        let new = snapshot(|report| {
            let process = &mut report.processes[0];
            process.identity.pid = 99;
            let mut fresh = process.sites[1].clone();
            fresh.id = 2;
            process.sites.push(fresh);
        });
        let difference = compare(&old, &new, 10);
        let postgres = difference
            .programs
            .iter()
            .find(|it| it.name == "postgres")
            .unwrap();
        let mut fates: Vec<_> = postgres
            .sites
            .iter()
            .map(|it| (it.site.id, it.fate, it.is_certain, it.change.bytes()))
            .collect();
        fates.sort_by_key(|it| it.0);
        let gone = -151_100_050;
        assert_eq!(
            fates,
            [
                (1, Fate::Gone, false, gone),
                (2, Fate::New, true, 151_100_000),
                (0xfeed, Fate::Shrunk, true, -50),
                (0x0123_4567_89ab_cdef, Fate::Grown, true, 276_823_964),
            ]
        );
        let renderer = difference
            .programs
            .iter()
            .find(|it| it.name == "renderer")
            .unwrap();
        assert!(renderer.sites.is_empty() && renderer.change.bytes() == 0);
        assert!(difference.programs.iter().all(|it| it.name != "java"));
    }

    /// Processes of one name count together, and one that is new or gone is so as a whole.
    #[test]
    fn processes_of_a_name_count_together() {
        let old = snapshot(|report| report.processes.truncate(1));
        let new = snapshot(|report| {
            let mut second = report.processes[0].clone();
            second.identity.pid = 1;
            report.processes = vec![
                report.processes[0].clone(),
                second,
                report.processes[3].clone(),
            ];
        });
        let difference = compare(&old, &new, 1);
        let [postgres, worker] = &difference.programs[..] else {
            panic!("{difference:#?}");
        };
        assert_eq!(postgres.processes, (1, 2));
        assert_eq!(postgres.change.bytes(), 432_013_312);
        assert_eq!((postgres.sites.len(), postgres.more_sites), (1, 1));
        assert_eq!(worker.processes, (0, 1));
        assert_eq!(worker.sites[0].fate, Fate::New);
        assert!(worker.sites[0].is_certain);
        assert_eq!(compare(&new, &new, 9).programs[0].sites, []);
    }
}
