//! Owns the permission to copy the shared types into and out of BPF maps.
//! Must not know anything else: it is the only unsafe code of this crate.

use crate::{
    config::ProbeConfig,
    counter::{LossKey, LostFreeKey},
};

// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for ProbeConfig {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for LossKey {}
// SAFETY: integers only, `repr(C)`, without padding (asserted beside the type).
unsafe impl aya::Pod for LostFreeKey {}
