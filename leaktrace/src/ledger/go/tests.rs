//! Tests of Go's heap: what lives and dies by the marks of spans.

use leaktrace_common::call::Call;

use crate::{
    decode::{Alloc, Event, GoSweep},
    ledger::{Ledger, ProcessLedger, SiteAges},
};

const HEAP: u64 = 0xc0_0000_0000;
const SECOND: u64 = 1_000_000_000;

/// A ledger of one process, told of by few words.
#[derive(Default)]
struct Told {
    ledger: Ledger,
}

impl Told {
    fn alloc(&mut self, address: u64, size: u64, site: u64, time_ns: u64) -> &mut Self {
        self.say(address, size, site, time_ns, false, 0)
    }

    fn tiny(&mut self, address: u64, site: u64) -> &mut Self {
        self.say(address, 16, site, SECOND, true, 0)
    }

    fn say(
        &mut self,
        address: u64,
        size: u64,
        stack: u64,
        time_ns: u64,
        is_tiny: bool,
        sample_bytes: u64,
    ) -> &mut Self {
        let alloc = Alloc {
            tgid: 7,
            call: Call::Mallocgc,
            family: None,
            address: HEAP + address,
            size,
            stack,
            time_ns,
        };
        self.ledger.apply(&Event::GoAlloc {
            alloc,
            is_tiny,
            sample_bytes,
        });
        self
    }

    /// A sweep of a span, with the slots that are marked.
    fn sweep(&mut self, at: u64, pages: u64, slot_bytes: u64, marked: &[usize]) -> &mut Self {
        let slot_count = pages * 8_192 / slot_bytes;
        let mut marks = vec![0; slot_count.div_ceil(64) as usize];
        for slot in marked {
            marks[slot / 64] |= 1 << (slot % 64);
        }
        self.ledger.apply(&Event::GoSweep(Box::new(GoSweep {
            tgid: 7,
            address: HEAP + at,
            span_bytes: pages * 8_192,
            slot_bytes,
            slot_count: slot_count as u32,
            time_ns: 0,
            marks,
        })));
        self
    }

    fn cycle(&mut self, time_ns: u64) -> &mut Self {
        let tgid = 7;
        self.ledger.apply(&Event::GoCycle { tgid, time_ns });
        self
    }

    fn process(&self) -> &ProcessLedger {
        self.ledger.get(self.ledger.key(7).unwrap()).unwrap()
    }

    /// Live blocks and bytes of a site.
    fn live(&self, stack: u64) -> (u64, u64) {
        let site = self.process().sites().iter().find(|it| it.stack == stack);
        site.map_or((0, 0), |it| (it.live_count(), it.live_bytes()))
    }

    fn ages(&self, now_ns: u64, min_age_us: u64) -> SiteAges {
        self.process().ages(now_ns, min_age_us)[0]
    }
}

/// Sizes are those of the slots, as Go's own figures have them.
#[test]
fn sizes_are_those_of_slots() {
    for (size, slot) in [
        (1, 8),
        (8, 8),
        (9, 16),
        (33, 48),
        (513, 576),
        (1_025, 1_152),
        (32_761, 32_768),
        (32_769, 40_960),
        (1 << 20, 1 << 20),
        (u64::MAX, u64::MAX),
    ] {
        assert_eq!(super::slot_bytes(size), slot, "{size}");
    }
}

/// What is not marked is dead, in the span that was swept and nowhere else.
#[test]
fn the_unmarked_die() {
    let mut told = Told::default();
    for slot in 0..100 {
        told.alloc(slot * 64, 60, 1, SECOND);
    }
    told.alloc(8_192, 60, 1, SECOND);
    assert_eq!(told.live(1), (101, 101 * 64));
    told.sweep(0, 1, 64, &[0, 63, 64, 99]);
    assert_eq!(told.live(1), (5, 5 * 64));
    assert_eq!(told.process().live_count(), 5);
    told.sweep(0, 1, 64, &[]).sweep(8_192, 1, 64, &[]);
    assert_eq!(told.live(1), (0, 0));
    assert_eq!(told.process().live_count(), 0);
}

/// An object with a header begins 8 bytes behind its slot, and one may begin in one page and end in
/// another.
#[test]
fn headers_and_borders_of_pages() {
    let mut told = Told::default();
    // Slots of 1 152 bytes in a span of one page; of 9 472 in one of seven.
    told.alloc(8, 1_150, 1, SECOND)
        .alloc(1_160, 1_150, 1, SECOND);
    let large = 64 * 8_192;
    told.alloc(large + 9_472 + 8, 9_400, 2, SECOND);
    told.alloc(large + 2 * 9_472 + 8, 9_400, 2, SECOND);
    told.sweep(0, 1, 1_152, &[1]).sweep(large, 7, 9_472, &[2]);
    assert_eq!(told.live(1), (1, 1_152));
    assert_eq!(told.live(2), (1, 9_472));
}

/// A large object has its pages to itself, however many.
#[test]
fn a_large_object_dies_as_a_whole() {
    let mut told = Told::default();
    let pages = 1 << 20;
    told.alloc(0, pages * 8_192 - 1, 1, SECOND);
    told.sweep(0, pages, pages * 8_192, &[0]);
    assert_eq!(told.live(1), (1, pages * 8_192));
    told.sweep(0, pages, pages * 8_192, &[]);
    assert_eq!(told.live(1), (0, 0));
}

/// Who opens a shared slot pays for it; the others are counted and cost nothing, and all die at once.
#[test]
fn small_blocks_share_a_slot() {
    let mut told = Told::default();
    told.tiny(0, 1).tiny(4, 2).tiny(8, 2).tiny(16, 1);
    assert_eq!(told.live(1), (2, 32));
    assert_eq!(told.live(2), (0, 0));
    let sites = told.process().sites();
    assert_eq!(sites[1].allocated_count, 2);
    told.sweep(0, 1, 16, &[1]);
    assert_eq!(told.live(1), (1, 16));
}

/// One block that two functions handed on counts once; one in the place of another ends that one.
#[test]
fn a_block_at_a_live_address() {
    let mut told = Told::default();
    told.alloc(0, 64, 1, SECOND).alloc(0, 64, 2, SECOND + 5_000);
    assert_eq!((told.live(1), told.live(2)), ((1, 64), (0, 0)));
    told.alloc(0, 64, 2, SECOND + 500_000_000);
    assert_eq!(told.process().anomalies().told_twice, 2);
    told.alloc(0, 64, 2, 2 * SECOND);
    assert_eq!((told.live(1), told.live(2)), ((0, 0), (1, 64)));
    assert_eq!(told.process().anomalies().frees_implied, 1);
}

/// A collection that begins while one function has handed on a block and the other has not makes no second block of
/// it; once the block's span is swept, another may have its place.
#[test]
fn a_block_told_around_the_beginning_of_a_collection() {
    let mut told = Told::default();
    let millisecond = SECOND / 1_000;
    told.alloc(0, 64, 1, SECOND).cycle(SECOND + millisecond);
    told.alloc(0, 64, 2, SECOND + 5 * millisecond);
    assert_eq!((told.live(1), told.live(2)), ((1, 64), (0, 0)));
    told.sweep(0, 1, 64, &[0]);
    told.alloc(0, 64, 2, SECOND + 600 * millisecond);
    assert_eq!((told.live(1), told.live(2)), ((0, 0), (1, 64)));
    assert_eq!(told.process().anomalies().frees_implied, 1);
}

/// A collection counts for what was there when it began to mark.
#[test]
fn survivors_are_judged_ones() {
    let mut told = Told::default();
    told.alloc(0, 64, 1, SECOND);
    told.cycle(2 * SECOND).alloc(64, 64, 1, 2 * SECOND + 1_000);
    told.sweep(0, 1, 64, &[0, 1]);
    let ages = told.ages(3 * SECOND, 0);
    assert_eq!(
        (ages.gc_cycles_survived, ages.not_yet_collected_bytes),
        (1, 64)
    );
    told.cycle(3 * SECOND).sweep(0, 1, 64, &[0, 1]);
    let ages = told.ages(4 * SECOND, 0);
    assert_eq!(
        (ages.gc_cycles_survived, ages.not_yet_collected_bytes),
        (2, 0)
    );
}

/// What waits for its first collection is not long-lived, unless none comes.
#[test]
fn garbage_that_waits_is_not_long_lived() {
    let mut told = Told::default();
    told.alloc(0, 64, 1, SECOND);
    let ten_s = 10_000_000;
    assert_eq!(
        told.ages(20 * SECOND, ten_s).long_lived_count,
        1,
        "no collection at all"
    );
    told.cycle(21 * SECOND).alloc(64, 64, 1, 22 * SECOND);
    told.sweep(0, 1, 64, &[0, 1]);
    assert_eq!(
        told.ages(40 * SECOND, ten_s).long_lived_count,
        1,
        "one has survived"
    );
    assert_eq!(
        told.ages(40 * SECOND, 0).long_lived_count,
        2,
        "all was asked for"
    );
    assert_eq!(
        told.ages(200 * SECOND, ten_s).long_lived_count,
        2,
        "none came for minutes"
    );
}

/// A span that makes no sense is counted and kills nobody.
#[test]
fn unsound_spans_are_counted() {
    let mut told = Told::default();
    told.alloc(0, 64, 1, SECOND);
    for (span_bytes, slot_bytes, slot_count) in [(8_192, 0, 1), (64, 64, 2), (0, u64::MAX, 2)] {
        told.ledger.apply(&Event::GoSweep(Box::new(GoSweep {
            tgid: 7,
            address: HEAP,
            span_bytes,
            slot_bytes,
            slot_count,
            time_ns: 0,
            marks: vec![0],
        })));
    }
    assert_eq!(told.process().anomalies().spans_unsound, 3);
    assert_eq!(told.live(1), (1, 64));
}

/// A sampled block stands for others until it dies.
#[test]
fn samples_stand_for_others() {
    let mut told = Told::default();
    told.say(0, 64, 1, SECOND, false, 6_400);
    let (count, bytes) = told.live(1);
    assert!((100..=101).contains(&count), "{count}");
    assert!((6_400..=6_464).contains(&bytes), "{bytes}");
    told.say(4, 16, 1, SECOND, true, 6_400);
    assert_eq!(
        told.live(1).0,
        count,
        "one that shares a slot stands for none"
    );
    told.sweep(0, 1, 64, &[]);
    assert_eq!(told.live(1), (0, 0));
}

/// A block is found by any address inside of it, across pages, and by none beside it.
#[test]
fn blocks_are_found_by_addresses_inside() {
    let mut told = Told::default();
    told.alloc(64, 48, 1, SECOND)
        .alloc(8_192, 20_480, 2, SECOND)
        .alloc(28_672, 32, 3, SECOND);
    let process = told.ledger.get(told.ledger.key(7).unwrap()).unwrap();
    let find = |address: u64| process.go_block_at(HEAP + address);
    let at = |address: u64| find(address).map(|it| (it.address - HEAP, it.size_bytes));
    assert_eq!((at(63), at(112), at(28_704)), (None, None, None));
    assert_eq!((at(64), at(111)), (Some((64, 48)), Some((64, 48))));
    // In the second page behind its beginning.
    assert_eq!(at(8_192 + 20_000), Some((8_192, 20_480)));
    assert_eq!(at(28_680), Some((28_672, 32)));
    let found = find(64).unwrap();
    assert_eq!((found.counts_as, found.counts_as_bytes), (1, 48));
}
