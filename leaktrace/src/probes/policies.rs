//! Owns the agent's access to what the probes record of whom, and to the count of what they did.
//! Must not know why a process has the policy that it has.

use anyhow::Context as _;
use aya::maps::{HashMap, MapData};
use leaktrace_common::{
    limits::THREAD_WORDS,
    policy::{Hits, KeptKey, Policy},
};

use super::Probes;

impl Probes {
    /// Gives a process a policy of its own.
    ///
    /// # Errors
    ///
    /// When the table is full or the kernel refuses to write it.
    pub fn set_policy(&mut self, tgid: u32, policy: &Policy) -> anyhow::Result<()> {
        let mut policies: HashMap<_, u32, Policy> = self.map_of("POLICIES")?;
        policies
            .insert(&tgid, policy, 0)
            .with_context(|| format!("failed to set what is recorded of process {tgid}"))
    }

    /// Lets a process have the policy of those that have none of their own.
    pub fn forget_policy(&mut self, tgid: u32) {
        if let Ok(mut policies) = self.map_of::<u32, Policy>("POLICIES") {
            // One that is not there is what was wanted.
            let _ = policies.remove(&tgid);
        }
    }

    /// Tells the probes that blocks are recorded, so that their frees are told from others; gives
    /// how many found no room.
    ///
    /// # Errors
    ///
    /// When the object has no such map.
    pub fn keep(&mut self, tgid: u32, addresses: impl Iterator<Item = u64>) -> anyhow::Result<u64> {
        let mut kept: HashMap<_, KeptKey, u32> = self.map_of("KEPT")?;
        let mut refused = 0;
        for address in addresses {
            refused += u64::from(kept.insert(&key(tgid, address), &0, 0).is_err());
        }
        Ok(refused)
    }

    /// Drops blocks whose frees are of no interest any more.
    pub fn release(&mut self, tgid: u32, addresses: impl Iterator<Item = u64>) {
        if let Ok(mut kept) = self.map_of::<KeptKey, u32>("KEPT") {
            for address in addresses {
                // One that was freed meanwhile is not there.
                let _ = kept.remove(&key(tgid, address));
            }
        }
    }

    /// What the probes did for a process since it began; nothing where it is not counted.
    #[must_use]
    pub fn hits(&self, tgid: u32) -> Hits {
        let hits = || {
            let map = HashMap::<_, u32, Hits>::try_from(self.ebpf.map("HITS")?).ok()?;
            map.get(&tgid, 0).ok()
        };
        hits().unwrap_or_default()
    }

    /// What the probes did for every process that is counted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to read the map.
    pub fn all_hits(&self) -> anyhow::Result<Vec<(u32, Hits)>> {
        let map = self.ebpf.map("HITS").context("the object has no HITS")?;
        let map = HashMap::<_, u32, Hits>::try_from(map)?;
        // One that went meanwhile is not of interest.
        Ok(map.iter().filter_map(Result::ok).collect())
    }

    /// Drops the count of a process that was reported and is gone.
    pub fn forget_hits(&mut self, tgid: u32) {
        if let Ok(mut hits) = self.map_of::<u32, Hits>("HITS") {
            let _ = hits.remove(&tgid);
        }
    }

    /// Drops what the probes know of calls that a process is in: their returns were not seen.
    pub fn forget_threads(&mut self, tgid: u32) {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{tgid}/task")) else {
            return;
        };
        let Ok(mut threads) = self.map_of::<u64, [u64; THREAD_WORDS]>("THREADS") else {
            return;
        };
        for task in tasks.flatten() {
            if let Some(tid) = task
                .file_name()
                .to_str()
                .and_then(|it| it.parse::<u64>().ok())
            {
                // Most threads have no entry.
                let _ = threads.remove(&(u64::from(tgid) << 32 | tid));
            }
        }
    }

    fn map_of<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &str,
    ) -> anyhow::Result<HashMap<&mut MapData, K, V>> {
        let map = self.ebpf.map_mut(name);
        let map = map.with_context(|| format!("the object has no {name}"))?;
        Ok(HashMap::try_from(map)?)
    }
}

fn key(tgid: u32, address: u64) -> KeptKey {
    KeptKey {
        address,
        tgid,
        reserved: 0,
    }
}
