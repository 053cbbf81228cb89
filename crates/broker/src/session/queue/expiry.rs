//! What of a queue has expired: looked for from its front to its end, some entries at a time, since
//! a queue may be a million long. Between two looks the queue is used as ever.

use martlet_rows::Rows;

use super::entry::row_expires_at_ms;
use super::{Entry, Queue, Taken};

/// A monotonic time in whole seconds, kept inverted so that a new queue begins with "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expiry(u32);

impl Expiry {
    pub(super) const NEVER: Self = Self(0);

    fn at(ms: u64) -> Self {
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
    place: usize,
    /// When the first expires of those that have been looked at.
    earliest: Expiry,
}

impl Sweep {
    /// The first entry of the window has been taken.
    pub(super) fn front_is_gone(&mut self) {
        self.place = self.place.saturating_sub(1);
    }

    /// The window has been emptied.
    pub(super) fn begin_window_anew(&mut self) {
        self.place = 0;
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

    /// Those at the front.
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
    fn pop_unseen(&mut self) -> Option<[u64; 3]> {
        let row = self.rows.pop_front();
        if row.is_none()
            && let Some(seen) = self.seen.take()
        {
            self.rows = *seen;
        }
        row
    }

    /// A row that has been looked at stays.
    fn keep_seen(&mut self, row: [u64; 3]) {
        self.seen.get_or_insert_default().push_back(row);
    }
}

/// What a look for expired entries has found.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    /// They have been taken out, in order.
    pub(crate) entries: Vec<Taken>,
    /// Entries that were looked at.
    pub(crate) looked_at: usize,
    /// There are more to be looked at.
    pub(crate) more: bool,
}

impl Queue {
    /// Takes out what has expired, of the next `limit` entries.
    pub(crate) fn take_expired(&mut self, now_ms: u64, limit: usize) -> Expired {
        let mut found = Expired::default();
        if self.sweep.is_none() && now_ms / 1000 < self.earliest_expiry.ms() / 1000 {
            return found;
        }
        let mut sweep = self.sweep.take().unwrap_or_else(|| {
            // What comes meanwhile is noted anew.
            self.earliest_expiry = Expiry::NEVER;
            Box::default()
        });
        self.sweep_window(&mut sweep, &mut found, now_ms, limit);
        self.sweep_rows(&mut sweep, &mut found, now_ms, limit);
        self.drop_empty_store();
        if found.more {
            self.sweep = Some(sweep);
        } else {
            self.earliest_expiry = self.earliest_expiry.max(sweep.earliest);
        }
        found
    }

    fn sweep_window(&mut self, sweep: &mut Sweep, found: &mut Expired, now_ms: u64, limit: usize) {
        let begin = sweep.place.min(self.window.len());
        let end = (begin + limit).min(self.window.len());
        let is_over = |entry: &Entry| entry.message.expired(now_ms);
        found.looked_at = end - begin;
        found.more = end < self.window.len();
        sweep.place = end;
        if !self.window.range(begin..end).any(is_over) {
            let stay = self.window.range(begin..end);
            let earliest = stay.map(|entry| entry.message.expires_at_ms()).min();
            sweep.note(earliest.unwrap_or(u64::MAX));
            return;
        }
        self.window.rotate_left(begin);
        let mut stay = Vec::new();
        for _ in begin..end {
            let Some(entry) = self.window.pop_front() else {
                break;
            };
            if is_over(&entry) {
                self.uncount(&entry);
                found.entries.push(Taken::Held(entry));
            } else {
                sweep.note(entry.message.expires_at_ms());
                stay.push(entry);
            }
        }
        sweep.place = begin + stay.len();
        for entry in stay.into_iter().rev() {
            self.window.push_front(entry);
        }
        self.window.rotate_right(begin);
    }

    fn sweep_rows(&mut self, sweep: &mut Sweep, found: &mut Expired, now_ms: u64, limit: usize) {
        let mut gone = Vec::new();
        if let Some(stored) = &mut self.stored
            && !found.more
        {
            found.more = true;
            while found.looked_at < limit {
                let Some(row) = stored.rows.pop_unseen() else {
                    found.more = false;
                    break;
                };
                found.looked_at += 1;
                if row_expires_at_ms(row) <= now_ms {
                    gone.push(stored.entry(row));
                } else {
                    sweep.note(row_expires_at_ms(row));
                    stored.rows.keep_seen(row);
                }
            }
        }
        for entry in gone {
            self.uncount_ticket(entry.apart.ticket.as_deref());
            found.entries.push(Taken::Stored(entry));
        }
    }

    /// When the shard is to look for expired entries, if it does not know yet.
    pub(crate) fn expiry_to_watch(&mut self) -> Option<u64> {
        // The greater of two is the earlier.
        let earlier = self.earliest_expiry > self.watched_expiry;
        self.watched_expiry = self.watched_expiry.max(self.earliest_expiry);
        earlier.then(|| self.earliest_expiry.ms())
    }

    /// The shard has looked.
    pub(crate) fn expiry_watched(&mut self) {
        self.watched_expiry = Expiry::default();
    }

    pub(super) fn note_expiry(&mut self, at_ms: u64) {
        self.earliest_expiry = self.earliest_expiry.max(Expiry::at(at_ms));
    }
}

impl Sweep {
    fn note(&mut self, at_ms: u64) {
        self.earliest = self.earliest.max(Expiry::at(at_ms));
    }
}
