//! Owns the reading end of the ring.
//! Must not know what the events lead to.

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use crate::decode::{self, Event};

/// Records taken in one go at the most, so that whoever reads can look at the time.
const BATCH: usize = 8_192;

/// Bytes of the head that the kernel puts before each record; the whole is rounded up to as many.
const HEAD_BYTES: usize = 8;

/// The ring, ready to be waited for.
pub struct Source {
    ring: AsyncFd<RingBuf<MapData>>,
    /// Records that could not be decoded: none, unless agent and probes do not belong together.
    pub undecoded_count: u64,
}

impl Source {
    /// Registers the ring with the runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to watch its descriptor.
    pub fn new(ring: RingBuf<MapData>) -> std::io::Result<Self> {
        // SAFETY: the ring owns its one descriptor, which neither changes nor closes before it drops.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self {
            ring,
            undecoded_count: 0,
        })
    }

    /// Waits until the probes call: when the ring fills or a process begins or ends.
    ///
    /// # Errors
    ///
    /// When the descriptor can no longer be watched.
    pub async fn wait(&self) -> std::io::Result<()> {
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// Hands over some of what the ring holds, in order; how many of its bytes that were, or `None` where it is empty
    /// now.
    pub fn drain(&mut self, mut each: impl FnMut(Event)) -> Option<usize> {
        let ring = self.ring.get_mut();
        let mut bytes = 0;
        for _ in 0..BATCH {
            let record = ring.next()?;
            bytes += (record.len() + HEAD_BYTES).next_multiple_of(HEAD_BYTES);
            match decode::decode(&record) {
                Ok(event) => each(event),
                Err(_) => self.undecoded_count += 1,
            }
        }
        Some(bytes)
    }
}
