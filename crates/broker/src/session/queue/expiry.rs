//! Expired entries of a queue: looked for from its front to its end, some entries at a time, since
//! a queue may be a million long. Between two looks the queue is used as ever.

use super::entry::row_expires_at_ms;
use super::swept::{Expiry, Sweep};
use super::{Entry, Queue, TakenEntry};

/// Result of a look for expired entries.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    /// They have been taken out, in order.
    pub(crate) entries: Vec<TakenEntry>,
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
                found.entries.push(TakenEntry::Held(entry));
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
        let mut expired_entries = Vec::new();
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
                    expired_entries.push(stored.entry(row));
                } else {
                    sweep.note(row_expires_at_ms(row));
                    stored.rows.keep_seen(row);
                }
            }
        }
        for entry in expired_entries {
            self.uncount_ticket(entry.apart.ticket.as_deref());
            found.entries.push(TakenEntry::Stored(entry));
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
