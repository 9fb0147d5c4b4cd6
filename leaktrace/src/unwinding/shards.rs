//! Owns the placing of rows in the probes' shards.
//! Must not know files or processes.

use leaktrace_common::limits::{ROWS_PER_SHARD, SHARDS_MAX};

use crate::{probes::Probes, unwind::Rows};

/// Rows of one file that lie in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// File offset of the first byte of code that they tell of.
    pub first_offset: u64,
    /// File offset of the first byte after it: the next segment's first, or without end.
    pub end_offset: u64,
    /// Which shard.
    pub shard: u32,
    /// The first row in it.
    pub first_row: u32,
    /// How many.
    pub row_count: u32,
}

/// The shard that is being filled; those before it are full.
#[derive(Debug, Default)]
pub struct Shards {
    number: u32,
    addresses: Vec<u32>,
    rules: Vec<u16>,
    /// Shards that were filled up since the last write.
    full: Vec<(u32, Vec<u32>, Vec<u16>)>,
    is_changed: bool,
    /// Rows that found no room.
    pub rows_refused: u64,
}

impl Shards {
    /// Finds room for a file's rows; less than all of them when there is none left.
    pub fn add(&mut self, rows: &Rows) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut done = 0;
        while done < rows.pcs.len() {
            if self.number >= SHARDS_MAX {
                self.rows_refused += (rows.pcs.len() - done) as u64;
                break;
            }
            let room = ROWS_PER_SHARD - self.addresses.len();
            let count = room.min(rows.pcs.len() - done);
            let first_offset = u64::from(rows.pcs[done]);
            if let Some(last) = segments.last_mut() {
                last.end_offset = first_offset;
            }
            segments.push(Segment {
                first_offset,
                end_offset: u64::MAX,
                shard: self.number,
                // Both are at most `ROWS_PER_SHARD`.
                first_row: self.addresses.len() as u32,
                row_count: count as u32,
            });
            self.addresses
                .extend_from_slice(&rows.pcs[done..done + count]);
            self.rules
                .extend_from_slice(&rows.rules[done..done + count]);
            self.is_changed = true;
            done += count;
            if self.addresses.len() == ROWS_PER_SHARD {
                let addresses = std::mem::take(&mut self.addresses);
                self.full
                    .push((self.number, addresses, std::mem::take(&mut self.rules)));
                self.number += 1;
            }
        }
        segments
    }

    /// Writes what is new. A shard that is being filled is written whole: what was there stays
    /// what it was, so that the probes may read it meanwhile.
    pub fn write(&mut self, probes: &mut Probes) -> anyhow::Result<()> {
        for (number, addresses, rules) in std::mem::take(&mut self.full) {
            probes.write_rows(number, &addresses, &rules)?;
        }
        if std::mem::take(&mut self.is_changed) && !self.addresses.is_empty() {
            probes.write_rows(self.number, &self.addresses, &self.rules)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(first: u32, count: usize) -> Rows {
        let pcs = (0..count).map(|index| first + index as u32 * 4).collect();
        Rows {
            pcs,
            rules: vec![7; count],
        }
    }

    /// A table that does not fit in what is left goes on in the next shard, without a gap.
    #[test]
    fn tables_span_shards() {
        let mut shards = Shards::default();
        let small = shards.add(&rows(64, 100));
        assert_eq!(
            (small.len(), small[0].first_row, small[0].row_count),
            (1, 0, 100)
        );
        assert_eq!((small[0].first_offset, small[0].end_offset), (64, u64::MAX));
        let large = shards.add(&rows(0, ROWS_PER_SHARD));
        assert_eq!(large.len(), 2);
        assert_eq!(large[0].end_offset, large[1].first_offset);
        assert_eq!(
            (large[1].shard, large[1].first_row, large[1].row_count),
            (1, 0, 100)
        );
        assert_eq!(shards.full.len(), 1);
    }

    /// Rows beyond the last shard are counted.
    #[test]
    fn rows_without_room_are_counted() {
        let mut shards = Shards {
            number: SHARDS_MAX,
            ..Shards::default()
        };
        assert_eq!(shards.add(&rows(0, 9)), []);
        assert_eq!(shards.rows_refused, 9);
    }
}
