//! Arbitrary bytes as a sequence of choices. When the bytes are spent every choice is the first
//! one, so that any input is a valid one and a shorter input is a simpler case.

/// Bytes that are left to choose by.
#[derive(Debug)]
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `end`, which is at most 256 and not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// True in one of `in_how_many` cases.
    pub(crate) fn one_of(&mut self, in_how_many: u8) -> bool {
        self.byte() % in_how_many == in_how_many - 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// One of `from` in half of the cases.
    pub(crate) fn maybe<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len() * 2);
        from.get(at).copied()
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Up to `max` bytes as they are.
    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let count = self.below(max.min(255) + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}
