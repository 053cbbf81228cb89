//! A queue of rows, each a fixed number of `u64`, that costs a few bytes a row where neighbours are
//! alike: identifiers that grow, notes that repeat. For queues that are long, many and mostly at
//! rest.
//!
//! Rows lie in blocks of 64. The last block is open, the others are sealed: packed by column. A row
//! in the middle can be found, replaced and removed; the first sealed block and the one last
//! replaced in stay unpacked once they are, so that working at the front, and a little behind it,
//! is cheap. The packed bytes are shared between clones, so that a clone is cheap too.
//!
//! What rows have alike and no column has room for is kept once, in [`Alike`].
//!
//! It knows nothing of what the columns mean, but that the first is the key to look for: each block
//! remembers the range of its keys.

#![forbid(unsafe_code)]

mod alike;
mod block;
mod pack;

pub use alike::Alike;
pub use pack::{put_difference, put_varint, take_difference, take_varint};

use block::Block;
use std::collections::VecDeque;

/// Rows of a block.
pub const BLOCK_ROWS: usize = 64;

/// A first-in, first-out queue of rows of `COLUMNS` integers. Column 0 is the key of
/// [`Rows::find`]; keys need be neither unique nor ordered, but finding is quick when they mostly
/// grow.
#[derive(Clone, Debug)]
pub struct Rows<const COLUMNS: usize> {
    sealed: VecDeque<Block<COLUMNS>>,
    /// The newest rows, from `open_start` on.
    open: Vec<[u64; COLUMNS]>,
    open_start: usize,
    /// Index of the sealed block that is unpacked, the first one aside.
    loose: Option<usize>,
    len: usize,
}

/// Where a row lies. Good until the next change of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPosition {
    /// `None` is the open block.
    block: Option<usize>,
    row: usize,
}

impl<const COLUMNS: usize> Default for Rows<COLUMNS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const COLUMNS: usize> Rows<COLUMNS> {
    /// An empty queue; allocates nothing.
    pub fn new() -> Self {
        Rows {
            sealed: VecDeque::new(),
            open: Vec::new(),
            open_start: 0,
            loose: None,
            len: 0,
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap, near enough for accounts: capacity, without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(Block::bytes).sum();
        sealed
            + self.sealed.capacity() * size_of::<Block<COLUMNS>>()
            + self.open.capacity() * size_of::<[u64; COLUMNS]>()
    }

    /// Adds a row at the end.
    pub fn push_back(&mut self, row: [u64; COLUMNS]) {
        if self.open.len() == BLOCK_ROWS {
            self.seal_open();
        }
        if self.open.len() == self.open.capacity() {
            // Most queues are short: begin small, double.
            let more = self.open.capacity().clamp(2, BLOCK_ROWS / 2);
            self.open.reserve_exact(more);
        }
        self.open.push(row);
        self.len += 1;
    }

    /// Adds rows before all others, in their order.
    pub fn push_front_all(&mut self, rows: &[[u64; COLUMNS]]) {
        if let Some(front) = self.sealed.front_mut().filter(|_| self.loose != Some(0)) {
            front.pack();
        }
        for block in rows.rchunks(BLOCK_ROWS) {
            self.sealed.push_front(Block::packed(block));
            self.loose = self.loose.map(|loose| loose + 1);
        }
        self.len += rows.len();
    }

    fn seal_open(&mut self) {
        if self.open_start < self.open.len() {
            self.sealed
                .push_back(Block::packed(&self.open[self.open_start..]));
        }
        self.open.clear();
        self.open_start = 0;
    }

    /// The oldest row.
    pub fn front(&self) -> Option<[u64; COLUMNS]> {
        match self.sealed.front() {
            Some(block) => block.first(),
            None => self.open.get(self.open_start).copied(),
        }
    }

    /// The newest row.
    pub fn back(&self) -> Option<[u64; COLUMNS]> {
        match self.open.last() {
            Some(row) => Some(*row),
            None => self.sealed.back().and_then(Block::last),
        }
    }

    /// Takes the oldest row off.
    pub fn pop_front(&mut self) -> Option<[u64; COLUMNS]> {
        self.loosen(0);
        let (place, row) = match self.sealed.front() {
            Some(block) => {
                let row = block.first_index()?;
                (
                    RowPosition {
                        block: Some(0),
                        row,
                    },
                    block.get(row)?,
                )
            }
            None => {
                let row = *self.open.get(self.open_start)?;
                let place = RowPosition {
                    block: None,
                    row: self.open_start,
                };
                (place, row)
            }
        };
        self.remove(place);
        Some(row)
    }

    /// The front is about to be looked at and worked off: it is unpacked, once.
    pub fn ready_front(&mut self) {
        self.loosen(0);
    }

    /// All rows, oldest first.
    pub fn iter(&self) -> Iter<'_, COLUMNS> {
        Iter {
            rows: self,
            next_block: 0,
            unpacked: Vec::new().into_iter(),
            in_open: 0,
        }
    }

    /// The row with this key (column 0) of which `is_it` is true; one of them, if it is of several.
    pub fn find(
        &self,
        key: u64,
        is_it: impl Fn(&[u64; COLUMNS]) -> bool,
    ) -> Option<(RowPosition, [u64; COLUMNS])> {
        for (index, block) in self.sealed.iter().enumerate() {
            if let Some((row, values)) = block.find(key, &is_it) {
                let block = Some(index);
                return Some((RowPosition { block, row }, values));
            }
        }
        let open = self.open.iter().enumerate().skip(self.open_start);
        let mut open = open.filter(|(_, values)| values[0] == key && is_it(values));
        let (row, values) = open.next()?;
        Some((RowPosition { block: None, row }, *values))
    }

    /// Takes out the row with this key of which `is_it` is true, or one of them. Quicker than to
    /// find and to remove it where rows are taken from the front on.
    pub fn take(
        &mut self,
        key: u64,
        is_it: impl Fn(&[u64; COLUMNS]) -> bool,
    ) -> Option<[u64; COLUMNS]> {
        if self.sealed.front().is_some_and(|block| block.may_have(key)) {
            self.loosen(0);
        }
        let (place, row) = self.find(key, is_it)?;
        self.remove(place);
        Some(row)
    }

    /// Puts another row in a place; it keeps its turn.
    pub fn replace(&mut self, place: RowPosition, row: [u64; COLUMNS]) {
        match place.block {
            Some(index) => {
                self.loosen(index);
                if let Some(block) = self.sealed.get_mut(index) {
                    block.replace(place.row, row);
                }
            }
            None => {
                if let Some(old) = self.open.get_mut(place.row) {
                    *old = row;
                }
            }
        }
    }

    /// Takes a row out of its place.
    pub fn remove(&mut self, place: RowPosition) {
        match place.block {
            Some(index) => self.remove_sealed(index, place.row),
            None if place.row == self.open_start && place.row < self.open.len() => {
                self.open_start += 1;
                self.len -= 1;
            }
            None if place.row > self.open_start && place.row < self.open.len() => {
                self.open.remove(place.row);
                self.len -= 1;
            }
            None => return,
        }
        if self.len == 0 {
            // A queue at rest holds nothing.
            *self = Rows::new();
        } else if self.open_start == self.open.len() {
            self.open.clear();
            self.open_start = 0;
        }
    }

    fn remove_sealed(&mut self, index: usize, row: usize) {
        if index == 0 {
            // More will follow where the queue is worked off.
            self.loosen(0);
        }
        let Some(block) = self.sealed.get_mut(index) else {
            return;
        };
        if !block.remove(row) {
            return;
        }
        self.len -= 1;
        if block.len() == 0 {
            self.drop_block(index);
        } else if block.len() * 4 <= BLOCK_ROWS {
            self.merge(index);
        }
    }

    fn drop_block(&mut self, index: usize) {
        self.sealed.remove(index);
        if self.sealed.len() * 4 < self.sealed.capacity() {
            self.sealed.shrink_to(self.sealed.len() * 2);
        }
        self.loose = match self.loose {
            Some(loose) if loose == index => None,
            Some(loose) if loose > index => Some(loose - 1).filter(|loose| *loose > 0),
            loose => loose,
        };
    }

    /// A block with few rows left joins a neighbour, so that survivors do not hold empty blocks.
    /// Not at the front, where blocks empty anyway.
    fn merge(&mut self, index: usize) {
        if index == 0 || self.loose == Some(index) {
            return;
        }
        let before = index - 1;
        if self.sealed[before].len() + self.sealed[index].len() > BLOCK_ROWS
            || before == 0
            || self.loose == Some(before)
        {
            self.sealed[index].shrink();
            return;
        }
        let mut rows = Vec::with_capacity(BLOCK_ROWS);
        self.sealed[before].each(|_, row| rows.push(row));
        self.sealed[index].each(|_, row| rows.push(row));
        self.sealed[before] = Block::packed(&rows);
        self.drop_block(index);
    }

    fn loosen(&mut self, index: usize) {
        if index > 0 && self.loose != Some(index) {
            if let Some(block) = self.loose.and_then(|loose| self.sealed.get_mut(loose)) {
                block.pack();
            }
            self.loose = Some(index);
        }
        if let Some(block) = self.sealed.get_mut(index) {
            block.unpack();
        }
    }

    /// Appends all rows as bytes that [`Rows::decode`] understands: per block its number of rows
    /// and its columns; it ends with a zero.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for block in &self.sealed {
            block.encode(out);
        }
        if self.open_start < self.open.len() {
            Block::packed(&self.open[self.open_start..]).encode(out);
        }
        out.push(0);
    }

    /// How many blocks [`Rows::encode_blocks`] counts.
    pub fn block_count(&self) -> usize {
        self.sealed.len() + usize::from(self.open_start < self.open.len())
    }

    /// Like [`Rows::encode`], but only the blocks `from..` until `bytes_max` are appended or all
    /// are done. Says which block is next. Begins a run of blocks of its own: ends with a zero.
    pub fn encode_blocks(&self, from: usize, bytes_max: usize, out: &mut Vec<u8>) -> usize {
        let begin = out.len();
        let mut next = from;
        while next < self.block_count() && out.len() - begin < bytes_max {
            match self.sealed.get(next) {
                Some(block) => block.encode(out),
                None => Block::packed(&self.open[self.open_start..]).encode(out),
            }
            next += 1;
        }
        out.push(0);
        next
    }

    /// Takes the rows of one [`Rows::encode`] or [`Rows::encode_blocks`] off the front of `input`
    /// and adds them at the end. `None`: those bytes are not rows; what was added before is still
    /// there.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<()> {
        loop {
            let (&count, rest) = input.split_first()?;
            let count = usize::from(count);
            if count == 0 {
                *input = rest;
                return Some(());
            }
            let block = Block::decode(input)?;
            if count == BLOCK_ROWS {
                self.seal_open();
                self.len += block.len();
                self.sealed.push_back(block);
            } else {
                block.each(|_, row| self.push_back(row));
            }
        }
    }
}

/// The rows of a queue, oldest first.
#[derive(Debug)]
pub struct Iter<'a, const COLUMNS: usize> {
    rows: &'a Rows<COLUMNS>,
    next_block: usize,
    unpacked: std::vec::IntoIter<[u64; COLUMNS]>,
    in_open: usize,
}

impl<const COLUMNS: usize> Iterator for Iter<'_, COLUMNS> {
    type Item = [u64; COLUMNS];

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.unpacked.next() {
                return Some(row);
            }
            let Some(block) = self.rows.sealed.get(self.next_block) else {
                let row = self.rows.open.get(self.rows.open_start + self.in_open)?;
                self.in_open += 1;
                return Some(*row);
            };
            self.next_block += 1;
            let mut rows = Vec::with_capacity(block.len());
            block.each(|_, row| rows.push(row));
            self.unpacked = rows.into_iter();
        }
    }
}

#[cfg(test)]
mod tests;
