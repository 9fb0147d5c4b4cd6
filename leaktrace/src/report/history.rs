//! Owns how sites and processes went from report to report, in bounded memory.
//! Must not know what is made of it.

use std::collections::{BTreeMap, HashMap};

use super::model::{Course, Host, ProcessIdentity, Report};

/// Courses that are kept, 2 KiB each; what comes later has none.
const COURSES_MAX: usize = 10_000;

/// A process of a host, or one of its sites.
type Key = (Host, ProcessIdentity, Option<u64>);

/// Live bytes over time, gathered from the reports of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    courses: HashMap<Key, Course>,
}

impl History {
    /// Takes in a report; those of a host come in order.
    pub fn observe(&mut self, host: &Host, report: &Report) {
        let seconds = report.elapsed.as_secs_f64();
        for process in &report.processes {
            let key = (host.clone(), process.identity, None);
            self.point(key, seconds, process.counts.live_bytes);
            // A site may be listed more than once, such as once for each rate of sampling.
            let mut sites: BTreeMap<u64, u64> = BTreeMap::new();
            for site in &process.sites {
                let sum = sites.entry(site.id).or_default();
                *sum = sum.saturating_add(site.counts.live_bytes);
            }
            for (id, bytes) in sites {
                let key = (host.clone(), process.identity, Some(id));
                self.point(key, seconds, bytes);
            }
        }
    }

    /// The course of a process, or of a site, where it was in at least two reports.
    pub fn course(
        &self,
        host: &Host,
        process: ProcessIdentity,
        site: Option<u64>,
    ) -> Option<&Course> {
        let course = self.courses.get(&(host.clone(), process, site));
        course.filter(|course| course.seconds.len() > 1)
    }

    fn point(&mut self, key: Key, seconds: f64, bytes: u64) {
        let is_full = self.courses.len() >= COURSES_MAX;
        if is_full && !self.courses.contains_key(&key) {
            return;
        }
        let course = self.courses.entry(key).or_default();
        if course.seconds.last().is_some_and(|last| *last >= seconds) {
            // The same run once more, or another trace of the same process.
            *course = Course::default();
        }
        course.push(seconds, bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::samples;

    /// Reports become courses; a site that was in one report alone has none.
    #[test]
    fn reports_become_courses() {
        let host = samples::host();
        let mut history = History::default();
        for second in 1..=3_u64 {
            let mut report = samples::rich();
            report.elapsed = Duration::from_secs(second);
            let process = &mut report.processes[0];
            process.counts.live_bytes = second * 100;
            process.sites[0].counts.live_bytes = second * 10;
            if second > 1 {
                process.sites.truncate(1);
            }
            history.observe(&host, &report);
        }
        let process = &samples::rich().processes[0];
        let course = |site| history.course(&host, process.identity, site);
        assert_eq!(course(None).unwrap().bytes, [100, 200, 300]);
        let first = course(Some(process.sites[0].id)).unwrap();
        assert_eq!(
            (&first.seconds[..], &first.bytes[..]),
            (&[1.0, 2.0, 3.0][..], &[10, 20, 30][..])
        );
        assert_eq!(course(Some(process.sites[1].id)), None);
        assert_eq!(course(Some(1)), None);
    }
}
