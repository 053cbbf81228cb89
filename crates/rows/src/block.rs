//! Up to 64 rows: packed by column and shared, or unpacked to work on. Removed rows are
//! marked in a mask, so that taking one out of a packed block changes eight bytes.

use crate::BLOCK_ROWS;
use crate::pack::{pack_column, unpack_column};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Block<const COLUMNS: usize> {
    form: Form<COLUMNS>,
    /// The smallest and the largest key there was when it was packed, or later.
    key_min: u64,
    key_max: u64,
    /// Which rows are there.
    there: u64,
    /// Behind the row last replaced: rows are often replaced one after the other.
    near: u8,
}

#[derive(Clone, Debug)]
enum Form<const COLUMNS: usize> {
    /// The first byte is the number of rows, those gone included.
    Packed(Arc<[u8]>),
    Loose(Box<[[u64; COLUMNS]]>),
}

impl<const COLUMNS: usize> Block<COLUMNS> {
    /// `rows`: 1 to 64.
    pub(crate) fn packed(rows: &[[u64; COLUMNS]]) -> Self {
        debug_assert!((1..=BLOCK_ROWS).contains(&rows.len()));
        let keys = rows.iter().map(|row| row[0]);
        Block {
            form: Form::Packed(pack(rows).into()),
            key_min: keys.clone().min().unwrap_or(0),
            key_max: keys.max().unwrap_or(0),
            there: u64::MAX >> (BLOCK_ROWS - rows.len()),
            near: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.there.count_ones() as usize
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.form {
            // Two counters stand before the bytes.
            Form::Packed(bytes) => bytes.len() + 16,
            Form::Loose(rows) => size_of_val(&**rows),
        }
    }

    pub(crate) fn first_index(&self) -> Option<usize> {
        (self.there != 0).then_some(self.there.trailing_zeros() as usize)
    }

    pub(crate) fn first(&self) -> Option<[u64; COLUMNS]> {
        self.get(self.first_index()?)
    }

    pub(crate) fn last(&self) -> Option<[u64; COLUMNS]> {
        let index = 63_u32.checked_sub(self.there.leading_zeros())?;
        self.get(index as usize)
    }

    pub(crate) fn get(&self, index: usize) -> Option<[u64; COLUMNS]> {
        match &self.form {
            Form::Loose(rows) => rows.get(index).copied(),
            Form::Packed(bytes) => unpack(bytes)?.get(index).copied(),
        }
    }

    /// Each row that is there, with its index.
    pub(crate) fn each(&self, mut each: impl FnMut(usize, [u64; COLUMNS])) {
        let unpacked;
        let rows: &[[u64; COLUMNS]] = match &self.form {
            Form::Loose(rows) => rows,
            Form::Packed(bytes) => {
                unpacked = unpack(bytes).unwrap_or_default();
                &unpacked
            }
        };
        for (index, row) in rows.iter().enumerate() {
            if self.there >> index & 1 == 1 {
                each(index, *row);
            }
        }
    }

    /// The key lies in the range of those that are or were here.
    pub(crate) fn may_have(&self, key: u64) -> bool {
        (self.key_min..=self.key_max).contains(&key)
    }

    pub(crate) fn find(
        &self,
        key: u64,
        is_it: impl Fn(&[u64; COLUMNS]) -> bool,
    ) -> Option<(usize, [u64; COLUMNS])> {
        if !self.may_have(key) {
            return None;
        }
        match &self.form {
            Form::Loose(rows) => {
                let near = usize::from(self.near);
                if let Some(row) = rows.get(near)
                    && self.there >> near & 1 == 1
                    && row[0] == key
                    && is_it(row)
                {
                    return Some((near, *row));
                }
                // What is looked for is most often the first that is left.
                let mut left = self.there;
                while left != 0 {
                    let index = left.trailing_zeros() as usize;
                    let row = rows.get(index)?;
                    if row[0] == key && is_it(row) {
                        return Some((index, *row));
                    }
                    left &= left - 1;
                }
                None
            }
            Form::Packed(bytes) => {
                // The keys stand first: most blocks are left after them.
                let (count, mut columns) = bytes.split_first()?;
                let mut hit = false;
                unpack_column(&mut columns, usize::from(*count), |index, value| {
                    hit = value == key && self.there >> index & 1 == 1;
                    !hit
                })?;
                if !hit {
                    return None;
                }
                let rows = unpack(bytes)?;
                let mut rows = rows.iter().enumerate();
                let (index, row) = rows.find(|(index, row)| {
                    row[0] == key && self.there >> index & 1 == 1 && is_it(row)
                })?;
                Some((index, *row))
            }
        }
    }

    /// Only in an unpacked block.
    pub(crate) fn replace(&mut self, index: usize, row: [u64; COLUMNS]) {
        if let Form::Loose(rows) = &mut self.form
            && let Some(old) = rows.get_mut(index)
        {
            *old = row;
            self.near = (index + 1) as u8;
            self.key_min = self.key_min.min(row[0]);
            self.key_max = self.key_max.max(row[0]);
        }
    }

    /// False: it was not there.
    pub(crate) fn remove(&mut self, index: usize) -> bool {
        let was = index < BLOCK_ROWS && self.there >> index & 1 == 1;
        if was {
            self.there &= !(1 << index);
        }
        was
    }

    pub(crate) fn unpack(&mut self) {
        if let Form::Packed(bytes) = &self.form {
            let rows = unpack(bytes).unwrap_or_default();
            self.form = Form::Loose(rows.into());
        }
    }

    pub(crate) fn pack(&mut self) {
        if matches!(self.form, Form::Loose(_)) && self.there != 0 {
            *self = Block::packed(&self.rows());
        }
    }

    /// Packs again without the removed rows.
    pub(crate) fn shrink(&mut self) {
        if self.there != 0 {
            *self = Block::packed(&self.rows());
        }
    }

    fn rows(&self) -> Vec<[u64; COLUMNS]> {
        let mut rows = Vec::with_capacity(self.len());
        self.each(|_, row| rows.push(row));
        rows
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Packed(bytes) if bytes.first().copied() == Some(self.len() as u8) => {
                out.extend_from_slice(bytes);
            }
            _ => out.extend_from_slice(&pack(&self.rows())),
        }
    }

    /// Takes one block off the front of `input`.
    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut rest = *input;
        let rows = take_rows::<COLUMNS>(&mut rest)?;
        let bytes = &input[..input.len() - rest.len()];
        *input = rest;
        let keys = rows.iter().map(|row| row[0]);
        Some(Block {
            form: Form::Packed(bytes.into()),
            key_min: keys.clone().min()?,
            key_max: keys.max()?,
            there: u64::MAX >> (BLOCK_ROWS - rows.len()),
            near: 0,
        })
    }
}

fn pack<const COLUMNS: usize>(rows: &[[u64; COLUMNS]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(rows.len() as u8);
    for column in 0..COLUMNS {
        pack_column(&mut bytes, rows.iter().map(|row| row[column]));
    }
    bytes
}

fn unpack<const COLUMNS: usize>(mut bytes: &[u8]) -> Option<Vec<[u64; COLUMNS]>> {
    take_rows(&mut bytes)
}

fn take_rows<const COLUMNS: usize>(input: &mut &[u8]) -> Option<Vec<[u64; COLUMNS]>> {
    let (&count, rest) = input.split_first()?;
    *input = rest;
    let count = usize::from(count);
    if count == 0 || count > BLOCK_ROWS {
        return None;
    }
    let mut rows = vec![[0; COLUMNS]; count];
    for column in 0..COLUMNS {
        unpack_column(input, count, |index, value| {
            if let Some(row) = rows.get_mut(index) {
                row[column] = value;
            }
            true
        })?;
    }
    Some(rows)
}
