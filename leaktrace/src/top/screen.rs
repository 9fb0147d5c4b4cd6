//! Owns the live screen: which rows it has, in which order, and what a key does to it.
//! Must not know the tracer, the terminal or clocks: reports and keys come in as values.

use std::{cmp::Ordering, collections::HashMap};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::report::model::{Process, ProcessIdentity, Report, Site};

/// What a row stands for: a process, or one site of it.
pub type Key = (ProcessIdentity, Option<u64>);

/// What the session has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Draw again.
    Draw,
    /// Write the report that is shown to a file.
    Save,
    /// End.
    Quit,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// All processes.
    Processes,
    /// The sites of one.
    Sites(ProcessIdentity),
    /// The stack of one site.
    Stack(ProcessIdentity, u64),
}

/// What rows are sorted by, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Growth, or the change of live bytes where no growth is known.
    Growth,
    /// Long-lived bytes.
    LongLived,
    /// Live bytes.
    Live,
    /// Bytes allocated since the trace began.
    Allocated,
}

impl Order {
    /// Its word on the screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Growth => "growth",
            Self::LongLived => "long-lived",
            Self::Live => "live",
            Self::Allocated => "allocated",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Growth => Self::LongLived,
            Self::LongLived => Self::Live,
            Self::Live => Self::Allocated,
            Self::Allocated => Self::Growth,
        }
    }
}

/// The screen's state between keys and reports.
#[derive(Debug)]
pub struct Screen {
    /// What is shown.
    pub report: Report,
    /// What is looked at.
    pub page: Page,
    /// What rows are sorted by.
    pub order: Order,
    /// Whether new reports are left out of sight.
    pub is_paused: bool,
    /// What the last action came to.
    pub message: String,
    /// First line of a stack that is shown.
    pub scroll: u16,
    selected: Option<Key>,
    /// Live bytes a second between the last two reports that were shown.
    changes: HashMap<Key, f64>,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            report: Report::default(),
            page: Page::Processes,
            order: Order::Growth,
            is_paused: false,
            message: String::new(),
            scroll: 0,
            selected: None,
            changes: HashMap::new(),
        }
    }
}

impl Screen {
    /// Shows a new report, unless the screen is paused.
    pub fn update(&mut self, report: Report) {
        if self.is_paused {
            return;
        }
        let seconds = report.elapsed.saturating_sub(self.report.elapsed);
        let before = live_bytes(&self.report);
        self.changes.clear();
        if !seconds.is_zero() {
            for (key, now) in live_bytes(&report) {
                // Who was not listed before has no change yet: it may have been below the others.
                if let Some(then) = before.get(&key) {
                    let change = (now as f64 - *then as f64) / seconds.as_secs_f64();
                    self.changes.insert(key, change);
                }
            }
        }
        self.report = report;
    }

    /// The growth that the report tells, or else the change since the report before.
    pub fn growth(&self, key: Key, told: Option<f64>) -> Option<f64> {
        told.or_else(|| self.changes.get(&key).copied())
    }

    /// All processes in order.
    pub fn processes(&self) -> Vec<&Process> {
        let mut rows: Vec<&Process> = self.report.processes.iter().collect();
        rows.sort_by(|a, b| {
            let value = |p: &Process| {
                let growth = self.growth((p.identity, None), p.growth_bytes_per_second);
                self.rank(growth, &p.counts)
            };
            descending(value(a), value(b)).then(a.identity.cmp(&b.identity))
        });
        rows
    }

    /// The sites of a process in order.
    pub fn sites(&self, identity: ProcessIdentity) -> Vec<&Site> {
        let mut rows: Vec<&Site> = self
            .process(identity)
            .map(|process| process.sites.iter().collect())
            .unwrap_or_default();
        rows.sort_by(|a, b| {
            let value = |s: &Site| {
                let growth = self.growth((identity, Some(s.id)), s.growth_bytes_per_second);
                self.rank(growth, &s.counts)
            };
            descending(value(a), value(b)).then(a.id.cmp(&b.id))
        });
        rows
    }

    /// A process of the report that is shown.
    pub fn process(&self, identity: ProcessIdentity) -> Option<&Process> {
        let mut all = self.report.processes.iter();
        all.find(|process| process.identity == identity)
    }

    /// The selected row. It follows what it stands for when the order changes.
    pub fn selected_index(&self) -> usize {
        let found = self.keys().iter().position(|k| Some(*k) == self.selected);
        found.unwrap_or(0)
    }

    /// Does what a key asks for.
    pub fn key(&mut self, key: KeyEvent) -> Action {
        self.message.clear();
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Action::Quit;
            }
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('w') => return Action::Save,
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Enter | KeyCode::Right => self.enter(),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.leave(),
            _ => {}
        }
        Action::Draw
    }

    fn rank(&self, growth: Option<f64>, counts: &crate::report::model::Counts) -> (f64, u64) {
        let first = match self.order {
            Order::Growth => growth.unwrap_or(0.0),
            Order::LongLived => counts.long_lived_bytes as f64,
            Order::Live => counts.live_bytes as f64,
            Order::Allocated => counts.allocated_bytes as f64,
        };
        (first, counts.live_bytes)
    }

    fn keys(&self) -> Vec<Key> {
        match self.page {
            Page::Processes => {
                let rows = self.processes().into_iter();
                rows.map(|process| (process.identity, None)).collect()
            }
            Page::Sites(identity) => {
                let rows = self.sites(identity).into_iter();
                rows.map(|site| (identity, Some(site.id))).collect()
            }
            Page::Stack(..) => Vec::new(),
        }
    }

    fn step(&mut self, by: i16) {
        if let Page::Stack(identity, id) = self.page {
            let frames = self
                .sites(identity)
                .iter()
                .find(|site| site.id == id)
                .map_or(0, |site| site.stack.len());
            let last = u16::try_from(frames.saturating_sub(1)).unwrap_or(u16::MAX);
            self.scroll = self.scroll.saturating_add_signed(by).min(last);
            return;
        }
        let keys = self.keys();
        let index = self.selected_index().saturating_add_signed(by.into());
        self.selected = keys.get(index.min(keys.len().saturating_sub(1))).copied();
    }

    fn enter(&mut self) {
        let Some(key) = self.keys().get(self.selected_index()).copied() else {
            return;
        };
        self.scroll = 0;
        self.page = match key {
            (identity, None) => Page::Sites(identity),
            (identity, Some(id)) => Page::Stack(identity, id),
        };
    }

    fn leave(&mut self) {
        (self.page, self.selected) = match self.page {
            Page::Processes => return,
            Page::Sites(identity) => (Page::Processes, Some((identity, None))),
            Page::Stack(identity, id) => (Page::Sites(identity), Some((identity, Some(id)))),
        };
    }
}

fn descending(a: (f64, u64), b: (f64, u64)) -> Ordering {
    b.0.total_cmp(&a.0).then(b.1.cmp(&a.1))
}

fn live_bytes(report: &Report) -> HashMap<Key, u64> {
    let mut found = HashMap::new();
    for process in &report.processes {
        found.insert((process.identity, None), process.counts.live_bytes);
        for site in &process.sites {
            found.insert((process.identity, Some(site.id)), site.counts.live_bytes);
        }
    }
    found
}
