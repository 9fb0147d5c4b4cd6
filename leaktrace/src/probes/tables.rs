//! Owns the agent's access to the probes' maps: the ring, what was lost, what may be forgotten.
//! Must not know programs or links.

use anyhow::Context as _;
use aya::maps::{Array, HashMap, MapData, RingBuf};
use leaktrace_common::counter::{Counter, LossKey, LostFreeKey, total};

use super::Probes;

impl Probes {
    /// The reading end of the ring. Can be had once.
    ///
    /// # Errors
    ///
    /// When it was taken before.
    pub fn take_ring(&mut self) -> anyhow::Result<RingBuf<MapData>> {
        let map = self
            .ebpf
            .take_map("EVENTS")
            .context("the ring was taken before")?;
        Ok(map.try_into()?)
    }

    /// Takes the ring of stacks that are to be walked, to read from; `None` where none are sent.
    ///
    /// # Errors
    ///
    /// When it was taken before.
    pub fn take_early_ring(&mut self) -> anyhow::Result<Option<RingBuf<MapData>>> {
        if !self.sends_early {
            return Ok(None);
        }
        let map = self.ebpf.take_map("EARLY_STACKS");
        Ok(Some(map.context("the ring was taken before")?.try_into()?))
    }

    /// Fetches and removes the frees that the ring had no room for: process, address and time.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read the map.
    pub fn take_lost_frees(&mut self) -> anyhow::Result<Vec<(u32, u64, u64)>> {
        let map = self
            .ebpf
            .map_mut("LOST_FREES")
            .context("the object has no LOST_FREES")?;
        let mut map: HashMap<_, LostFreeKey, u64> = HashMap::try_from(map)?;
        let keys: Vec<LostFreeKey> = map.keys().filter_map(Result::ok).collect();
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            // Read just before it is removed, so that the latest time counts.
            if let Ok(time_ns) = map.get(&key, 0) {
                let _ = map.remove(&key);
                taken.push((key.tgid, key.address, time_ns));
            }
        }
        Ok(taken)
    }

    /// How many frees were put aside so far: asking this is much cheaper than fetching them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read the map.
    pub fn deferred_frees(&self) -> anyhow::Result<u64> {
        self.total(total::FREES_DEFERRED)
    }

    fn total(&self, index: u32) -> anyhow::Result<u64> {
        let totals = self
            .ebpf
            .map("TOTALS")
            .context("the object has no TOTALS")?;
        let totals: Array<_, u64> = Array::try_from(totals)?;
        Ok(totals.get(&index, 0)?)
    }

    /// Everything that was lost so far, by process (0 where it is not known) and reason.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read the maps.
    pub fn losses(&self) -> anyhow::Result<Vec<(u32, Counter, u64)>> {
        let map = self
            .ebpf
            .map("LOSSES")
            .context("the object has no LOSSES")?;
        let map: HashMap<_, LossKey, u64> = HashMap::try_from(map)?;
        let mut losses: Vec<_> = map
            .iter()
            .filter_map(Result::ok)
            .filter_map(|(key, count)| Some((key.tgid, Counter::from_number(key.counter)?, count)))
            .collect();
        let untold = self.total(total::LOSSES_UNTOLD)?;
        if untold > 0 {
            losses.push((0, Counter::LossTableFull, untold));
        }
        Ok(losses)
    }

    /// Drops what the probes keep of stacks that nobody refers to any more.
    pub fn forget_stacks(&mut self, ids: impl Iterator<Item = u64>) {
        let Some(map) = self.ebpf.map_mut("STACKS") else {
            return;
        };
        if let Ok(mut map) = HashMap::<_, u64, u64>::try_from(map) {
            for id in ids {
                // One that is not there is what was wanted.
                let _ = map.remove(&id);
            }
        }
    }

    /// Drops what the probes count for a process that was reported and is gone.
    pub fn forget_losses(&mut self, tgid: u32) {
        let Some(map) = self.ebpf.map_mut("LOSSES") else {
            return;
        };
        if let Ok(mut map) = HashMap::<_, LossKey, u64>::try_from(map) {
            for counter in Counter::ALL {
                let _ = map.remove(&LossKey {
                    tgid,
                    counter: counter as u32,
                });
            }
        }
    }
}
