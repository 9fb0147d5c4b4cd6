//! Owns what probes may cost the host: an account that time fills and hits empty.
//! Must not know whose hits they are, or what time it is.

/// As much as this many seconds bring can be saved: after calm, a process is looked at at once.
const SAVED_SECONDS_MAX: f64 = 5.0;

/// Beyond what so many seconds bring, what goes on all the time must stop.
const OVERDRAFT_SECONDS: f64 = 0.5;

/// CPU time that may be spent.
#[derive(Clone, Debug)]
pub struct Account {
    /// The part of one CPU.
    limit: f64,
    balance_ns: f64,
    last_ns: u64,
}

impl Account {
    /// A full one.
    #[must_use]
    pub fn new(limit: f64, now_ns: u64) -> Self {
        Self {
            limit,
            balance_ns: limit * SAVED_SECONDS_MAX * 1e9,
            last_ns: now_ns,
        }
    }

    /// The part of one CPU that fills it.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Lets time fill it.
    pub fn fill(&mut self, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.last_ns) as f64;
        let full_ns = self.limit * SAVED_SECONDS_MAX * 1e9;
        self.balance_ns = (self.balance_ns + self.limit * passed_ns).min(full_ns);
        self.last_ns = now_ns;
    }

    /// So much was spent.
    pub fn charge(&mut self, spent_ns: f64) {
        self.balance_ns -= spent_ns;
    }

    /// Whether it holds as much as so many seconds bring.
    #[must_use]
    pub fn holds_seconds(&self, seconds: f64) -> bool {
        self.balance_ns >= self.limit * seconds * 1e9
    }

    /// Whether what goes on all the time must stop.
    #[must_use]
    pub fn is_overdrawn(&self) -> bool {
        !self.holds_seconds(-OVERDRAFT_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is spent comes back with time, and no more is saved than some seconds bring.
    #[test]
    fn time_fills_it() {
        let mut account = Account::new(0.01, 0);
        assert!(account.holds_seconds(5.0) && !account.holds_seconds(5.1));
        // A tenth of a second of a CPU is what ten seconds bring.
        account.charge(100e6);
        assert!(account.is_overdrawn());
        account.fill(4_600_000_000);
        assert!(!account.is_overdrawn() && !account.holds_seconds(0.0));
        account.fill(9_000_000_000);
        assert!(account.holds_seconds(3.9) && !account.holds_seconds(4.1));
        account.fill(1 << 50);
        assert!(!account.holds_seconds(5.1));
    }
}
