//! Owns the decision how much of a process is traced, so that it costs no more than it may.
//! Must not know how hits are counted, how probes are taken out, or what time it is.
//!
//! A loop that is closed by the count of hits. Recording fewer allocations saves what a record costs;
//! where the traps alone are too dear, the probes go out, for as long as it takes until the cost of
//! the time with and without them is what it may be, and then a short look is taken again.

use crate::calibration::Cost;

const SECOND_NS: u64 = 1_000_000_000;

/// The distance between samples at the first step from exact figures, and the factor of further ones.
const FIRST_SAMPLE_BYTES: u64 = 16 << 10;
const SAMPLE_FACTOR: u64 = 4;

/// Where this is reached, records cost nothing worth speaking of.
const LAST_SAMPLE_BYTES: u64 = 16 << 20;

/// Sampling is the remedy while traps alone take no more than this part of the budget.
const TRAPS_MAX: f64 = 0.8;

/// What is shorter tells nothing of a rate.
const LOOK_NS: u64 = 20_000_000;

/// What counts is the average over so long, and no longer, since a second is what there is to back off: a collection of Go's
/// sweeps the whole heap within milliseconds, and costs little on average.
const AVERAGED_NS: u64 = SECOND_NS;

/// Probes stay out at least and at most so long: putting them in and out costs too, and a process
/// that calms down is to be noticed.
const OUT_MIN_NS: u64 = SECOND_NS;
const OUT_MAX_NS: u64 = 60 * SECOND_NS;

/// What is to be done about a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Nothing.
    Keep,
    /// Record one allocation in about so many bytes.
    Sample(u64),
    /// Take its probes out.
    Detach,
    /// Put them in again.
    Attach,
}

/// One process and what it may be made to pay.
#[derive(Clone, Debug)]
pub struct Governor {
    /// The part of one CPU that probes may take.
    limit: f64,
    cost: Cost,
    sample_bytes: u64,
    /// Hits, records and the time at the last look.
    last: (u64, u64, u64),
    /// When the probes went in, and what they took since.
    spell: (u64, f64),
    /// Since when the average is taken, and what was spent since.
    averaged: (u64, f64),
    /// Until when they are out.
    out_until_ns: Option<u64>,
    fraction: f64,
}

impl Governor {
    /// Of a process whose probes went in at `now_ns`.
    #[must_use]
    pub fn new(limit: f64, cost: Cost, sample_bytes: u64, now_ns: u64) -> Self {
        Self {
            limit,
            cost,
            sample_bytes,
            last: (0, 0, now_ns),
            spell: (now_ns, 0.0),
            averaged: (now_ns, 0.0),
            out_until_ns: None,
            fraction: 0.0,
        }
    }

    /// The same of a process whose hits and records were counted before.
    #[must_use]
    pub fn counting_from(mut self, hit_count: u64, record_count: u64) -> Self {
        (self.last.0, self.last.1) = (hit_count, record_count);
        self
    }

    /// The part of one CPU that its probes took between the last two looks.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.fraction
    }

    /// Whether its probes are out.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.out_until_ns.is_some()
    }

    /// Takes a look at `now_ns`: so many hits and records were counted since it is traced.
    pub fn look(&mut self, now_ns: u64, hit_count: u64, record_count: u64) -> Order {
        if let Some(until_ns) = self.out_until_ns {
            if now_ns < until_ns {
                return Order::Keep;
            }
            // While they went out one after the other, the process still ran into them.
            let late = (
                hit_count.saturating_sub(self.last.0),
                record_count.saturating_sub(self.last.1),
            );
            self.last = (hit_count, record_count, now_ns);
            self.spell.1 += self.cost.total_ns(late.0, late.1);
            let still_ns = self.due_ns(now_ns);
            if still_ns > 0 && late.0 > 0 {
                self.out_until_ns = Some(now_ns + still_ns.min(OUT_MAX_NS));
                return Order::Keep;
            }
            self.out_until_ns = None;
            self.last = (hit_count, record_count, now_ns);
            self.spell = (now_ns, 0.0);
            self.averaged = (now_ns, 0.0);
            return Order::Attach;
        }
        let (last_hits, last_records, last_ns) = self.last;
        let passed_ns = now_ns.saturating_sub(last_ns);
        if passed_ns < LOOK_NS {
            return Order::Keep;
        }
        let hits = hit_count.saturating_sub(last_hits);
        let records = record_count.saturating_sub(last_records);
        let (traps_ns, all_ns) = (
            self.cost.total_ns(hits, 0),
            self.cost.total_ns(hits, records),
        );
        self.last = (hit_count, record_count, now_ns);
        self.spell.1 += all_ns;
        self.fraction = all_ns / passed_ns as f64;
        self.averaged.1 += all_ns;
        let averaged_ns = now_ns.saturating_sub(self.averaged.0);
        // More than what all of that time brings is too much before it has passed.
        let brought_ns = self.limit * averaged_ns.max(AVERAGED_NS) as f64;
        if self.averaged.1 <= brought_ns {
            if averaged_ns >= AVERAGED_NS {
                self.averaged = (now_ns, 0.0);
            }
            return Order::Keep;
        }
        self.averaged = (now_ns, 0.0);
        let is_sampling_enough = traps_ns / passed_ns as f64 <= TRAPS_MAX * self.limit;
        if is_sampling_enough && self.sample_bytes < LAST_SAMPLE_BYTES {
            self.sample_bytes =
                (self.sample_bytes * SAMPLE_FACTOR).clamp(FIRST_SAMPLE_BYTES, LAST_SAMPLE_BYTES);
            return Order::Sample(self.sample_bytes);
        }
        self.out_until_ns = Some(now_ns + self.pause_ns(now_ns));
        Order::Detach
    }

    /// How long probes are to be out.
    fn pause_ns(&self, now_ns: u64) -> u64 {
        self.due_ns(now_ns).clamp(OUT_MIN_NS, OUT_MAX_NS)
    }

    /// How long probes must be out yet, so that what they took is what it may be of the whole time.
    fn due_ns(&self, now_ns: u64) -> u64 {
        let (since_ns, spent_ns) = self.spell;
        let spell_ns = now_ns.saturating_sub(since_ns) as f64;
        let whole_ns = spent_ns / self.limit;
        (whole_ns - spell_ns).max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost {
        ns_per_hit: 1_000.0,
        ns_per_record: 4_000.0,
    };

    /// A process that makes so many pairs a second: hits and records at a time, at a rate of samples.
    struct Program {
        governor: Governor,
        now_ns: u64,
        hits: u64,
        records: u64,
        orders: Vec<Order>,
        spent_ns: f64,
    }

    impl Program {
        fn new(limit: f64) -> Self {
            Self {
                governor: Governor::new(limit, COST, 0, 0),
                now_ns: 0,
                hits: 0,
                records: 0,
                orders: Vec::new(),
                spent_ns: 0.0,
            }
        }

        /// Lets it run with a look each 100 ms.
        fn run(&mut self, seconds: u64, pairs_per_second: u64) {
            for _ in 0..seconds * 10 {
                self.now_ns += SECOND_NS / 10;
                if !self.governor.is_out() {
                    let pairs = pairs_per_second / 10;
                    // Blocks of 64 bytes.
                    let records = match self.governor.sample_bytes {
                        0 => pairs,
                        distance => pairs * 64 / distance,
                    };
                    self.hits += 3 * pairs;
                    self.records += records;
                    self.spent_ns += COST.total_ns(3 * pairs, records);
                }
                let order = self.governor.look(self.now_ns, self.hits, self.records);
                if order != Order::Keep {
                    self.orders.push(order);
                }
            }
        }
    }

    /// What a process runs into while its probes go out is its cost too: they stay out for longer.
    #[test]
    fn late_hits_are_paid_for() {
        let mut governor = Governor::new(0.05, COST, 0, 0);
        let at = |ms: u64| ms * 1_000_000;
        assert_eq!(governor.look(at(100), 100_000, 0), Order::Detach);
        // 100 ms of cost are 2 s of the budget, and 50 000 hits more another one.
        assert_eq!(governor.look(at(2_000), 150_000, 0), Order::Keep);
        assert_eq!(governor.look(at(2_990), 150_000, 0), Order::Keep);
        assert_eq!(governor.look(at(3_000), 150_000, 0), Order::Attach);
    }

    /// A burst each second that fits on average is left alone, what is a little too much is noticed after a second, and a
    /// storm at the first look.
    #[test]
    fn bursts_count_by_their_average() {
        let mut program = Program::new(0.05);
        for _ in 0..20 {
            program.now_ns += SECOND_NS / 10;
            program.hits += 45_000;
            let order = program.governor.look(program.now_ns, program.hits, 0);
            assert_eq!(order, Order::Keep);
            assert!(program.governor.fraction() > 0.4);
            for _ in 0..9 {
                program.now_ns += SECOND_NS / 10;
                let order = program.governor.look(program.now_ns, program.hits, 0);
                assert_eq!(order, Order::Keep);
            }
        }
        let mut dear = Program::new(0.05);
        // 7 000 hits and records a second and a little are 5 %.
        dear.run(1, 7_300);
        assert_eq!(dear.orders, [Order::Sample(FIRST_SAMPLE_BYTES)]);
        program.run(1, 200_000);
        assert_eq!(program.orders, [Order::Detach]);
        assert_eq!(program.spent_ns, 140_000_000.0, "one look is enough");
    }

    /// What fits is left alone.
    #[test]
    fn a_quiet_process_is_exact() {
        let mut program = Program::new(0.05);
        program.run(20, 5_000);
        assert_eq!(program.orders, []);
        assert!((program.governor.fraction() - 0.035).abs() < 1e-9);
    }

    /// Where records are what is dear, fewer are made, and the probes stay.
    #[test]
    fn records_are_saved_first() {
        let mut program = Program::new(0.05);
        program.run(20, 12_000);
        assert_eq!(program.orders, [Order::Sample(FIRST_SAMPLE_BYTES)]);
        assert!(program.governor.fraction() <= 0.05);
    }

    /// Where the traps alone are too dear, the probes are out most of the time, at once, and the cost
    /// is what it may be.
    #[test]
    fn a_storm_is_left() {
        let mut program = Program::new(0.05);
        program.run(10, 300);
        assert_eq!(program.orders, []);
        let before_ns = program.spent_ns;
        // Traps slow such a program down until they take all of its time.
        program.run(120, 200_000);
        assert_eq!(program.orders[0], Order::Detach);
        assert!(program.orders.contains(&Order::Attach));
        let average = (program.spent_ns - before_ns) / (120 * SECOND_NS) as f64;
        assert!(average < 0.06, "{average}");
        assert!(average > 0.02, "it is looked at now and then: {average}");
    }

    /// When the storm is over, the probes stay in.
    #[test]
    fn calm_brings_the_probes_back() {
        let mut program = Program::new(0.05);
        program.run(10, 200_000);
        program.run(70, 1_000);
        assert_eq!(program.orders.last(), Some(&Order::Attach));
        assert!(!program.governor.is_out());
    }
}
