//! Owns the permission to copy the shared types into and out of BPF maps.
//! Must not know anything else: it is the only unsafe code of this crate.

use crate::{
    code::{CodeRef, CodeSpace},
    config::ProbeConfig,
    counter::{LossKey, LostFreeKey},
    policy::{Hits, KeptKey, Policy},
    unwind::Rule,
};

// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for ProbeConfig {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for LossKey {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for LostFreeKey {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for CodeSpace {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for CodeRef {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for Rule {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for Policy {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for KeptKey {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for Hits {}
