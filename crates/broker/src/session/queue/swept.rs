//! How far a queue has been looked through for what has expired.

use martlet_rows::Rows;

/// A monotonic time in whole seconds, kept inverted so that a new queue begins with "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expiry(u32);

impl Expiry {
    pub(super) const NEVER: Self = Self(0);

    pub(super) fn at(ms: u64) -> Self {
        Self(!u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX))
    }

    /// `u64::MAX` is never.
    pub(super) fn ms(self) -> u64 {
        match !self.0 {
            u32::MAX => u64::MAX,
            secs => u64::from(secs) * 1000,
        }
    }
}

/// How far a queue has been looked through.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Entries at the front of the window that have been looked at.
    pub(super) place: usize,
    /// When the first expires of those that have been looked at.
    pub(super) earliest: Expiry,
}

impl Sweep {
    /// The first entry of the window has been taken.
    pub(super) fn front_removed(&mut self) {
        self.place = self.place.saturating_sub(1);
    }

    /// The window has been emptied.
    pub(super) fn begin_window_anew(&mut self) {
        self.place = 0;
    }

    /// An entry that has been looked at expires then.
    pub(super) fn note(&mut self, at_ms: u64) {
        self.earliest = self.earliest.max(Expiry::at(at_ms));
    }
}

/// Rows of a queue: first those that the sweep has looked at, then the others.
#[derive(Debug, Default)]
pub(super) struct SweptRows {
    /// There while the others are still to be looked at.
    seen: Option<Box<Rows<3>>>,
    rows: Rows<3>,
}

impl SweptRows {
    pub(super) fn len(&self) -> usize {
        self.seen.as_ref().map_or(0, |seen| seen.len()) + self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.seen.as_ref().is_none_or(|seen| seen.is_empty())
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.seen.as_ref().map_or(0, |seen| seen.bytes()) + self.rows.bytes()
    }

    /// Returns the rows at the front.
    fn first(&mut self) -> &mut Rows<3> {
        match &mut self.seen {
            Some(seen) if !seen.is_empty() => seen,
            _ => &mut self.rows,
        }
    }

    pub(super) fn front(&self) -> Option<[u64; 3]> {
        let seen = self.seen.as_ref().and_then(|seen| seen.front());
        seen.or_else(|| self.rows.front())
    }

    pub(super) fn pop_front(&mut self) -> Option<[u64; 3]> {
        self.first().pop_front()
    }

    pub(super) fn push_back(&mut self, row: [u64; 3]) {
        self.rows.push_back(row);
    }

    pub(super) fn push_front_all(&mut self, rows: &[[u64; 3]]) {
        self.first().push_front_all(rows);
    }

    pub(super) fn ready_front(&mut self) {
        self.first().ready_front();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = [u64; 3]> {
        let seen = self.seen.iter().flat_map(|seen| seen.iter());
        seen.chain(self.rows.iter())
    }

    /// Removes the row with this key for which `is_it` is true.
    pub(super) fn take(&mut self, key: u64, is_it: impl Fn(&[u64; 3]) -> bool) -> Option<[u64; 3]> {
        let seen = self.seen.as_mut();
        let found = seen.and_then(|seen| seen.take(key, &is_it));
        found.or_else(|| self.rows.take(key, &is_it))
    }

    /// Takes the first row that has not been looked at.
    pub(super) fn pop_unseen(&mut self) -> Option<[u64; 3]> {
        let row = self.rows.pop_front();
        if row.is_none()
            && let Some(seen) = self.seen.take()
        {
            self.rows = *seen;
        }
        row
    }

    /// A row that has been looked at stays.
    pub(super) fn keep_seen(&mut self, row: [u64; 3]) {
        self.seen.get_or_insert_default().push_back(row);
    }
}
