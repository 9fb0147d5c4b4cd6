//! Owns the questions which functions there are of a kind, and which were put into others by the compiler.
//! Must not know why that is asked.

use rustc_hash::FxHashSet;

use super::{
    super::RUNTIME, FUNCDATA_INLINE_TREE, Function, INLINED_CALL_BYTES, PCDATA_INLINE_INDEX,
    PcTable,
};

/// As many steps and calls as are looked at of all functions. The largest programs have some millions, but many functions
/// may share what a hostile one has once.
const STEPS_IN_ALL_MAX: usize = 1 << 26;

impl PcTable<'_> {
    /// The functions whose names begin so, in the order of their addresses. Of a large program's, to read each name
    /// to its end takes many times as long.
    pub fn functions_of<'t>(&'t self, prefix: &'t str) -> impl Iterator<Item = Function<'t>> {
        let indices = (0..self.meta.nfunc).filter(move |index| self.begins(*index, prefix));
        indices.filter_map(|index| self.function(index))
    }

    /// Whether a function's name begins so.
    fn begins(&self, index: usize, prefix: &str) -> bool {
        // A record begins with the function's entry, and its name's place follows.
        let name = self
            .word(self.meta.functab_offset + index * 8 + 4)
            .and_then(|record| self.word(self.meta.functab_offset + record as usize + 4))
            .and_then(|name| self.table.get(self.meta.funcname_offset + name as usize..));
        name.is_some_and(|name| name.starts_with(prefix.as_bytes()))
    }

    /// The functions of the runtime of these names that the compiler has put into others, each with the name of
    /// the other.
    pub fn inlined_functions<'t>(
        &'t self,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&'t str, &'t str)> {
        let records = || (0..self.meta.nfunc).filter_map(|index| self.record(index));
        let of_runtime = (0..self.meta.nfunc).filter(|index| self.begins(*index, RUNTIME));
        let of_runtime = of_runtime.filter_map(|index| self.record(index));
        let named = of_runtime.filter_map(|record| {
            let name = self.text(self.meta.funcname_offset, record.name_off);
            is_wanted(name).then_some(record.name_off)
        });
        // A name is stored once, so that its place tells it as well.
        let wanted: FxHashSet<i32> = named.collect();
        let mut left = STEPS_IN_ALL_MAX;
        let inlined = records().filter_map(move |record| {
            let tree = self.view().funcdata_at(&record, FUNCDATA_INLINE_TREE)?;
            let indices = self.view().pcdata_at(&record, PCDATA_INLINE_INDEX)?;
            let highest = self.highest(indices, &mut left)?;
            let count = usize::try_from(highest.checked_add(1)?).ok()?;
            left = left.checked_sub(count)?;
            let at = usize::try_from(tree).ok()?;
            let end = at.checked_add(count.checked_mul(INLINED_CALL_BYTES)?)?;
            let calls = self.trees.get(at..end)?.as_chunks::<INLINED_CALL_BYTES>().0;
            let name = |call: &[u8; INLINED_CALL_BYTES]| {
                i32::from_le_bytes(call[4..8].try_into().expect("four bytes"))
            };
            let mut inlined: Vec<i32> = calls.iter().map(name).collect();
            inlined.retain(|name| wanted.contains(name));
            Some((inlined, record.name_off))
        });
        inlined.flat_map(|(inlined, into)| {
            let text = |name| self.text(self.meta.funcname_offset, name);
            inlined
                .into_iter()
                .map(move |name| (text(name), text(into)))
        })
    }

    /// The highest value that a table of steps has anywhere, where that may still be asked.
    fn highest(&self, table: u32, left: &mut usize) -> Option<i32> {
        let mut highest = None;
        for (value, _) in self.steps(table) {
            *left = left.checked_sub(1)?;
            highest = highest.max(Some(value));
        }
        highest
    }
}
