//! Owns the agent's writing of unwind rules, rows and code to the probes.
//! Must not know where they come from.

use anyhow::Context as _;
use aya::{
    maps::{Array, HashMap, Map, MapData},
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use leaktrace_common::{
    code::{CodeRef, CodeSpace},
    limits::ROWS_PER_SHARD,
    unwind::Rule,
};

use super::Probes;

impl Probes {
    /// Writes a rule. Ids are never reused.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write the map.
    pub fn write_rule(&mut self, id: u32, rule: Rule) -> anyhow::Result<()> {
        let mut rules: Array<&mut MapData, Rule> = Array::try_from(self.map("RULES")?)?;
        Ok(rules.set(id, &rule, 0)?)
    }

    /// Writes the rows of a shard from its beginning; both are equally long and no longer than it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write the maps.
    pub fn write_rows(
        &mut self,
        shard: u32,
        addresses: &[u32],
        rules: &[u16],
    ) -> anyhow::Result<()> {
        let whole = boxed(rules);
        let mut map: Array<&mut MapData, [u16; ROWS_PER_SHARD]> =
            Array::try_from(self.map("ROW_RULES")?)?;
        map.set(shard, &*whole, 0)?;
        let whole = boxed(addresses);
        let mut map: Array<&mut MapData, [u32; ROWS_PER_SHARD]> =
            Array::try_from(self.map("ROW_ADDRESSES")?)?;
        Ok(map.set(shard, &*whole, 0)?)
    }

    /// Writes a space of code that no process refers to.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write the map.
    pub fn write_code(&mut self, number: u32, space: &CodeSpace) -> anyhow::Result<()> {
        let mut spaces: Array<&mut MapData, CodeSpace> = Array::try_from(self.map("CODE_SPACES")?)?;
        Ok(spaces.set(number, space, 0)?)
    }

    /// Tells which code a process has.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to write the map.
    pub fn refer_code(&mut self, tgid: u32, code: CodeRef) -> anyhow::Result<()> {
        let mut refs: HashMap<&mut MapData, u32, CodeRef> =
            HashMap::try_from(self.map("CODE_REFS")?)?;
        Ok(refs.insert(&tgid, &code, 0)?)
    }

    fn map(&mut self, name: &str) -> anyhow::Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("the object has no {name}"))
    }
}

/// Whether the kernel has `bpf_loop`. Where it cannot be told, it is tried.
pub(super) fn has_loop() -> bool {
    // Tests of how it goes without, on a kernel that has it.
    let is_hidden = std::env::var_os("LEAKTRACE_WITHOUT_BPF_LOOP").is_some();
    !is_hidden && is_helper_supported(ProgramType::KProbe, BpfHelper::BPF_FUNC_loop).unwrap_or(true)
}

/// The rows as the map's value is, filled up with zeros, never on the stack.
fn boxed<T: Copy + Default>(rows: &[T]) -> Box<[T; ROWS_PER_SHARD]> {
    let mut whole = vec![T::default(); ROWS_PER_SHARD].into_boxed_slice();
    let count = rows.len().min(ROWS_PER_SHARD);
    whole[..count].copy_from_slice(&rows[..count]);
    whole
        .try_into()
        .unwrap_or_else(|_| unreachable!("the length is that of the array"))
}
