//! Owns the links of the probes of native allocators.
//! Must not know how their places were chosen.

use std::{collections::BTreeMap, fs::File};

use aya::programs::uprobe::UProbeAttachPoint;
use leaktrace_common::cookie::{Cookie, Shape};

use super::{Attached, Probes, Scope, links::Points};
use crate::allocators::{Allocator, ChosenProbe, Outcome};

/// Which programs stand at a file's points.
#[derive(Clone, Copy, Debug)]
struct Programs {
    enter: &'static str,
    exit: &'static str,
    ret: &'static str,
}

/// One link for all points of a file.
const NATIVE_MULTI: Programs = Programs {
    enter: "native_enter_multi",
    exit: "native_exit_multi",
    ret: "native_return_multi",
};

/// One link for each point.
const NATIVE: Programs = Programs {
    enter: "native_enter",
    exit: "native_exit",
    ret: "native_return",
};

/// They do nothing.
const EMPTY_MULTI: Programs = Programs {
    enter: "empty_enter_multi",
    exit: "empty_exit_multi",
    ret: "empty_enter_multi",
};

/// A function to probe at its entry, and at its return.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Where in the file.
    pub file_offset: u64,
    /// What the probe is told.
    pub cookie: Cookie,
    /// Whether its return is probed too.
    pub returns: bool,
}

impl Probes {
    /// Hands the programs of native allocators to the kernel.
    pub(super) fn load_native(&mut self) -> anyhow::Result<()> {
        self.load_all(self.native())
    }

    /// Puts a file's probes in place. Returns are attached before entries: a call whose entry is seen
    /// has its return seen too.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing of this file is attached then.
    pub fn attach(
        &mut self,
        file: &File,
        allocators: &[Allocator],
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        self.attach_programs(self.native(), file, allocators, scope)
    }

    /// Puts programs that do nothing where `attach` would put the real ones: the least that any
    /// tracer with these probes can cost.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or lacks `uprobe_multi`.
    pub fn attach_empty(
        &mut self,
        file: &File,
        allocators: &[Allocator],
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        anyhow::ensure!(
            self.is_multi,
            "the empty programs need uprobe_multi: Linux 6.6 or later"
        );
        self.load_all(EMPTY_MULTI)?;
        self.attach_programs(EMPTY_MULTI, file, allocators, scope)
    }

    /// Puts the real programs at these places of a file.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing is attached then.
    pub fn attach_at(
        &mut self,
        file: &File,
        places: &[Place],
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let programs = self.native();
        let point = |place: &Place| point(place.cookie, place.file_offset);
        let exits = places.iter().filter(|it| it.returns).map(point).collect();
        let enters = places.iter().map(point).collect();
        let points = [
            Points::of_beginnings(programs.exit, exits),
            Points::of_ends(programs.enter, enters),
        ];
        self.attach_in_order(file, &points, scope)
    }

    fn attach_programs(
        &mut self,
        programs: Programs,
        file: &File,
        allocators: &[Allocator],
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let probes = || allocators.iter().flat_map(|allocator| &allocator.probes);
        let entry = |it: &ChosenProbe| point(it.cookie(), it.file_offset);
        let exits = probes().filter(|it| it.outcome == Outcome::Return);
        let (ends, begins): (Vec<_>, Vec<_>) = probes().partition(|it| ends_block(it));
        let enters = |probes: Vec<&ChosenProbe>| probes.into_iter().map(entry).collect();
        let points = [
            Points::of_beginnings(programs.exit, exits.map(entry).collect()),
            Points::of_beginnings(programs.ret, return_points(probes())),
            Points::of_ends(programs.enter, enters(ends)),
            Points::of_beginnings(programs.enter, enters(begins)),
        ];
        self.attach_in_order(file, &points, scope)
    }

    fn load_all(&mut self, programs: Programs) -> anyhow::Result<()> {
        let names = [programs.enter, programs.exit, programs.ret];
        names
            .into_iter()
            .try_for_each(|name| self.load_uprobe(name))
    }

    fn native(&self) -> Programs {
        if self.is_multi { NATIVE_MULTI } else { NATIVE }
    }
}

/// Whether a call may end a block: one that resizes does.
fn ends_block(probe: &ChosenProbe) -> bool {
    let shape = probe.cookie().shape();
    shape == Shape::Free as u8
        || shape == Shape::Resize as u8
        || shape == Shape::ResizeOrFree as u8
        || shape == Shape::ResizeInPlace as u8
}

/// Where a probe goes, and what it is told.
fn point(cookie: Cookie, file_offset: u64) -> UProbeAttachPoint<'static> {
    UProbeAttachPoint {
        location: file_offset.into(),
        cookie: Some(cookie.0),
    }
}

/// The instructions at which functions return whose result is had there, each once: several
/// functions may end in the same code.
fn return_points<'p>(
    probes: impl Iterator<Item = &'p ChosenProbe>,
) -> Vec<UProbeAttachPoint<'static>> {
    let mut points = BTreeMap::new();
    for probe in probes {
        if let Outcome::Instructions(offsets) = &probe.outcome {
            points.extend(offsets.iter().map(|offset| (*offset, probe)));
        }
    }
    let points = points.into_iter();
    let point = |(offset, probe): (u64, &ChosenProbe)| point(probe.cookie(), offset);
    points.map(point).collect()
}
