//! Owns the placing of rows in the probes' shards, and what room is free.
//! Must not know files or processes.

use leaktrace_common::limits::{ROWS_PER_SHARD, SHARDS_MAX};

use crate::{probes::rows::RowMemory, unwind::Rows};

/// A piece of room smaller than this is not used for a part of a table: a process can tell only so many
/// parts apart.
const PART_ROWS_MIN: u32 = 8_192;

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

/// Room for rows within one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Room {
    shard: u32,
    first_row: u32,
    row_count: u32,
}

/// Rows that are to be written.
#[derive(Debug)]
struct Unwritten {
    room: Room,
    addresses: Vec<u32>,
    rules: Vec<u16>,
}

/// What room is free, and what is to be written.
#[derive(Debug)]
pub struct Shards {
    /// In order, and never two that could be one.
    free: Vec<Room>,
    unwritten: Vec<Unwritten>,
    /// Rows that found no room.
    pub rows_refused: u64,
}

impl Default for Shards {
    fn default() -> Self {
        let whole = |shard| Room {
            shard,
            first_row: 0,
            row_count: ROWS_PER_SHARD as u32,
        };
        Self {
            free: (0..SHARDS_MAX).map(whole).collect(),
            unwritten: Vec::new(),
            rows_refused: 0,
        }
    }
}

impl Shards {
    /// Finds room for a file's rows; less than all of them when there is none left.
    pub fn add(&mut self, rows: &Rows) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut done = 0;
        while done < rows.pcs.len() {
            let left = rows.pcs.len() - done;
            let Some(room) = self.take(u32::try_from(left).unwrap_or(u32::MAX)) else {
                self.rows_refused += left as u64;
                break;
            };
            let first_offset = u64::from(rows.pcs[done]);
            if let Some(last) = segments.last_mut() {
                last.end_offset = first_offset;
            }
            segments.push(Segment {
                first_offset,
                end_offset: u64::MAX,
                shard: room.shard,
                first_row: room.first_row,
                row_count: room.row_count,
            });
            let end = done + room.row_count as usize;
            self.unwritten.push(Unwritten {
                room,
                addresses: rows.pcs[done..end].to_vec(),
                rules: rows.rules[done..end].to_vec(),
            });
            done = end;
        }
        segments
    }

    /// Room for so many rows, or for some of them where no room holds all: the first that fits, else the largest.
    fn take(&mut self, wanted: u32) -> Option<Room> {
        let fits = self.free.iter().position(|it| it.row_count >= wanted);
        let largest = || {
            let of = |index: &usize| self.free[*index].row_count;
            (0..self.free.len())
                .rev()
                .max_by_key(of)
                .filter(|index| of(index) >= PART_ROWS_MIN)
        };
        let index = fits.or_else(largest)?;
        let room = &mut self.free[index];
        let taken = Room {
            row_count: wanted.min(room.row_count),
            ..*room
        };
        room.first_row += taken.row_count;
        room.row_count -= taken.row_count;
        if room.row_count == 0 {
            self.free.remove(index);
        }
        Some(taken)
    }

    /// Gives back the room of rows that no probe reads any more.
    pub fn release(&mut self, segments: &[Segment]) {
        self.free.extend(segments.iter().map(|it| Room {
            shard: it.shard,
            first_row: it.first_row,
            row_count: it.row_count,
        }));
        self.free.sort_unstable();
        self.free.dedup_by(|next, room| {
            let joins =
                room.shard == next.shard && room.first_row + room.row_count == next.first_row;
            if joins {
                room.row_count += next.row_count;
            }
            joins
        });
    }

    /// Whether there is anything to be written.
    pub fn is_all_written(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// Writes what is new.
    pub fn write(&mut self, memory: &mut RowMemory) {
        for Unwritten {
            room,
            addresses,
            rules,
        } in self.unwritten.drain(..)
        {
            memory.write(room.shard, room.first_row, &addresses, &rules);
        }
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

    fn places(segments: &[Segment]) -> Vec<(u32, u32, u32)> {
        let place = |it: &Segment| (it.shard, it.first_row, it.row_count);
        segments.iter().map(place).collect()
    }

    /// A table larger than a shard goes on in the next, without a gap.
    #[test]
    fn tables_span_shards() {
        let mut shards = Shards::default();
        let size = ROWS_PER_SHARD as u32;
        let small = shards.add(&rows(64, 100));
        assert_eq!(places(&small), [(0, 0, 100)]);
        assert_eq!((small[0].first_offset, small[0].end_offset), (64, u64::MAX));
        let large = shards.add(&rows(0, ROWS_PER_SHARD + 100));
        assert_eq!(places(&large), [(1, 0, size), (0, 100, 100)]);
        assert_eq!(large[0].end_offset, large[1].first_offset);
        assert_eq!(shards.unwritten.len(), 3);
    }

    /// Rows beyond the last shard are counted.
    #[test]
    fn rows_without_room_are_counted() {
        let mut shards = Shards {
            free: Vec::new(),
            ..Shards::default()
        };
        assert_eq!(shards.add(&rows(0, 9)), []);
        assert_eq!(shards.rows_refused, 9);
    }

    /// Room that is given back is used again, joined with what is free beside it; after everything is given back all
    /// is as it was at the beginning.
    #[test]
    fn room_comes_back() {
        let mut shards = Shards::default();
        let tables: Vec<_> = (0..600).map(|at| shards.add(&rows(at, 10_000))).collect();
        assert_eq!(shards.rows_refused, 0);
        shards.release(&tables[3]);
        shards.release(&tables[4]);
        let again = shards.add(&rows(0, 20_000));
        assert_eq!(
            places(&again),
            [(tables[3][0].shard, tables[3][0].first_row, 20_000)]
        );
        shards.release(&again);
        for (index, table) in tables.iter().enumerate() {
            if !(3..5).contains(&index) {
                shards.release(table);
            }
        }
        assert_eq!(shards.free, Shards::default().free);
    }
}
