//! Owns the decision how a process with probes is looked at: all the time where it can pay for that, else in
//! windows as often as the account allows.
//! Must not know how probes are put in and taken out, or what time it is.
//!
//! A window records allocations until that has cost its part; then their frees are waited for, until those
//! that die soon are gone, or that has cost its part too. So a process that allocates little has long windows, and
//! one that makes a million blocks a second some of milliseconds.

use leaktrace_common::policy::Hits;

use super::account::Account;
use crate::{
    budget::{Governor, Order as Governed},
    calibration::Cost,
};

/// A window may spend as much as so many seconds bring.
const WINDOW_SECONDS: f64 = 1.0;

/// What follows it, too.
const FOLLOW_SECONDS: f64 = 3.0;

/// Where survivors are too many, what follows may spend as much as so many seconds bring.
const FOLLOW_SECONDS_MAX: f64 = 30.0;

/// The longest window, and the most samples in one.
pub const WINDOW_MAX_NS: u64 = 2_000_000_000;
const WINDOW_SAMPLES_MAX: u64 = 30_000;

/// A window is followed for so long at least, and at most.
const FOLLOW_MIN_NS: u64 = 20_000_000;
const FOLLOW_MAX_NS: u64 = 10_000_000_000;

/// A cohort has thinned out where in the latter half of the time no more than this share of it died.
const THINNED_SHARE: f64 = 0.02;

/// By how much the time is lengthened where too much survives.
const LENGTHENING: u64 = 4;

/// A process that costs no more than this part of the limit in a window can be looked at all the time.
const CALM_PART: f64 = 0.5;

/// One of Go's that is sampled cheaply goes on until it and others have overdrawn the account by what so many seconds
/// bring: once it is out, all that was seen of it is lost.
const REFILLS_OVERDRAFT_SECONDS: f64 = 60.0;

/// Where the host's account is overdrawn, those that cost no more than this part of the limit go on.
const SPARED_PART: f64 = 0.1;

/// What is to be done about a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Nothing.
    Keep,
    /// Record one allocation in about so many bytes.
    Sample(u64),
    /// Take the probes out: from now on there are windows.
    BeginWindows,
    /// Put probes in where a Go allocator's caches get their blocks.
    Refill,
    /// Put the probes in and record.
    Open,
    /// Record no more, and wait for frees.
    Close,
    /// Take the probes out.
    End,
    /// Look at it all the time again.
    EndWindows,
}

#[derive(Clone, Debug)]
enum Phase {
    Steady(Box<Governor>),
    /// One of Go's, where its allocator's caches get their blocks. Its collections sweep the whole heap within
    /// milliseconds, so that only what it costs on the whole tells whether it can go on.
    Refilled,
    Out,
    Recording,
    Following,
}

/// A process with probes.
#[derive(Clone, Debug)]
pub struct Probing {
    cost: Cost,
    phase: Phase,
    /// When the phase began, and what it spent.
    since_ns: u64,
    phase_ns: f64,
    hits: Hits,
    /// Samples before the window, and live blocks.
    before: (u64, usize),
    /// Live blocks of the window, over the time that follows it.
    living: Vec<(u64, usize)>,
    follow_min_ns: u64,
    follow_seconds: f64,
    /// Whether it is one of Go's, which has no windows.
    takes_refills: bool,
    /// All that it cost.
    spent_ns: f64,
}

impl Probing {
    /// Of a process whose probes went in at `now_ns`.
    #[must_use]
    pub fn new(cost: Cost, limit: f64, now_ns: u64) -> Self {
        Self {
            cost,
            phase: Phase::Steady(Box::new(Governor::new(limit, cost, 0, now_ns))),
            since_ns: now_ns,
            phase_ns: 0.0,
            hits: Hits::default(),
            before: (0, 0),
            living: Vec::new(),
            follow_min_ns: FOLLOW_MIN_NS,
            follow_seconds: FOLLOW_SECONDS,
            takes_refills: false,
            spent_ns: 0.0,
        }
    }

    /// All that it cost, in nanoseconds of CPU.
    #[must_use]
    pub fn spent_ns(&self) -> f64 {
        self.spent_ns
    }

    /// Whether it is in a window or what follows, so that it is to be looked at often.
    #[must_use]
    pub fn is_in_window(&self) -> bool {
        matches!(self.phase, Phase::Recording | Phase::Following)
    }

    /// From now on it is sampled where its allocator's caches get their blocks, instead of being looked at in windows.
    pub fn take_refills(&mut self) {
        self.takes_refills = true;
    }

    /// Whether that is so.
    #[must_use]
    pub fn takes_refills(&self) -> bool {
        self.takes_refills
    }

    /// Whether it has no probes until the account holds enough.
    #[must_use]
    pub fn is_out(&self) -> bool {
        matches!(self.phase, Phase::Out)
    }

    /// Far more survives than the process grows by: windows are to be followed for longer.
    pub fn follow_longer(&mut self) {
        self.follow_min_ns = (self.follow_min_ns * LENGTHENING).min(FOLLOW_MAX_NS);
        self.follow_seconds = (self.follow_seconds * LENGTHENING as f64).min(FOLLOW_SECONDS_MAX);
    }

    /// Takes a look at `now_ns`: what the probes did since it is traced, and how many blocks are live.
    /// `may_open` tells whether no other process is in a window.
    pub fn look(
        &mut self,
        now_ns: u64,
        hits: Hits,
        live_count: usize,
        account: &mut Account,
        may_open: bool,
    ) -> Order {
        let spent_ns = self.cost.total_ns(
            hits.hit_count.saturating_sub(self.hits.hit_count),
            hits.sample_count.saturating_sub(self.hits.sample_count),
        );
        self.hits = hits;
        self.spent_ns += spent_ns;
        self.phase_ns += spent_ns;
        account.charge(spent_ns);
        let elapsed_ns = now_ns.saturating_sub(self.since_ns);
        match &mut self.phase {
            Phase::Steady(governor) => {
                match governor.look(now_ns, hits.hit_count, hits.sample_count) {
                    Governed::Detach => self.enter(Phase::Out, now_ns, Order::BeginWindows),
                    _ if account.is_overdrawn()
                        && governor.fraction() > SPARED_PART * account.limit() =>
                    {
                        self.enter(Phase::Out, now_ns, Order::BeginWindows)
                    }
                    Governed::Sample(sample_bytes) => Order::Sample(sample_bytes),
                    Governed::Keep | Governed::Attach => Order::Keep,
                }
            }
            Phase::Refilled => {
                let spared_ns = SPARED_PART * account.limit() * elapsed_ns as f64;
                if self.phase_ns > spared_ns && !account.holds_seconds(-REFILLS_OVERDRAFT_SECONDS) {
                    return self.enter(Phase::Out, now_ns, Order::BeginWindows);
                }
                Order::Keep
            }
            Phase::Out => {
                if !may_open || !account.holds_seconds(WINDOW_SECONDS + FOLLOW_SECONDS) {
                    return Order::Keep;
                }
                if self.takes_refills {
                    return self.enter(Phase::Refilled, now_ns, Order::Refill);
                }
                self.before = (hits.sample_count, live_count);
                self.enter(Phase::Recording, now_ns, Order::Open)
            }
            Phase::Recording => {
                let limit = account.limit();
                let samples = hits.sample_count.saturating_sub(self.before.0);
                let is_dear = self.phase_ns >= WINDOW_SECONDS * limit * 1e9;
                if is_dear || samples >= WINDOW_SAMPLES_MAX {
                    return self.enter(Phase::Following, now_ns, Order::Close);
                }
                if elapsed_ns < WINDOW_MAX_NS {
                    return Order::Keep;
                }
                if self.phase_ns > CALM_PART * limit * elapsed_ns as f64 {
                    return self.enter(Phase::Following, now_ns, Order::Close);
                }
                let governor = Governor::new(limit, self.cost, 0, now_ns)
                    .counting_from(hits.hit_count, hits.sample_count);
                self.enter(Phase::Steady(Box::new(governor)), now_ns, Order::EndWindows)
            }
            Phase::Following => {
                let living = live_count.saturating_sub(self.before.1);
                self.living.push((elapsed_ns, living));
                let is_dear = self.phase_ns >= self.follow_seconds * account.limit() * 1e9;
                let is_over = elapsed_ns >= self.follow_min_ns
                    && (is_dear || elapsed_ns >= FOLLOW_MAX_NS || self.has_thinned(elapsed_ns));
                if is_over {
                    self.enter(Phase::Out, now_ns, Order::End)
                } else {
                    Order::Keep
                }
            }
        }
    }

    fn enter(&mut self, phase: Phase, now_ns: u64, order: Order) -> Order {
        self.phase = phase;
        self.since_ns = now_ns;
        self.phase_ns = 0.0;
        self.living.clear();
        order
    }

    /// Whether hardly any block dies any more.
    fn has_thinned(&self, elapsed_ns: u64) -> bool {
        let half = self.living.iter().find(|(at, _)| *at >= elapsed_ns / 2);
        let (Some((_, half)), Some((_, now))) = (half, self.living.last()) else {
            return false;
        };
        let died = half.saturating_sub(*now) as f64;
        died <= (THINNED_SHARE * *now as f64).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost {
        ns_per_hit: 800.0,
        ns_per_record: 4_000.0,
    };

    const MS: u64 = 1_000_000;

    /// A program that makes so many pairs a second as long as it is not slowed down, one block in a thousand
    /// of which is never freed; the others live for `life_ns`.
    struct Program {
        probing: Probing,
        account: Account,
        now_ns: u64,
        hits: Hits,
        living: usize,
        orders: Vec<(u64, Order)>,
        /// Whether allocations, and frees, are trapped.
        trapped: (bool, bool),
        decay: f64,
        spent_ns: f64,
    }

    impl Program {
        fn new(limit: f64, life_ns: f64) -> Self {
            Self {
                probing: Probing::new(COST, limit, 0),
                account: Account::new(limit, 0),
                now_ns: 0,
                hits: Hits::default(),
                living: 0,
                orders: Vec::new(),
                trapped: (true, true),
                decay: (-(2.0 * MS as f64) / life_ns).exp(),
                spent_ns: 0.0,
            }
        }

        /// Lets it run with a look each 2 ms.
        fn run(&mut self, seconds: u64, pairs_per_second: f64) {
            for _ in 0..seconds * 500 {
                self.now_ns += 2 * MS;
                // Of 2 ms of a CPU, traps take what they need.
                let pair_ns = match self.trapped {
                    (true, _) => 3.0 * COST.ns_per_hit + COST.ns_per_record,
                    (false, true) => COST.ns_per_hit,
                    _ => 0.0,
                };
                let wanted = pairs_per_second * 0.002;
                let pairs = wanted.min(2.0 * MS as f64 / pair_ns.max(1.0));
                self.living = (self.living as f64 * self.decay).round() as usize;
                let hits_of_pair = match self.trapped {
                    (true, _) => 3.0,
                    (false, true) => 1.0,
                    _ => 0.0,
                };
                self.hits.hit_count += (pairs * hits_of_pair) as u64;
                if self.trapped.0 {
                    self.hits.sample_count += pairs as u64;
                    self.living += pairs as usize;
                }
                self.spent_ns += pairs * pair_ns;
                self.account.fill(self.now_ns);
                let order =
                    self.probing
                        .look(self.now_ns, self.hits, self.living, &mut self.account, true);
                self.trapped = match order {
                    Order::Keep | Order::Sample(_) => self.trapped,
                    Order::Open | Order::EndWindows | Order::Refill => (true, true),
                    Order::Close => (false, true),
                    Order::BeginWindows | Order::End => (false, false),
                };
                if order != Order::Keep {
                    self.orders.push((self.now_ns, order));
                }
            }
        }

        fn count(&self, order: Order) -> usize {
            self.orders.iter().filter(|(_, it)| *it == order).count()
        }
    }

    /// What fits is looked at all the time.
    #[test]
    fn a_quiet_process_is_never_left() {
        let mut program = Program::new(0.01, 1e6);
        program.run(60, 500.0);
        assert_eq!(program.orders, []);
    }

    /// One of Go's has no windows: it waits until the account holds enough, is sampled from then on, and goes on while
    /// others overdraw the account for a while, but not for ever. That its collections sweep the whole heap at once
    /// does not end it either.
    #[test]
    fn one_of_go_is_sampled_instead() {
        let mut account = Account::new(0.01, 0);
        let mut probing = Probing::new(COST, 0.01, 0);
        let mut hits = Hits::default();
        let mut look = |account: &mut Account, probing: &mut Probing, at_ms: u64, more: u64| {
            hits.hit_count += more;
            account.fill(at_ms * MS);
            probing.look(at_ms * MS, hits, 0, account, true)
        };
        let storm = look(&mut account, &mut probing, 100, 100_000);
        assert_eq!(storm, Order::BeginWindows);
        probing.take_refills();
        assert!(probing.is_out());
        assert_eq!(look(&mut account, &mut probing, 200, 0), Order::Keep);
        assert_eq!(look(&mut account, &mut probing, 10_000, 0), Order::Refill);
        assert!(!probing.is_out() && !probing.is_in_window());
        // 20 000 spans are swept within 20 ms, which takes 16 of them.
        let swept = look(&mut account, &mut probing, 10_020, 20_000);
        assert_eq!(swept, Order::Keep);
        account.charge(0.3e9);
        assert_eq!(look(&mut account, &mut probing, 11_000, 2_000), Order::Keep);
        account.charge(0.5e9);
        let overdrawn = look(&mut account, &mut probing, 12_000, 2_000);
        assert_eq!(overdrawn, Order::BeginWindows);
    }

    /// A million pairs a second are looked at in windows of milliseconds, again and again, and on the
    /// whole that costs what it may.
    #[test]
    fn a_storm_is_looked_at_in_windows() {
        let mut program = Program::new(0.01, 1e6);
        program.run(120, 1e6);
        assert_eq!(program.orders[0].1, Order::BeginWindows);
        assert!(program.orders[0].0 < 100 * MS, "{:?}", program.orders[0]);
        let windows = program.count(Order::End);
        assert!((10..60).contains(&windows), "{windows}");
        // What was saved before may be spent at once.
        let part = program.spent_ns / 120e9;
        assert!(part < 0.0112, "{part}");
        assert!(part > 0.005, "{part}");
        // Blocks that live for a millisecond are gone soon.
        let closed = program
            .orders
            .iter()
            .find(|it| it.1 == Order::Close)
            .unwrap();
        let ended = program.orders.iter().find(|it| it.1 == Order::End).unwrap();
        assert!(ended.0 - closed.0 <= 60 * MS, "{closed:?} {ended:?}");
    }

    /// One that is a storm no more is looked at all the time again.
    #[test]
    fn calm_ends_the_windows() {
        let mut program = Program::new(0.01, 1e6);
        program.run(30, 1e6);
        program.run(60, 100.0);
        assert_eq!(program.orders.last().unwrap().1, Order::EndWindows);
    }

    /// Of blocks that live for 20 seconds hardly any dies at once: that they do takes a longer look, where it is asked for.
    #[test]
    fn long_lives_are_followed_for_longer() {
        let mut program = Program::new(0.05, 20e9);
        let lengths = |program: &Program| {
            let orders = program.orders.iter().rev();
            let mut orders = orders.skip_while(|it| it.1 != Order::End);
            let ended = orders.next().unwrap().0;
            ended - orders.find(|it| it.1 == Order::Close).unwrap().0
        };
        program.run(60, 20_000.0);
        let before = lengths(&program);
        for _ in 0..3 {
            program.probing.follow_longer();
        }
        program.run(120, 20_000.0);
        assert!(lengths(&program) > before, "{before}");
        assert!(lengths(&program) >= FOLLOW_MIN_NS * 64);
    }
}
