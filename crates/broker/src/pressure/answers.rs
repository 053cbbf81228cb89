//! Bytes of answers that wait, by whom they are for.

use std::collections::BTreeMap;

/// Bytes of encoded answers that wait for the store or for share groups, by the places of their
/// connections. Acknowledgements have none: how many wait is counted with the connection.
#[derive(Debug, Default)]
pub(crate) struct AnswerBytes(BTreeMap<u32, usize>);

impl AnswerBytes {
    pub(crate) fn add(&mut self, index: u32, bytes: usize) {
        if bytes > 0 {
            *self.0.entry(index).or_default() += bytes;
        }
    }

    pub(crate) fn remove(&mut self, index: u32, bytes: usize) {
        if let Some(held) = self.0.get_mut(&index) {
            *held -= bytes;
            if *held == 0 {
                self.0.remove(&index);
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, index: u32) {
        self.0.remove(&index);
    }

    pub(crate) fn of(&self, index: u32) -> usize {
        self.0.get(&index).copied().unwrap_or_default()
    }

    /// Whether these are the bytes, given for each answer.
    pub(crate) fn is_sum_of(&self, answers: impl Iterator<Item = (u32, usize)>) -> bool {
        let mut sum = Self::default();
        answers.for_each(|(index, bytes)| sum.add(index, bytes));
        sum.0 == self.0
    }

    /// Connections that have some.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
