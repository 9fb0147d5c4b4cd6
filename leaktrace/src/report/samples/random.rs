//! Owns reports without rhyme or reason, from a generator that repeats itself.
//! Must not know what a sink makes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::report::model::*;

/// A generator of numbers (xorshift64*): the same ones in every run.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }

    /// Small, large or the extreme.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(100),
            1 => self.below(1 << 50),
            2 => 0,
            _ => u64::MAX - self.below(2),
        }
    }

    fn float(&mut self) -> f64 {
        match self.below(6) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -(self.below(1 << 40) as f64) / 7.0,
            3 => f64::MIN_POSITIVE,
            4 => f64::MAX,
            _ => self.below(1000) as f64,
        }
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn list<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let len = if self.below(3) == 0 {
            self.below(most)
        } else {
            self.below(4)
        };
        (0..len).map(|_| make(self)).collect()
    }

    /// Mostly short, at times 20 KiB; all that breaks terminals and JSON.
    fn text(&mut self) -> String {
        const CHARS: [char; 24] = [
            'a',
            'b',
            ' ',
            ' ',
            '/',
            ':',
            '<',
            '"',
            '\\',
            '\n',
            '\t',
            '\0',
            '\x1b',
            '\x7f',
            '\u{9b}',
            'ß',
            '内',
            '🦀',
            '\u{301}',
            '\u{200d}',
            '\u{fe0f}',
            '\u{202e}',
            '\u{e0041}',
            '❤',
        ];
        let len = match self.below(12) {
            0 => self.below(20_000),
            1 => self.below(700),
            _ => self.below(30),
        };
        // Some texts are of one character alone, the worst case for its kind.
        let only = self.maybe(|r| CHARS[r.below(24) as usize]);
        (0..len)
            .map(|_| only.unwrap_or_else(|| CHARS[self.below(24) as usize]))
            .collect()
    }

    fn map<V>(&mut self, mut make: impl FnMut(&mut Self) -> V) -> BTreeMap<&'static str, V> {
        const NAMES: [&str; 5] = [
            "allocations_lost",
            "frees_lost",
            "odd",
            "",
            "\"\x1b\u{202e}",
        ];
        let names = self.list(5, |r| NAMES[r.below(5) as usize]);
        names.into_iter().map(|name| (name, make(self))).collect()
    }

    fn counts(&mut self) -> Counts {
        Counts {
            live_bytes: self.number(),
            live_count: self.number(),
            long_lived_bytes: self.number(),
            long_lived_count: self.number(),
            allocated_bytes: self.number(),
            allocated_count: self.number(),
            freed_bytes: self.number(),
            freed_count: self.number(),
        }
    }

    fn windows(&mut self) -> Windows {
        Windows {
            count: self.number(),
            recorded: Duration::from_millis(self.below(1 << 40)),
            followed: Duration::from_millis(self.below(1 << 40)),
        }
    }

    fn verdict(&mut self) -> Verdict {
        let all = [
            Verdict::Growing,
            Verdict::Saturating,
            Verdict::Stable,
            Verdict::Young,
        ];
        all[self.below(4) as usize]
    }

    fn frame(&mut self) -> Frame {
        Frame {
            function: self.maybe(Self::text),
            file: self.maybe(Self::text),
            line: self.maybe(|r| r.number() as u32),
            module: self.maybe(Self::text),
            build_id: self.maybe(Self::text),
            address: self.number(),
            inlined: self.below(2) == 0,
            unresolved: self.maybe(Self::text),
        }
    }

    fn site(&mut self) -> Site {
        Site {
            id: self.number(),
            allocator: self.text(),
            counts: self.counts(),
            collected: None,
            oldest_age: Duration::from_millis(self.number()),
            age_histogram: self.list(60, |r| AgeBucket {
                below_seconds: r.maybe(Self::number),
                count: r.number(),
                bytes: r.number(),
            }),
            verdict: self.verdict(),
            growth_bytes_per_second: self.maybe(Self::float),
            evidence: self.map(Self::float),
            course: self.maybe(|r| Course {
                seconds: r.list(300, Self::float),
                bytes: r.list(300, Self::number),
            }),
            stack: self.list(200, Self::frame),
            stack_truncated: self.maybe(Self::text),
        }
    }

    fn goroutines(&mut self) -> Goroutines {
        Goroutines {
            count: self.number(),
            blocked_count: self.number(),
            states: self.map(Self::number),
            unread_count: self.number(),
            created: self.list(12, |r| CreatedGoroutines {
                count: r.number(),
                blocked_count: r.number(),
                created_by: r.maybe(Self::frame),
                function: r.maybe(Self::text),
            }),
            blocked: self.list(12, |r| BlockedGoroutines {
                count: r.number(),
                blocked_count: r.number(),
                state: r.text(),
                wait_reason: r.maybe(Self::text),
                age: Duration::from_millis(r.number()),
                created_by: r.maybe(Self::frame),
                stack: r.list(8, Self::frame),
            }),
            unavailable: self.maybe(Self::text),
        }
    }

    fn allocator(&mut self) -> Allocator {
        Allocator {
            name: self.text(),
            path: self.text(),
            entry_points: self.list(200, Self::text),
            not_covered: self.list(100, |r| NotCovered {
                name: r.text(),
                reason: r.text(),
            }),
        }
    }

    fn process(&mut self) -> Process {
        let coverages = [Coverage::Full, Coverage::Partial, Coverage::None];
        let kinds = [
            AccuracyKind::Exact,
            AccuracyKind::Sampled,
            AccuracyKind::Lossy,
        ];
        Process {
            identity: ProcessIdentity {
                pid: self.number() as u32,
                start_time_unix_ns: self.number(),
            },
            executable: Executable {
                name: self.text(),
                path: self.text(),
                build_id: self.maybe(Self::text),
            },
            command_line: self.text(),
            owner: self.text(),
            container: self.maybe(|r| Container {
                id: r.text(),
                name: r.maybe(Self::text),
                runtime: r.maybe(Self::text),
            }),
            k8s: self.maybe(|r| K8s {
                namespace: r.maybe(Self::text),
                pod: r.maybe(Self::text),
                uid: r.maybe(Self::text),
                labels: BTreeMap::from([(r.text(), r.text()), (r.text(), r.text())]),
                container: r.maybe(Self::text),
                node: r.maybe(Self::text),
            }),
            go: None,
            goroutines: self.maybe(Self::goroutines),
            runtime: if self.below(2) == 0 {
                Runtime::Native
            } else {
                Runtime::Go
            },
            allocators: self.list(20, Self::allocator),
            coverage: coverages[self.below(3) as usize],
            coverage_reason: self.maybe(Self::text),
            accuracy: Accuracy {
                kind: kinds[self.below(3) as usize],
                sample_bytes: self.number(),
                live_bytes_error: self.maybe(Self::number),
                windows: self.maybe(Self::windows),
                lost: self.map(Self::number),
            },
            rss_bytes: self.maybe(Self::number),
            counts: self.maybe(Self::counts).unwrap_or_default(),
            freed_untraced_count: self.number(),
            verdict: self.verdict(),
            growth_bytes_per_second: self.maybe(Self::float),
            overhead: Overhead {
                hits_per_second: self.float(),
                ns_per_hit: self.maybe(Self::float),
            },
            exited: self.maybe(|r| Exited {
                time_unix_ns: r.number(),
            }),
            sites: self.list(6, Self::site),
            site_count: self.number(),
            suppressed: self.list(9, |r| Suppressed {
                pattern: r.text(),
                site_count: r.number(),
                live_bytes: r.number(),
                live_count: r.number(),
            }),
        }
    }

    /// A report without rhyme or reason.
    pub fn report(&mut self) -> Report {
        Report {
            cgroups: Vec::new(),
            number: self.number() as u32,
            time_unix_ns: self.number(),
            elapsed: Duration::from_millis(self.number()),
            min_age: Duration::from_millis(self.number()),
            processes: self.list(4, Self::process),
            quiet_process_count: self.number(),
            lost: self.map(Self::number),
        }
    }

    /// A host that is as odd.
    pub fn host(&mut self) -> Host {
        Host {
            name: self.text(),
            id: self.text(),
        }
    }

    /// A first line that is as odd.
    pub fn start(&mut self) -> Start {
        Start {
            time_unix_ns: self.number(),
            version: self.text(),
            kernel: self.text(),
            mode: self.text(),
            options: self.map(Self::text),
        }
    }

    /// A last line that is as odd.
    pub fn end(&mut self) -> End {
        End {
            time_unix_ns: self.number(),
            elapsed: Duration::from_millis(self.number()),
            reports: self.number() as u32,
            processes: self.number(),
            events: self.number(),
            lost: self.map(Self::number),
            reason: self.text(),
        }
    }
}
