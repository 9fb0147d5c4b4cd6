//! Owns what is recorded of a process: its policy, its countdown, the set of its recorded blocks, and
//! the count of what its probes cost it.
//! Must not know what a call asked for beyond its size.
//!
//! Nothing of this runs where every call is recorded: `is_governed` is a constant to the kernel's
//! verifier, which takes out what can never be reached.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use leaktrace_common::{
    config::ProbeConfig,
    counter::{Counter, total},
    event::{Alloc, Kind, Sample},
    policy::{Hits, KeptKey, Policy, picks_of, watched},
};

use crate::{
    count, emit,
    maps::{COUNTDOWN, HITS, KEPT, POLICIES},
};

/// The policy of a process at a hit, which is counted. A call that returns through a probe counts
/// for both.
#[inline(always)]
pub fn policy_at_hit(tgid: u32, returns: bool, config: &ProbeConfig) -> Policy {
    if config.is_governed == 0 {
        return Policy::EVERYTHING;
    }
    let policy = policy(tgid, config);
    let returns = returns && policy.watches(watched::ALLOCATIONS);
    if let Some(hits) = hits(tgid) {
        // SAFETY: a map value, alive while the program runs; taking a field's address reads nothing.
        count::add(
            unsafe { &raw mut (*hits).hit_count },
            if returns { 2 } else { 1 },
        );
    }
    policy
}

#[inline(always)]
fn policy(tgid: u32, config: &ProbeConfig) -> Policy {
    // SAFETY: the value is copied at once; the agent replaces it as a whole.
    unsafe { POLICIES.get(&tgid) }
        .copied()
        .unwrap_or(config.policy)
}

#[inline(always)]
fn hits(tgid: u32) -> Option<*mut Hits> {
    if let Some(hits) = HITS.get_ptr_mut(&tgid) {
        return Some(hits);
    }
    let none = Hits {
        hit_count: 0,
        sample_count: 0,
    };
    // Another thread may insert first; then this only fails to.
    let _ = HITS.insert(&tgid, &none, BPF_NOEXIST);
    let hits = HITS.get_ptr_mut(&tgid);
    if hits.is_none() {
        count::bump_total(total::HITS_UNTOLD);
    }
    hits
}

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h: insert only what is not there.
const BPF_NOEXIST: u64 = 1;

/// Whether an allocation of this size is recorded. Two threads of one CPU that take turns just here
/// may count one of two distances; that happens too rarely to be seen in any figure.
#[inline(always)]
pub fn takes(size: u64, policy: &Policy) -> bool {
    takes_one_of(1, size, policy)
}

/// Whether the one that is seen of so many allocations of a size is recorded for all of them.
#[inline(always)]
pub fn takes_one_of(count: u64, size: u64, policy: &Policy) -> bool {
    if policy.until_ns != 0 && emit::now_ns() > policy.until_ns {
        return false;
    }
    if policy.sample_bytes == 0 {
        return true;
    }
    let Some(left) = COUNTDOWN.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: a map value of this CPU, alive while the program runs.
    let left = unsafe { &mut *left };
    // SAFETY: the helper has no arguments and no preconditions.
    picks_of(left, count, size, policy.sample_bytes, || unsafe {
        bpf_get_prandom_u32()
    })
}

/// Records an allocation and keeps its address, so that its free is told from others.
#[inline(always)]
pub fn record(alloc: Alloc, sample_bytes: u64) -> Result<(), Counter> {
    let tgid = alloc.header.tgid;
    let key = key(tgid, alloc.address);
    if KEPT.insert(&key, &0, 0).is_err() {
        return Err(Counter::KeptTableFull);
    }
    let mut sample = Sample {
        alloc,
        sample_bytes,
    };
    sample.alloc.header.kind = Kind::Sample as u8;
    if !emit::record(sample) {
        let _ = KEPT.remove(&key);
        return Err(Counter::AllocationsLost);
    }
    add_record(tgid);
    Ok(())
}

/// Counts a record that was sent, where that is counted.
#[inline(always)]
pub fn count_record(tgid: u32, config: &ProbeConfig) {
    if config.is_governed != 0 {
        add_record(tgid);
    }
}

#[inline(always)]
fn add_record(tgid: u32) {
    if let Some(hits) = HITS.get_ptr_mut(&tgid) {
        // SAFETY: a map value, alive while the program runs; taking a field's address reads nothing.
        count::add(unsafe { &raw mut (*hits).sample_count }, 1);
    }
}

/// Whether the free of a block is recorded. A block that is kept no longer is: it is being freed.
#[inline(always)]
pub fn takes_free(tgid: u32, address: u64, policy: &Policy) -> bool {
    if policy.keeps() {
        let was_kept = release(tgid, address);
        return policy.watches(watched::FREES) && (was_kept || !policy.watches(watched::KEPT_ONLY));
    }
    policy.watches(watched::FREES)
}

/// Takes a block out of those kept; `false` where it was not among them.
#[inline(always)]
pub fn release(tgid: u32, address: u64) -> bool {
    KEPT.remove(&key(tgid, address)).is_ok()
}

/// Keeps a block again: it was not given back after all.
#[inline(always)]
pub fn keep(tgid: u32, address: u64) {
    if KEPT.insert(&key(tgid, address), &0, 0).is_err() {
        count::bump(tgid, Counter::KeptTableFull);
    }
}

/// A child's blocks are its parent's, but the set knows them as the parent's only: until the agent
/// has told, every free of the child is recorded.
#[inline(always)]
pub fn inherit(tgid: u32, child_tgid: u32, config: &ProbeConfig) {
    if config.is_governed == 0 {
        return;
    }
    let mut policy = policy(tgid, config);
    if policy.watched == 0 {
        return;
    }
    policy.watched &= !watched::KEPT_ONLY;
    if POLICIES.insert(&child_tgid, &policy, 0).is_err() {
        count::bump(child_tgid, Counter::PolicyTableFull);
    }
}

/// A process that is gone has no policy and no hits.
#[inline(always)]
pub fn forget(tgid: u32, config: &ProbeConfig) {
    if config.is_governed != 0 {
        let _ = POLICIES.remove(&tgid);
    }
}

#[inline(always)]
fn key(tgid: u32, address: u64) -> KeptKey {
    KeptKey {
        address,
        tgid,
        reserved: 0,
    }
}
