//! Owns the stacks of new processes, which come before the unwind tables of what those map: they are kept until the tables
//! are there, and then walked for the blocks that are live.
//! Must not know how blocks are kept.

use std::{io, time::Duration};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use leaktrace_common::{
    event::StackEnd,
    limits::{EARLY_KEPT_BYTES, EARLY_PATIENCE_NS, EARLY_SLICE_BYTES, STACK_FRAMES_MAX},
    stack::identity,
    unwind::{Registers, Rule, outcome},
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Tracer, context::Context};
use crate::{
    decode::{EarlyStack, Event},
    host::{clock::Clock, maps::Mapping},
    ledger::{Ledger, Restack},
    source::Source,
    unwind::walk::{Walk, walk},
    unwinding::{Known, Unwinding},
};

/// Bytes of a return address.
const WORD_BYTES: usize = size_of::<u64>();

/// Walking pauses for so many times as long as it took: what waits for tables is tried each time, and the other ring must be
/// read.
const PAUSE_FACTOR: u64 = 7;

/// For so long a report waits for the tables that stacks are walked by.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// Stacks that are still to be walked.
pub struct Early {
    /// `None` where none are sent.
    source: Option<Source>,
    /// By their provisional id.
    kept: FxHashMap<u64, Box<EarlyStack>>,
    kept_bytes: usize,
    /// Those that wait for tables.
    waiting_count: usize,
    /// Until then none is walked.
    not_before_ns: u64,
    /// Stacks beyond what is kept.
    pub refused_count: u64,
}

impl Early {
    /// Reads from this ring, where there is one.
    pub fn new(ring: Option<RingBuf<MapData>>) -> anyhow::Result<Self> {
        let source = ring.map(Source::new).transpose();
        Ok(Self {
            source: source.context("failed to watch the ring of early stacks")?,
            kept: FxHashMap::default(),
            kept_bytes: 0,
            waiting_count: 0,
            not_before_ns: 0,
            refused_count: 0,
        })
    }

    /// Waits until the probes call; for ever, where they do not.
    pub async fn wait(&self) -> io::Result<()> {
        match &self.source {
            Some(source) => source.wait().await,
            None => std::future::pending().await,
        }
    }

    /// Records that could not be decoded.
    pub fn undecoded_count(&self) -> u64 {
        self.source.as_ref().map_or(0, |it| it.undecoded_count)
    }

    /// Takes in what was sent: before a block is looked at, since its stack is sent before.
    pub fn take(&mut self) {
        let Self {
            source,
            kept,
            kept_bytes,
            refused_count,
            ..
        } = self;
        let Some(source) = source else {
            return;
        };
        let mut keep = |event| {
            let Event::EarlyStack(mut stack) = event else {
                return;
            };
            if *kept_bytes > EARLY_KEPT_BYTES {
                *refused_count += 1;
                // The caller at least.
                stack.slice = stack.slice.get(..WORD_BYTES).unwrap_or_default().into();
                if *kept_bytes > 2 * EARLY_KEPT_BYTES {
                    return;
                }
            }
            *kept_bytes += bytes_of(&stack);
            if let Some(former) = kept.insert(stack.id, stack) {
                *kept_bytes -= bytes_of(&former);
            }
        };
        while source.drain(&mut keep).is_some() {}
    }

    /// Has the stacks walked of a process that had this pid, as far as they can be now: it is about to be another's.
    pub(super) fn walk_last(
        &mut self,
        ledger: &mut Ledger,
        context: &mut Context,
        unwinding: &mut Unwinding,
        tgid: u32,
    ) {
        if self.source.is_none() || ledger.key(tgid).is_none() {
            return;
        }
        self.take();
        ledger.restack_last(tgid, |id| match self.kept.get(&id) {
            Some(stack) => walk_one(context, unwinding, tgid, stack, true),
            None => Restack::To(0),
        });
    }

    /// Drops all but these.
    fn retain(&mut self, is_needed: impl Fn(&EarlyStack) -> bool) {
        let kept_bytes = &mut self.kept_bytes;
        self.kept.retain(|_, stack| {
            let is_needed = is_needed(stack);
            if !is_needed {
                *kept_bytes -= bytes_of(stack);
            }
            is_needed
        });
    }
}

fn bytes_of(stack: &EarlyStack) -> usize {
    size_of::<EarlyStack>() + stack.slice.len()
}

impl Tracer {
    /// Walks the stacks of live blocks whose tables are there by now. Where every record up to a time was taken in, stacks
    /// of before it that no block waits for are dropped.
    pub(super) fn walk_early(&mut self, until_ns: Option<u64>) {
        let begin_ns = Clock::now_boot_ns();
        if begin_ns >= self.early.not_before_ns {
            self.walk_kept(until_ns, EARLY_PATIENCE_NS);
            let end_ns = Clock::now_boot_ns();
            let pause_ns = (end_ns - begin_ns).saturating_mul(PAUSE_FACTOR);
            self.early.not_before_ns = end_ns + pause_ns;
        }
    }

    /// The same, waiting no longer than so long for tables.
    fn walk_kept(&mut self, until_ns: Option<u64>, patience_ns: u64) {
        if self.early.source.is_none() {
            return;
        }
        let Self {
            early,
            ledger,
            context,
            unwinding,
            ..
        } = self;
        let now_ns = Clock::now_boot_ns();
        let mut waited_for = FxHashSet::default();
        // A child has its parent's blocks, and so the same stack twice.
        let mut walked = FxHashMap::default();
        ledger.restack(|tgid, id| {
            let Some(stack) = early.kept.get(&id) else {
                return Restack::To(0);
            };
            let known = *walked.entry(id).or_insert_with(|| {
                let is_late = now_ns.saturating_sub(stack.time_ns) >= patience_ns;
                walk_one(context, unwinding, tgid, stack, is_late)
            });
            if known == Restack::Later {
                waited_for.insert(id);
            }
            known
        });
        early.waiting_count = waited_for.len();
        if let Some(until_ns) = until_ns {
            early.retain(|it| it.time_ns >= until_ns || waited_for.contains(&it.id));
        }
    }

    /// Has stacks walked before a report, which waits a while for the tables that are being made: what is not there then
    /// is cut, for it must be said of each block where it was made.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write its maps.
    pub(super) fn settle_early(&mut self) -> anyhow::Result<()> {
        self.walk_kept(None, EARLY_PATIENCE_NS);
        if self.early.waiting_count > 0 {
            let waited = self.unwinding.settle(&mut self.probes, REPORT_PATIENCE)?;
            self.publish(waited)?;
            self.walk_kept(None, 0);
        }
        Ok(())
    }
}

/// The id of a stack once it is walked, which then is known under it.
fn walk_one(
    context: &mut Context,
    unwinding: &mut Unwinding,
    tgid: u32,
    stack: &EarlyStack,
    is_late: bool,
) -> Restack {
    let mut is_missing = false;
    let Walk { frames, outcome } = walk_slice(stack, |pc| {
        match rule(context, unwinding, (tgid, stack.tgid), pc) {
            Known::Rule(rule) => rule,
            Known::Later => {
                is_missing = true;
                Rule::BAD
            }
        }
    });
    if is_missing && !is_late {
        return Restack::Later;
    }
    // The first is the allocator's own.
    let frames = frames.get(1..).unwrap_or_default();
    if frames.is_empty() {
        return Restack::To(0);
    }
    let end = match outcome {
        _ if is_missing => StackEnd::NoTables,
        outcome::CONTINUE => StackEnd::TooDeep,
        outcome::ROOT => StackEnd::Root,
        outcome::BAD_RULE => StackEnd::BadRule,
        outcome::NO_FRAME_POINTER => StackEnd::NoFramePointer,
        // Beyond what was sent or kept, or it ends there.
        _ if [WORD_BYTES, EARLY_SLICE_BYTES].contains(&stack.slice.len()) => StackEnd::NoTables,
        _ => StackEnd::Unreadable,
    };
    let mut all = [0; STACK_FRAMES_MAX];
    all[..frames.len()].copy_from_slice(frames);
    // As the probes number it, so that it is the same site as of those that they walk.
    let (id, _) = identity(&all, frames.len(), stack.tgid, stack.image);
    if context.stacks.get(id).is_none() {
        context.resolve(tgid, id, frames, end, stack.time_ns);
    }
    Restack::To(id)
}

/// Walks from the allocator's entry, whose own frame needs no table: its return address is on top of the stack.
fn walk_slice(stack: &EarlyStack, mut lookup: impl FnMut(u64) -> Rule) -> Walk {
    let read = |address: u64| {
        let at = usize::try_from(address.checked_sub(stack.stack_pointer)?).ok()?;
        let word = stack.slice.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*word))
    };
    let registers = Registers {
        rip: 0,
        rsp: stack.stack_pointer,
        rbp: stack.frame_pointer,
    };
    let mut is_first = true;
    let lookup = |pc| match std::mem::take(&mut is_first) {
        true => Rule::ENTRY,
        false => lookup(pc),
    };
    walk(registers, 1 + STACK_FRAMES_MAX, lookup, read)
}

fn rule(
    context: &mut Context,
    unwinding: &mut Unwinding,
    (tgid, sender): (u32, u32),
    pc: u64,
) -> Known {
    // A child has its parent's mappings, which may be known before its own.
    let mut spaces = [tgid, sender].into_iter();
    let mapping = spaces.find_map(|it| context.spaces.get(it)?.lookup(pc));
    let Some(mapping) = mapping else {
        return Known::Later;
    };
    let has_code = |it: &Mapping| it.is_file() || it.is_vdso();
    if !has_code(mapping) {
        return Known::Rule(Rule::NONE);
    }
    let module = context.modules.resolve(tgid, mapping);
    let offset = mapping.file_offset_of(pc);
    unwinding.known(context.modules.get(module), offset)
}
