//! Owns telling of Go programs by their own memory profile, where figures need only be sampled: no probe is needed.
//! Must not know how the profile is read.

use std::{hash::Hasher as _, sync::Arc};

use leaktrace_common::event::StackEnd;
use siphasher::sip::SipHasher13;

use super::Tracer;
use crate::{
    go_watch::ProfileRead, golang::buckets::Bucket, ledger::ProfiledSite, modules::Module,
    stacks::Stack,
};

impl Tracer {
    /// Whether a process is told of by its own profile from now on. Its program is followed already.
    pub(super) fn attach_profile(&mut self, tgid: u32, module: &Arc<Module>) -> bool {
        let is_sampled = self.policy.is_some_and(|policy| policy.sample_bytes != 0);
        if !is_sampled && !self.targets.is_by_request {
            return false;
        }
        self.go_watch.follow(tgid, module);
        match self.go_watch.profile(tgid) {
            Some(rate_bytes) => {
                self.go.note_profile(tgid, Ok(rate_bytes));
                true
            }
            None => false,
        }
    }

    /// Takes in what profiles were read.
    pub(super) fn take_profiles(&mut self) {
        let read: Vec<ProfileRead> = self.go_watch.profiles().collect();
        for ProfileRead {
            tgid,
            time_ns,
            profile,
        } in read
        {
            let is_live = |key| {
                let process = self.ledger.get(key);
                process.is_some_and(|it| it.exited_ns().is_none())
            };
            if self.go.profile_rate(tgid).is_none() || !self.ledger.key(tgid).is_some_and(is_live) {
                continue;
            }
            let profile = match profile {
                Ok(profile) => profile,
                Err(why) => {
                    self.go.note_profile(tgid, Err(why));
                    continue;
                }
            };
            if profile.is_cut {
                *self.lost.entry("go_profiles_cut").or_default() += 1;
            }
            let buckets = profile.buckets.iter();
            let sites: Vec<ProfiledSite> = buckets.map(|it| self.profiled(tgid, it)).collect();
            let addresses = profile.buckets.iter().map(|it| it.address);
            let keys = sites.iter().map(|it| it.key);
            self.go.note_buckets(tgid, addresses.zip(keys).collect());
            let published = profile.buckets.iter().map(|it| it.published.alloc_count);
            let published = published.fold(0, u64::wrapping_add);
            self.ledger
                .take_profile(tgid, &sites, profile.rate_bytes, published, time_ns);
        }
    }

    fn profiled(&mut self, tgid: u32, bucket: &Bucket) -> ProfiledSite {
        let mut hasher = SipHasher13::new();
        hasher.write_u32(tgid);
        for address in &bucket.stack {
            hasher.write_u64(*address);
        }
        let stack = hasher.finish();
        hasher.write_u64(bucket.object_bytes);
        if self.context.stacks.get(stack).is_none() {
            let places = self.context.places(tgid, &bucket.stack);
            let end = StackEnd::Root;
            self.context.stacks.insert(stack, Stack { places, end });
        }
        let (published, pending) = (&bucket.published, &bucket.pending);
        ProfiledSite {
            key: hasher.finish(),
            stack,
            object_bytes: bucket.object_bytes,
            alloc_count: published.alloc_count.saturating_add(pending.alloc_count),
            free_count: published.free_count.saturating_add(pending.free_count),
            judged_count: published.live_count(),
        }
    }
}
