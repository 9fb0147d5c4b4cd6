//! Owns the question whose memory is looked at: everyone's, or that of those who are named.
//! Must not know what is done about them.

use rustc_hash::FxHashSet;

use crate::{config::Targets, host::process::ProcessFacts};

/// Who was not meant is asked again at one of so many listings: it may have executed another program since.
const ASKED_ONE_IN: u64 = 8;

/// Whose memory is looked at.
pub struct Whom {
    targets: Targets,
    /// Those who are not meant, as far as they were asked.
    strangers: FxHashSet<u32>,
    listing_count: u64,
}

impl Whom {
    /// Those who are named by pid, command name or control group; everyone where nobody is.
    #[must_use]
    pub fn new(targets: Targets) -> Self {
        Self {
            targets,
            strangers: FxHashSet::default(),
            listing_count: 0,
        }
    }

    /// So many processes there are now: what is known of others is forgotten.
    pub fn listed(&mut self, pids: &FxHashSet<u32>) {
        self.listing_count += 1;
        if self.listing_count.is_multiple_of(ASKED_ONE_IN) {
            self.strangers.clear();
        }
        self.strangers.retain(|pid| pids.contains(pid));
    }

    /// Whether a process that is not followed yet is meant.
    pub fn means(&mut self, pid: u32) -> bool {
        if self.targets.is_host() || self.targets.pids.contains(&pid) {
            return true;
        }
        if !self.targets.has_patterns() || self.strangers.contains(&pid) {
            return false;
        }
        let Ok(facts) = ProcessFacts::read(pid) else {
            return false;
        };
        let Targets { comms, cgroups, .. } = &self.targets;
        let is_meant = comms.iter().any(|glob| facts.comm_matches(glob))
            || cgroups.iter().any(|it| it.holds(&facts.cgroups));
        if !is_meant {
            self.strangers.insert(pid);
        }
        is_meant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::process::CommGlob;

    /// Nobody named means everyone; who is named by pid or by a pattern is meant, and nobody else.
    #[test]
    fn those_who_are_named_are_meant() {
        let us = std::process::id();
        let means = |targets: Targets| Whom::new(targets).means(us);
        assert!(means(Targets::default()));
        let of_pids = |pids: &[u32]| Targets {
            pids: pids.to_vec(),
            ..Targets::default()
        };
        assert!(means(of_pids(&[1, us])) && !means(of_pids(&[1])));
        let of_comm = |glob: &str| Targets {
            comms: vec![CommGlob::new(glob).unwrap()],
            ..Targets::default()
        };
        assert!(means(of_comm("*")) && !means(of_comm("no such name")));
        let mut whom = Whom::new(of_comm("no such name"));
        assert!(!whom.means(us) && whom.strangers.contains(&us));
        for _ in 0..ASKED_ONE_IN {
            whom.listed(&[us].into_iter().collect());
        }
        assert!(whom.strangers.is_empty(), "it is asked again");
    }
}
