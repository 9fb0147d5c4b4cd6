//! Owns blocks whose stacks are walked only after they were made: which they are, and their way to the sites of their
//! stacks.
//! Must not know how stacks are walked.
//!
//! Until then such a block counts for a site without a stack. Nothing is done at its free, which costs nothing then: a
//! block is the one that was noted as long as the one at its address was made at the same time.

use leaktrace_common::stack::is_provisional;

use super::{Ledger, block::Block, process::ProcessLedger};
use crate::decode::Alloc;

/// A block whose stack is still to be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EarlyBlock {
    address: u64,
    time_us: u64,
    /// The provisional id of its stack.
    id: u64,
}

/// What becomes of a block's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restack {
    /// It is the one with this id; 0 where there is none.
    To(u64),
    /// It cannot be told yet.
    Later,
}

impl ProcessLedger {
    /// Notes a block whose stack is still to be walked; as it counts until then.
    pub(super) fn note_early(&mut self, alloc: Alloc) -> Alloc {
        if !is_provisional(alloc.stack) {
            return alloc;
        }
        self.early.push(EarlyBlock {
            address: alloc.address,
            time_us: Block::new(0, alloc.time_ns, 0).time_us(),
            id: alloc.stack,
        });
        Alloc { stack: 0, ..alloc }
    }

    fn early_block(&mut self, early: EarlyBlock) -> Option<&mut Block> {
        let resizing = self.resizing.values_mut();
        let resized = resizing.filter(|(address, _)| *address == early.address);
        let blocks = self.blocks.get_mut(&early.address).into_iter();
        let sites = &self.sites;
        blocks.chain(resized.map(|(_, block)| block)).find(|block| {
            let site = sites.get(block.site());
            block.time_us() == early.time_us && site.is_some_and(|it| it.stack == 0)
        })
    }

    /// Asks of each such block that is live what its stack is.
    fn restack(&mut self, mut stack_of: impl FnMut(u64) -> Restack) {
        let early = std::mem::take(&mut self.early);
        for block in early {
            let Some(was) = self.early_block(block).copied() else {
                continue;
            };
            match stack_of(block.id) {
                Restack::Later => self.early.push(block),
                Restack::To(0) => {}
                Restack::To(stack) => self.move_block(block, was, stack),
            }
        }
    }

    fn move_block(&mut self, early: EarlyBlock, was: Block, stack: u64) {
        let Some(site) = self.sites.get(was.site()) else {
            return;
        };
        // Only the site that took in all others has no function, and its blocks stay there.
        let Some(call) = site.call else {
            return;
        };
        let sample_bytes = site.estimate.sample_bytes;
        let alloc = Alloc {
            tgid: self.tgid(),
            call,
            family: site.family,
            address: early.address,
            size: was.size(),
            stack,
            time_ns: was.time_us() * 1_000,
        };
        let number = self.site_number(&alloc, sample_bytes);
        let moved = Block::new(alloc.size, alloc.time_ns, number);
        if let Some(block) = self.early_block(early) {
            *block = moved;
        }
        self.sites[was.site()].withdraw(was.size(), was.time_us());
        self.sites[moved.site()].add_allocated(moved.size(), moved.time_us());
    }
}

impl Ledger {
    /// Asks of each live block whose stack is still to be walked what its stack is: of the block's process and by the
    /// provisional id of its stack.
    pub fn restack(&mut self, mut stack_of: impl FnMut(u32, u64) -> Restack) {
        for process in self.processes.values_mut() {
            let tgid = process.tgid();
            process.restack(|id| stack_of(tgid, id));
        }
    }

    /// The same of one process, whose pid is about to be another's: what is known of a pid is that one's then.
    pub fn restack_last(&mut self, tgid: u32, mut stack_of: impl FnMut(u64) -> Restack) {
        let process = self.key(tgid).and_then(|key| self.processes.get_mut(&key));
        if let Some(process) = process {
            process.restack(&mut stack_of);
            process.early = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use leaktrace_common::{call::Call, stack::PROVISIONAL};

    use super::*;
    use crate::decode::Event;

    const PID: u32 = 7;

    /// A block at an address, made at that microsecond, whose stack is still to be walked.
    fn early(address: u64, time_us: u64) -> Event {
        Event::Alloc(Alloc {
            tgid: PID,
            call: Call::Malloc,
            family: None,
            address,
            size: 100,
            stack: PROVISIONAL | address,
            time_ns: time_us * 1_000,
        })
    }

    fn free(address: u64) -> Event {
        Event::Free { tgid: PID, address }
    }

    /// Stack, live blocks, bytes and all that were ever made, of each site of a process that has any.
    fn sites(ledger: &Ledger, tgid: u32) -> Vec<(u64, u64, u64, u64)> {
        let process = ledger.get(ledger.key(tgid).unwrap()).unwrap();
        let told = process.sites().iter().map(|site| {
            let live = (site.live_count(), site.live_bytes());
            (site.stack, live.0, live.1, site.allocated_count)
        });
        let mut told: Vec<_> = told.filter(|it| it.3 > 0).collect();
        told.sort_unstable();
        told
    }

    fn after(events: &[Event]) -> Ledger {
        let mut ledger = Ledger::default();
        events.iter().for_each(|event| ledger.apply(event));
        ledger
    }

    /// Blocks come to the site of their stack, those that were freed before count where they were, and each is asked for once.
    #[test]
    fn live_blocks_move() {
        let mut ledger = after(&[early(1, 1), early(2, 2), early(3, 3), free(2)]);
        assert_eq!(sites(&ledger, PID), [(0, 2, 200, 3)]);
        let mut asked = Vec::new();
        ledger.restack(|_, id| {
            asked.push(id & !PROVISIONAL);
            Restack::To(40 + (id & 1))
        });
        assert_eq!(asked, [1, 3]);
        assert_eq!(sites(&ledger, PID), [(0, 0, 0, 1), (41, 2, 200, 2)]);
        ledger.restack(|_, _| panic!("all are walked"));
        ledger.apply(&free(1));
        assert_eq!(sites(&ledger, PID), [(0, 0, 0, 1), (41, 1, 100, 2)]);
    }

    /// A block that has to wait is asked for again, and one that is never told stays without a stack.
    #[test]
    fn blocks_may_wait() {
        let mut ledger = after(&[early(1, 1), early(2, 2)]);
        ledger.restack(|_, _| Restack::Later);
        ledger.restack(|_, id| Restack::To(if id & 1 == 1 { 41 } else { 0 }));
        assert_eq!(sites(&ledger, PID), [(0, 1, 100, 1), (41, 1, 100, 1)]);
        ledger.restack(|_, _| panic!("nothing is left to ask"));
    }

    /// What was made later at the address of an early block is not that block.
    #[test]
    fn an_address_that_came_again_is_another_block() {
        let mut ledger = after(&[early(1, 1), free(1), early(1, 5)]);
        let Event::Alloc(walked) = early(1, 9) else {
            unreachable!()
        };
        ledger.apply(&free(1));
        ledger.apply(&Event::Alloc(Alloc {
            stack: 50,
            ..walked
        }));
        ledger.restack(|_, _| panic!("no early block is live"));
        assert_eq!(sites(&ledger, PID), [(0, 0, 0, 2), (50, 1, 100, 1)]);
    }

    /// A child has its parent's blocks, and comes to the same sites.
    #[test]
    fn children_have_their_own() {
        let fork = Event::Fork {
            tgid: PID,
            child_tgid: 8,
            uid: 0,
            time_ns: 2_000,
            shares_memory: false,
        };
        let mut ledger = after(&[early(1, 1), fork]);
        ledger.apply(&free(1));
        ledger.restack(|tgid, _| {
            assert_eq!(tgid, 8, "the parent's is freed");
            Restack::To(41)
        });
        assert_eq!(sites(&ledger, 8), [(41, 1, 100, 1)]);
    }
}
