//! Rows of alarms that are to be written to the tables, and messages about them that are to be
//! published.
//!
//! A message about a change is written in the transaction of the change, published from then on,
//! and removed once the node has stored it. So it is published at least once, also after a crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use martlet_registry::{AlarmRow, AlarmWatchRow, OutboxRow};

/// Messages in memory, at most. Others are read from the tables.
const WAITING_MAX: usize = 10_000;
/// Rows of one transaction.
const ROWS: usize = 500;

/// Rows of alarms that are not raised, which are to be written.
#[derive(Debug, Default)]
pub(super) struct UnwrittenRows(pub(super) Vec<AlarmWatchRow>);

/// Rows and messages that are to be written and published.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Alarms that are to be written, as they are now.
    alarms: BTreeMap<i64, AlarmRow>,
    /// Messages that are to be written with them, by number, with the number of the alarm.
    messages: BTreeMap<i64, (i64, OutboxRow)>,
    /// Messages that are to be published, the oldest first.
    waiting: VecDeque<OutboxRow>,
    /// Numbers of messages that are to be removed from the tables.
    sent: Vec<i64>,
    /// The tables may have messages that do not wait in memory.
    has_more: bool,
    /// These may be older than what waits, as those of earlier runs are: they are read first.
    has_older: bool,
    /// A message that led to one of the changes is not settled before they are written.
    is_owed: bool,
}

/// Rows and messages that are written in one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) alarms: Vec<AlarmRow>,
    pub(super) messages: Vec<OutboxRow>,
}

impl Pending {
    /// Adds an alarm as it is now, without a message.
    pub(super) fn add_alarm(&mut self, alarm: AlarmRow) {
        self.alarms.insert(alarm.id, alarm);
    }

    /// Adds an alarm as it is now, and the messages about its change. Returns how many messages
    /// were dropped, because the tables take none for long.
    pub(super) fn add(&mut self, alarm: AlarmRow, messages: Vec<OutboxRow>) -> u64 {
        for message in messages {
            let unwritten = (alarm.id, message.clone());
            self.messages.insert(message.number, unwritten);
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(message);
            } else {
                self.has_more = true;
            }
        }
        self.add_alarm(alarm);
        let excess = self.messages.len().saturating_sub(WAITING_MAX);
        for _ in 0..excess {
            self.messages.pop_first();
        }
        excess as u64
    }

    /// The tables may have messages that do not wait in memory, and are older than what does.
    pub(super) fn read_again(&mut self) {
        self.has_older = true;
    }

    /// The writing is waited for by what led to it.
    pub(super) fn owe(&mut self) {
        self.is_owed = true;
    }

    /// Whether something is written that is waited for, or failed to be.
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// All that was there when `is_owed` was read is written.
    pub(super) fn owes_no_more(&mut self) {
        self.is_owed = !self.alarms.is_empty();
    }

    /// Batch that is to be written next.
    pub(super) fn batch(&self) -> Batch {
        let alarms: Vec<AlarmRow> = self.alarms.values().take(ROWS).cloned().collect();
        let ids: BTreeSet<i64> = alarms.iter().map(|alarm| alarm.id).collect();
        let messages = self.messages.values();
        let messages = messages.filter(|(alarm, _)| ids.contains(alarm));
        let messages = messages.map(|(_, message)| message.clone()).collect();
        Batch { alarms, messages }
    }

    /// A batch is written.
    pub(super) fn written(&mut self, batch: &Batch) {
        for message in &batch.messages {
            self.messages.remove(&message.number);
        }
        for alarm in &batch.alarms {
            // One that has changed meanwhile is written again.
            if self.alarms.get(&alarm.id) == Some(alarm) {
                self.alarms.remove(&alarm.id);
            }
        }
    }

    /// Messages that are to be published. Without `even_unwritten` none that is to be written.
    pub(super) fn take_waiting(&mut self, even_unwritten: bool) -> Vec<OutboxRow> {
        let all = std::mem::take(&mut self.waiting);
        let is_due =
            |message: &OutboxRow| even_unwritten || !self.messages.contains_key(&message.number);
        let (due, others) = all.into_iter().partition(is_due);
        self.waiting = others;
        due.into()
    }

    /// These messages wait again.
    pub(super) fn put_back(&mut self, messages: Vec<OutboxRow>) {
        for message in messages.into_iter().rev() {
            self.waiting.push_front(message);
        }
    }

    /// A message is published, or is never to be.
    pub(super) fn done(&mut self, number: i64) {
        self.messages.remove(&number);
        self.sent.push(number);
    }

    /// Numbers of messages that are to be removed from the tables.
    pub(super) fn take_sent(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.sent)
    }

    /// These could not be removed.
    pub(super) fn not_removed(&mut self, numbers: Vec<i64>) {
        self.sent.extend(numbers);
    }

    /// How many messages are to be read from the tables; none if all wait in memory.
    pub(super) fn to_read(&self) -> Option<usize> {
        match self.sent.is_empty() {
            true if self.has_older => Some(WAITING_MAX),
            true if self.has_more && self.waiting.is_empty() => Some(ROWS),
            _ => None,
        }
    }

    /// Adds the oldest messages of the tables; `most` is the limit with which they were read.
    pub(super) fn read(&mut self, messages: Vec<OutboxRow>, most: usize) {
        self.has_older = false;
        self.has_more = messages.len() >= most;
        let waiting = self.waiting.iter().map(|message| message.number);
        let waiting: BTreeSet<i64> = waiting.collect();
        let others = messages.into_iter();
        let others = others.filter(|message| !waiting.contains(&message.number));
        self.put_back(others.collect());
        // Those that were added while the tables were read.
        let all = self.waiting.make_contiguous();
        all.sort_by_key(|message| message.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(id: i64, state: &str) -> AlarmRow {
        AlarmRow {
            id,
            state: state.to_owned(),
            ..AlarmRow::default()
        }
    }

    fn message(number: i64, payload: &str) -> OutboxRow {
        OutboxRow {
            number,
            payload: payload.to_owned(),
            ..OutboxRow::default()
        }
    }

    fn payloads(messages: &[OutboxRow]) -> Vec<&str> {
        messages.iter().map(|one| &*one.payload).collect()
    }

    #[test]
    fn a_change_is_written_with_its_message_and_published_after_that() {
        let mut pending = Pending::default();
        assert_eq!(
            pending.add(alarm(7, "active"), vec![message(5, "raised")]),
            0
        );
        let batch = pending.batch();
        // It changes while it is being written.
        pending.add(alarm(7, "cleared"), vec![message(6, "cleared")]);
        assert!(pending.take_waiting(false).is_empty());
        pending.written(&batch);
        let due = pending.take_waiting(false);
        assert_eq!(payloads(&due), ["raised"]);
        pending.done(due[0].number);
        let batch = pending.batch();
        assert_eq!(batch.alarms, [alarm(7, "cleared")]);
        assert_eq!(payloads(&batch.messages), ["cleared"]);
        pending.written(&batch);
        let due = pending.take_waiting(false);
        pending.put_back(due);
        assert_eq!(payloads(&pending.take_waiting(false)), ["cleared"]);
        assert_eq!(pending.take_sent(), [5]);
        assert!(pending.batch().alarms.is_empty());
    }

    #[test]
    fn what_does_not_fit_into_memory_is_read_from_the_tables_in_order() {
        let mut pending = Pending::default();
        pending.read_again();
        pending.add(alarm(1, "active"), vec![message(10, "new")]);
        // Those of earlier runs come first, though a new one waits.
        assert_eq!(pending.to_read(), Some(WAITING_MAX));
        let of_earlier_runs = [message(8, "old"), message(9, "late")];
        pending.read(of_earlier_runs.into(), WAITING_MAX);
        assert_eq!(pending.to_read(), None);
        assert_eq!(
            payloads(&pending.take_waiting(true)),
            ["old", "late", "new"]
        );
        for id in 0..=WAITING_MAX as i64 {
            let dropped = pending.add(alarm(id, "active"), vec![message(11 + id, "x")]);
            let batch = pending.batch();
            pending.written(&batch);
            assert_eq!(dropped, 0);
        }
        assert_eq!(pending.take_waiting(false).len(), WAITING_MAX);
        assert_eq!(pending.to_read(), Some(ROWS));
    }

    #[test]
    fn what_the_tables_do_not_take_is_bounded() {
        let mut pending = Pending::default();
        let dropped = (0..WAITING_MAX as i64 + 2)
            .map(|number| pending.add(alarm(1, "active"), vec![message(number, "x")]))
            .sum::<u64>();
        assert_eq!(dropped, 2);
    }
}
