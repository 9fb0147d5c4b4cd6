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

    pub(super) fn map(&mut self, name: &str) -> anyhow::Result<&mut Map> {
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
