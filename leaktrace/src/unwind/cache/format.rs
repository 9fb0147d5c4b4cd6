//! Owns the bytes of one table on disk.
//! Must not know files or directories.
//!
//! Little endian, without padding: magic, version, number of rules, number of rows, checksum; then
//! the rules, where rows begin, and which rule each has. Rules are written out, since their
//! numbers change from run to run.

use std::hash::Hasher as _;

use leaktrace_common::unwind::Rule;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::unwind::{
    FrameSections, Table,
    table::{PALETTE_MAX, ROWS_MAX},
};

const MAGIC: [u8; 8] = *b"ltunwind";

/// Raised with each change of this format or of what rules mean or which rows a table has.
const VERSION: u32 = 1;

/// Magic, version, two counts.
const HEAD_BYTES: usize = 8 + 4 + 4 + 4;
const CHECKSUM_BYTES: usize = 16;
const RULE_BYTES: usize = 8;
const ROW_BYTES: usize = 4 + 2;

/// No entry is longer.
pub(super) const ENTRY_BYTES_MAX: u64 =
    (HEAD_BYTES + CHECKSUM_BYTES + PALETTE_MAX * RULE_BYTES + ROWS_MAX * ROW_BYTES) as u64;

/// How entries end.
const SUFFIX: &str = ".table";

/// Makes names and checksums that nobody else can make.
#[derive(Clone, Copy, Default)]
pub(super) struct Secret([u8; 16]);

impl Secret {
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What stands for the bytes that a table is made from.
    pub fn fingerprint(&self, sections: &FrameSections) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(b"sections");
        for code in &sections.code {
            hasher.write_u64(code.svma);
            hasher.write_u32(code.file_offset);
            hasher.write_u32(code.size_bytes);
        }
        hasher.write_usize(sections.code.len());
        for section in [&sections.eh_frame, &sections.debug_frame] {
            hasher.write_u64(section.svma);
            hasher.write_usize(section.bytes.len());
            hasher.write(&section.bytes);
        }
        hasher.finish128().as_u128()
    }

    fn checksum(&self, fingerprint: u128, head: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(b"contents");
        hasher.write_u128(fingerprint);
        hasher.write(head);
        hasher.write(body);
        hasher.finish128().as_u128().to_le_bytes()
    }

    pub fn encode(&self, fingerprint: u128, table: &Table) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend(MAGIC);
        head.extend(VERSION.to_le_bytes());
        // A table has at most `PALETTE_MAX` rules and `ROWS_MAX` rows.
        head.extend((table.palette().len() as u32).to_le_bytes());
        head.extend((table.len() as u32).to_le_bytes());
        let rules = table.palette().iter().flat_map(|rule| rule_bytes(*rule));
        let mut body: Vec<u8> = rules.collect();
        body.extend(table.pcs().iter().flat_map(|pc| pc.to_le_bytes()));
        body.extend(table.rules().iter().flat_map(|rule| rule.to_le_bytes()));
        let checksum = self.checksum(fingerprint, &head, &body);
        [&head[..], &checksum, &body].concat()
    }

    /// The table of an entry, `None` for any that is not exactly as `encode` makes them.
    pub fn decode(&self, fingerprint: u128, bytes: &[u8]) -> Option<Table> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let (checksum, body) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
        let counts = head.strip_prefix(&MAGIC)?;
        let counts = counts.strip_prefix(&VERSION.to_le_bytes())?;
        let (&rules, &rows) = (counts.first_chunk::<4>()?, counts.last_chunk::<4>()?);
        let rules = u32::from_le_bytes(rules) as usize;
        let rows = u32::from_le_bytes(rows) as usize;
        if rules > PALETTE_MAX
            || rows > ROWS_MAX
            || body.len() != rules * RULE_BYTES + rows * ROW_BYTES
            || self.checksum(fingerprint, head, body) != *checksum
        {
            return None;
        }
        let (palette, body) = body.split_at(rules * RULE_BYTES);
        let (pcs, rules) = body.split_at(rows * 4);
        // The checksum is ours, but a bug may have been too.
        Table::from_parts(
            pcs.as_chunks::<4>()
                .0
                .iter()
                .map(|it| u32::from_le_bytes(*it))
                .collect(),
            rules
                .as_chunks::<2>()
                .0
                .iter()
                .map(|it| u16::from_le_bytes(*it))
                .collect(),
            palette
                .as_chunks::<RULE_BYTES>()
                .0
                .iter()
                .map(rule)
                .collect(),
        )
    }
}

/// The name of an entry.
pub(super) fn name(fingerprint: u128) -> String {
    format!("{fingerprint:032x}{SUFFIX}")
}

/// Whether this is the name of an entry.
pub(super) fn is_name(name: &str) -> bool {
    name.strip_suffix(SUFFIX)
        .is_some_and(|it| it.len() == 32 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn rule_bytes(rule: Rule) -> [u8; RULE_BYTES] {
    let [a, b] = rule.rbp_offset.to_le_bytes();
    let [c, d, e, f] = rule.cfa_offset.to_le_bytes();
    [rule.cfa, rule.rbp, a, b, c, d, e, f]
}

fn rule(&[cfa, rbp, a, b, c, d, e, f]: &[u8; RULE_BYTES]) -> Rule {
    Rule::new(
        cfa,
        i32::from_le_bytes([c, d, e, f]),
        rbp,
        i16::from_le_bytes([a, b]),
    )
}
