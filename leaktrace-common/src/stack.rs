//! Owns how stacks are told apart by number.
//! Must not know how they are walked or kept.

use crate::limits::STACK_FRAMES_MAX;

/// Odd multipliers with well-mixed bits, from the golden ratio and from xxHash's second prime.
const MIX_ID: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX_CHECK: u64 = 0xC2B2_AE3D_27D4_EB4F;

/// In an id: of a stack that is still to be walked by the agent. Others are made of what the stack holds.
pub const PROVISIONAL: u64 = 1 << 63;

/// Whether an id is of a stack that is still to be walked.
#[must_use]
#[inline(always)]
pub const fn is_provisional(id: u64) -> bool {
    id & PROVISIONAL != 0
}

/// The id of a stack that is still to be walked: a thread has no two at one time.
#[must_use]
#[inline(always)]
pub const fn provisional(thread_id: u64, time_ns: u64) -> u64 {
    let mut id = thread_id.wrapping_mul(MIX_ID);
    id ^= id >> 32;
    id = (id ^ time_ns).wrapping_mul(MIX_CHECK);
    id | PROVISIONAL
}

/// Two independent hashes of the frames, the process and its image: the id, which is never 0, and its check word.
#[must_use]
#[inline(always)]
pub fn identity(
    frames: &[u64; STACK_FRAMES_MAX],
    frame_count: usize,
    tgid: u32,
    image: u32,
) -> (u64, u64) {
    let seed = ((image as u64) << 32) | tgid as u64;
    let mut id = seed.wrapping_mul(MIX_ID);
    let mut check = seed;
    let mut index = 0;
    while index < frame_count && index < STACK_FRAMES_MAX {
        let frame = frames[index];
        id = (id ^ frame).wrapping_mul(MIX_ID);
        id ^= id >> 32;
        check = check
            .rotate_left(23)
            .wrapping_add(frame)
            .wrapping_mul(MIX_CHECK);
        index += 1;
    }
    id &= !PROVISIONAL;
    // 0 stands for no stack.
    (if id == 0 { 1 } else { id }, check)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of what is walked and of what is not never meet, and tell frames, processes and images apart.
    #[test]
    fn ids_tell_apart() {
        let mut frames = [0; STACK_FRAMES_MAX];
        let mut ids = [0; 5];
        (ids[0], _) = identity(&frames, 0, 0, 0);
        (ids[1], _) = identity(&frames, 2, 7, 0);
        (ids[2], _) = identity(&frames, 2, 7, 1);
        frames[1] = u64::MAX;
        (ids[3], _) = identity(&frames, 2, 7, 0);
        (ids[4], _) = identity(&frames, 1, 7, 0);
        for (at, id) in ids.iter().enumerate() {
            assert!(*id != 0 && !is_provisional(*id) && !ids[..at].contains(id));
        }
        let [one, later, other] = [(1, 1), (1, 2), (2, 1)].map(|(id, time)| provisional(id, time));
        assert!(one != later && one != other && is_provisional(one));
    }
}
