//! Owns the decision how far one process may fill the ring: never so far that others find no room.
//! Must not know maps, records or who asks.
//!
//! Up to half of the ring is anybody's. An eighth is kept for those who hold next to nothing. Of the room between, a process may
//! hold as much as `SHARE_OF_FREE` times what is free just then: a dynamic threshold, as switches have it for shared
//! buffers (Choudhury and Hahne, 1998). A single one so has three quarters of the ring, several that send without end
//! come to equal parts as the ring is read, and however many of them there are, who sends little finds room.
//!
//! What a process holds is bounded from above by what it put in since the reader was last seen to have come round. Nothing is counted while the
//! ring is less than half full, which costs nothing: what is in it from then is half a ring at most, whosever it is.

/// How many times as much as is free a process may hold.
pub const SHARE_OF_FREE: u64 = 4;

/// The part of the ring that is kept for those who hold little.
pub const KEPT_DIVISOR: u64 = 8;

/// How little that is: a sixteenth of what is kept, so that so many processes find theirs whatever others do.
pub const LITTLE_DIVISOR: u64 = 128;

/// What a process put into the ring while that was more than half full. Positions count bytes since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Share {
    /// Where it was written when `bytes` began to count.
    pub begun_at: u64,
    /// Behind the last record that was counted: nothing of the process is in the ring once that is read.
    pub last_at: u64,
    /// Bytes since `begun_at`.
    pub bytes: u64,
    /// Bytes of the turn before that, of which some may still be unread.
    pub bytes_before: u64,
}

impl Share {
    /// Whether the reader has come round: all from before `begun_at` is read.
    #[must_use]
    #[inline(always)]
    pub const fn is_over(&self, read_to: u64) -> bool {
        read_to >= self.begun_at
    }

    /// The next turn, which begins where the ring is written now.
    #[must_use]
    #[inline(always)]
    pub const fn next(&self, read_to: u64, written_to: u64) -> Self {
        let is_read = read_to >= self.last_at;
        Self {
            begun_at: written_to,
            last_at: self.last_at,
            bytes: 0,
            bytes_before: if is_read { 0 } else { self.bytes },
        }
    }

    /// Whether one record more is within its share, where so many bytes of the ring are free before it.
    #[must_use]
    #[inline(always)]
    pub const fn has_room(&self, record_bytes: u64, free_bytes: u64, ring_bytes: u64) -> bool {
        let own_bytes = self.bytes_before + self.bytes + record_bytes;
        if record_bytes > free_bytes || own_bytes <= ring_bytes / LITTLE_DIVISOR {
            return record_bytes <= free_bytes;
        }
        let kept_bytes = ring_bytes / KEPT_DIVISOR + record_bytes;
        free_bytes > kept_bytes && own_bytes <= SHARE_OF_FREE * (free_bytes - kept_bytes)
    }
}

const _: () = assert!(size_of::<Share>() == 32);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::VecDeque, vec, vec::Vec};

    use super::*;

    const RING: u64 = 1 << 20;
    const RECORD: u64 = 48;

    /// A ring as the probes and the agent use it, and who is refused.
    struct Ring {
        shares: Vec<Share>,
        waiting: VecDeque<usize>,
        read_to: u64,
        written_to: u64,
        most: u64,
    }

    impl Ring {
        fn of(writers: usize) -> Self {
            Self {
                shares: vec![Share::default(); writers],
                waiting: VecDeque::new(),
                read_to: 0,
                written_to: 0,
                most: 0,
            }
        }

        fn write(&mut self, who: usize) -> bool {
            let waiting = self.written_to - self.read_to;
            if waiting > RING / 2 {
                let share = &mut self.shares[who];
                if share.is_over(self.read_to) {
                    *share = share.next(self.read_to, self.written_to);
                }
                if !share.has_room(RECORD, RING - waiting, RING) {
                    return false;
                }
                share.bytes += RECORD;
                share.last_at = self.written_to + RECORD;
            }
            self.waiting.push_back(who);
            self.written_to += RECORD;
            self.most = self.most.max(self.written_to - self.read_to);
            true
        }

        fn read(&mut self, records: u64) {
            for _ in 0..records {
                if self.waiting.pop_front().is_some() {
                    self.read_to += RECORD;
                }
            }
        }
    }

    /// However many storm at once, and however slowly and jerkily the ring is read, a quiet process is never refused.
    #[test]
    fn storms_leave_room_for_who_is_quiet() {
        for storms in [1, 2, 12] {
            for pace in [1, 13, 997, 9_001] {
                let mut ring = Ring::of(storms + 1);
                let mut refused = 0_u64;
                for round in 0..100_000_u64 {
                    for storm in 0..storms {
                        refused += u64::from(!ring.write(storm));
                    }
                    if round % 500 == 0 {
                        assert!(ring.write(storms), "{storms} storms, pace {pace}");
                    }
                    // A third of what one storm sends, some of it at once.
                    if round % pace == 0 {
                        ring.read(pace / 3 + u64::from(pace < 3 && round % 3 == 0));
                    }
                }
                assert!(refused > 0, "{storms} storms, pace {pace}");
                let left = RING - ring.most;
                let least = RING / KEPT_DIVISOR - storms as u64 * RING / LITTLE_DIVISOR;
                assert!(left >= least, "{storms}, {pace}: {left} of {least}");
            }
        }
    }

    /// Storms that come one after the other while nothing is read, each taking what the last one left, still leave what
    /// is kept for those who hold little.
    #[test]
    fn storms_in_a_row_leave_what_is_kept() {
        const STORMS: usize = 8;
        const QUIET: usize = 7;
        let mut ring = Ring::of(STORMS + QUIET);
        for storm in 0..STORMS {
            while ring.write(storm) {}
        }
        let little = RING / LITTLE_DIVISOR / RECORD;
        for quiet in STORMS..STORMS + QUIET {
            for record in 0..little {
                assert!(ring.write(quiet), "{record} of {quiet}");
            }
        }
        assert!((0..STORMS).all(|storm| !ring.write(storm)));
    }

    /// One process alone has more than three quarters of the ring before anything is refused.
    #[test]
    fn one_alone_has_most_of_the_ring() {
        let mut ring = Ring::of(1);
        let written = (0..RING / RECORD).take_while(|_| ring.write(0)).count() as u64;
        assert!((RING * 79 / 100..=RING * 81 / 100).contains(&(written * RECORD)));
    }

    /// What was read long ago counts no more, however much it was.
    #[test]
    fn a_storm_that_is_over_is_forgotten() {
        let mut ring = Ring::of(2);
        while ring.write(0) {}
        ring.read(RING);
        while ring.write(1) {}
        assert!(ring.write(0), "it has nothing in the ring");
    }
}
