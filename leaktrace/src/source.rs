//! Owns the reading end of the ring.
//! Must not know what the events lead to.

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use crate::decode::{self, Event};

/// Records taken in one go at the most, so that signals and reports get their turn on a host that
/// never stops allocating.
pub const BATCH: usize = 65_536;

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

    /// Hands over what the ring holds, in order; `true` when there is more.
    pub fn drain(&mut self, mut each: impl FnMut(Event)) -> bool {
        let ring = self.ring.get_mut();
        for _ in 0..BATCH {
            let Some(record) = ring.next() else {
                return false;
            };
            match decode::decode(&record) {
                Ok(event) => each(event),
                Err(_) => self.undecoded_count += 1,
            }
        }
        true
    }
}
