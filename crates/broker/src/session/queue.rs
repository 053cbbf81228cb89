//! The queue of a session or share group: what it is owed and has not been sent yet.
//!
//! Its front is a window of entries in memory. Behind it lie entries of which only a few packed
//! numbers are kept here; their messages are in the store and are read back, page by page, when the
//! window runs low. Without a store that can be read the window is the whole queue.

pub(crate) mod entry;
mod expiry;
mod swept;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use martlet_rows::Alike;

use entry::{SEVERAL, SINGLE_MAX, row_bytes, row_is_apart, row_several};
use swept::{Expiry, Sweep, SweptRows};

use crate::effect::ReadMessage;
use crate::fault::{self, Fault};
use crate::gauge::{CountedBytes, MemoryGauge};
use crate::id::{MessageId, SubscriptionIds};
use crate::message::Message;
use crate::record::EnqueuedAs;
use crate::report::QueuedMessage;
use crate::session::queue::entry::Unkept;
use crate::share::ticket::ShareTicket;

pub(crate) use entry::Entry;
pub use entry::{Apart, StoredEntry};

/// Key of an entry in its queue.
type Key = (MessageId, EnqueuedAs);

/// How much of a queue is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// All of it: there is no store to read from.
    Whole,
    /// Front of it, because the client is connected.
    Front,
    /// Nothing: the client is away.
    Nothing,
}

/// Entries in memory at most, of a queue whose messages are in the store.
const WINDOW_COUNT: usize = 128;
/// Bytes of messages in memory at most, likewise.
const WINDOW_BYTES: u64 = 128 * 1024;
/// Messages read back at once, at first.
const PAGE_COUNT: usize = 64;
/// Doublings of the length of a page, at most. It doubles when a page arrives and its receiver has
/// nothing left: longer pages wake three threads less often.
const PAGE_DOUBLINGS_MAX: u8 = 3;
/// Bytes of messages that are read back at once, approximately.
const PAGE_BYTES: u64 = 64 * 1024;

/// Bytes of an unpacked row. Packed rows take less, and unpacked ones occur only at the ends of a
/// queue; so rows are counted for somewhat more than they take here. The rest is for the store,
/// whose index has a row for each of them too.
const ROW_BYTES: usize = 3 * size_of::<u64>();

/// The queue of one session or share group.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    window: VecDeque<Entry>,
    window_bytes: u64,
    /// Memory that the entries of the window take beside their messages.
    counted: CountedBytes,
    /// Behind the window; not there while nothing is.
    stored: Option<Box<Stored>>,
    /// Entries that a share group handed over.
    shared: u32,
    /// Entries among them that the group still holds.
    lent: u32,
    /// A page has been asked for and has not come yet.
    reading: bool,
    /// Messages were dropped for want of room since it was empty.
    dropping: bool,
    /// When the first of its entries expires.
    earliest_expiry: Expiry,
    /// When the shard looks for expired entries.
    watched_expiry: Expiry,
    /// How far it has come with that.
    sweep: Option<Box<Sweep>>,
}

/// Entries whose messages are in the store.
#[derive(Debug, Default)]
struct Stored {
    rows: SweptRows,
    /// Data that do not fit into rows; not there while all do.
    beside: Option<Box<Beside>>,
    /// Bytes of their messages.
    bytes: u64,
    /// How often the length of a page has doubled.
    doublings: u8,
    /// Memory that the rows take.
    counted: CountedBytes,
}

/// Data of entries that do not fit into their rows.
#[derive(Debug, Default)]
struct Beside {
    /// Several Subscription Identifiers: the same few again and again, where subscriptions overlap.
    several: Alike<u32>,
    /// Further data of entries, for those that have more.
    apart: BTreeMap<Key, Apart>,
    /// Bytes of the messages among them, which are in memory because they have no record.
    kept_bytes: usize,
    /// Memory that this takes.
    counted: CountedBytes,
}

/// Memory that an entry takes that is kept apart, without its message.
const APART_BYTES: usize =
    (size_of::<Key>() + size_of::<Apart>()) * 3 / 2 + size_of::<ShareTicket>();

impl Beside {
    fn is_empty(&self) -> bool {
        self.several.is_empty() && self.apart.is_empty()
    }

    fn keep_apart(&mut self, entry: &StoredEntry, gauge: &Arc<MemoryGauge>) {
        let key = (entry.id, entry.why);
        self.kept_bytes += entry.apart.kept_bytes();
        match self.apart.insert(key, entry.apart.clone()) {
            Some(before) => self.kept_bytes -= before.kept_bytes(),
            None => self.counted.add(gauge, APART_BYTES),
        }
    }

    fn take_apart(&mut self, key: Key) -> Apart {
        let apart = self.apart.remove(&key);
        if let Some(apart) = &apart {
            self.counted.sub(APART_BYTES);
            self.kept_bytes -= apart.kept_bytes();
        }
        apart.unwrap_or_default()
    }

    /// The number of several Subscription Identifiers.
    fn keep_several(&mut self, ids: &[u32], gauge: &Arc<MemoryGauge>) -> u32 {
        let (number, is_new) = self.several.keep(ids);
        if is_new {
            self.counted.add(gauge, Alike::bytes_of(ids));
        }
        number
    }

    fn take_several(&mut self, number: u32) -> SubscriptionIds {
        let ids = SubscriptionIds::from_slice(self.several.get(number));
        if self.several.let_go(number) {
            self.counted.sub(Alike::bytes_of(&ids));
        }
        ids
    }
}

impl Stored {
    fn push_back(&mut self, entry: &StoredEntry, gauge: &Arc<MemoryGauge>) {
        let row = self.keep(entry, gauge);
        self.rows.push_back(row);
    }

    fn push_front_all(
        &mut self,
        entries: impl Iterator<Item = StoredEntry>,
        gauge: &Arc<MemoryGauge>,
    ) {
        let rows: Vec<_> = entries.map(|entry| self.keep(&entry, gauge)).collect();
        self.rows.push_front_all(&rows);
    }

    /// Counts an entry and keeps what has no room in its row, which is the answer.
    fn keep(&mut self, entry: &StoredEntry, gauge: &Arc<MemoryGauge>) -> [u64; 3] {
        self.bytes += u64::from(entry.bytes);
        self.counted.add(gauge, ROW_BYTES);
        if !entry.is_plain() {
            self.beside().keep_apart(entry, gauge);
            return entry.row(0);
        }
        entry.row(match entry.apart.subscription_ids.as_slice() {
            [] => 0,
            [single] if *single <= SINGLE_MAX => *single << 1,
            several => self.beside().keep_several(several, gauge) << 1 | SEVERAL,
        })
    }

    fn beside(&mut self) -> &mut Beside {
        self.beside.get_or_insert_default()
    }

    fn pop_front(&mut self) -> Option<StoredEntry> {
        let row = self.rows.pop_front()?;
        Some(self.entry(row))
    }

    /// The entry of a row that has been taken out.
    fn entry(&mut self, row: [u64; 3]) -> StoredEntry {
        let mut entry = StoredEntry::of_row(row);
        self.bytes -= u64::from(entry.bytes);
        self.counted.sub(ROW_BYTES);
        let several = row_several(row);
        if (row_is_apart(row) || several.is_some())
            && let Some(beside) = &mut self.beside
        {
            match several {
                Some(number) => entry.apart.subscription_ids = beside.take_several(number),
                None => entry.apart = beside.take_apart((entry.id, entry.why)),
            }
            if beside.is_empty() {
                self.beside = None;
            }
        }
        entry
    }

    /// Takes out the entries that a share group handed over.
    fn take_shared(&mut self) -> Vec<StoredEntry> {
        let apart = self.beside.iter().flat_map(|beside| &beside.apart);
        let shared = apart.filter(|(_, apart)| apart.ticket.is_some());
        let keys: Vec<Key> = shared.map(|(key, _)| *key).collect();
        let rows = keys.into_iter().filter_map(|(id, why)| {
            let is_it = |row: &[u64; 3]| StoredEntry::of_row(*row).why == why;
            self.rows.take(id.0, is_it)
        });
        let rows: Vec<_> = rows.collect();
        rows.into_iter().map(|row| self.entry(row)).collect()
    }

    /// The message of the first entry, if it is here because it has no record.
    fn first_kept(&self) -> Option<Message> {
        let beside = self.beside.as_ref()?;
        let entry = StoredEntry::of_row(self.rows.front()?);
        let apart = beside.apart.get(&(entry.id, entry.why))?;
        apart.message.clone()
    }
}

impl Queue {
    /// Nothing in it, and nothing known of it.
    pub(crate) const EMPTY: Self = Self {
        window: VecDeque::new(),
        window_bytes: 0,
        counted: CountedBytes::NOTHING,
        stored: None,
        shared: 0,
        lent: 0,
        reading: false,
        dropping: false,
        earliest_expiry: Expiry::NEVER,
        watched_expiry: Expiry::NEVER,
        sweep: None,
    };

    /// Whether it is empty and waits for nothing.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_empty() && !self.reading && self.watched_expiry == Expiry::default()
    }

    pub(crate) fn len(&self) -> usize {
        self.window.len() + self.stored.as_ref().map_or(0, |stored| stored.rows.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.window.is_empty() && self.stored.is_none()
    }

    /// Bytes of the messages in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.window_bytes + self.stored.as_ref().map_or(0, |stored| stored.bytes)
    }

    /// Bytes of those that are in memory, with what their entries in the window take.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        let stored = self.stored.as_ref();
        let beside = stored.and_then(|stored| stored.beside.as_ref());
        let kept = beside.map_or(0, |beside| beside.kept_bytes);
        self.window_bytes as usize + self.counted.bytes() + kept
    }

    /// Bytes of memory that entries take behind the window, beside messages: they stay when the
    /// client leaves.
    pub(crate) fn bytes_of_rows(&self) -> usize {
        self.stored.as_ref().map_or(0, |stored| {
            let beside = stored.beside.as_ref();
            stored.counted.bytes() + beside.map_or(0, |beside| beside.counted.bytes())
        })
    }

    /// Bytes of memory that it takes, messages included.
    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes_in_memory() + self.bytes_of_rows()
    }

    /// Whether the first entry has a record, so that its message can be read back.
    pub(crate) fn is_oldest_recorded(&self) -> bool {
        match self.window.front() {
            Some(entry) => entry.recorded,
            None => {
                let stored = self.stored.as_ref();
                stored.is_none_or(|stored| stored.first_kept().is_none())
            }
        }
    }

    /// The first messages in it, at most `limit`, and no more once their topics have `bytes_max`
    /// bytes.
    pub(crate) fn head(&self, limit: usize, bytes_max: usize) -> Vec<QueuedMessage> {
        let mut bytes = 0;
        let window = self.window.iter().map(|entry| QueuedMessage {
            id: entry.message.id(),
            qos: entry.qos,
            retain: entry.retain,
            bytes: entry.message.bytes(),
            head: Some(entry.message.head()),
        });
        let rows = self.stored.iter().flat_map(|stored| stored.rows.iter());
        let stored = rows.map(StoredEntry::of_row).map(|entry| QueuedMessage {
            id: entry.id,
            qos: entry.qos,
            retain: entry.retain,
            bytes: entry.bytes as usize,
            head: None,
        });
        let all = window.chain(stored).take(limit);
        let head = all.take_while(|message| {
            let fits = bytes < bytes_max;
            bytes += message.head.as_ref().map_or(0, |head| head.topic.len());
            fits
        });
        head.collect()
    }

    /// When the message of the first entry came in, wall clock in milliseconds; none if that is not
    /// in memory.
    pub(crate) fn oldest_wall_ms(&self) -> Option<u64> {
        let first = self.window.front()?;
        Some(first.message.received_wall_ms())
    }

    /// How long ago that was.
    pub(crate) fn oldest_age_ms(&self, now_ms: u64) -> Option<u64> {
        Some(self.window.front()?.message.age_ms(now_ms))
    }

    /// The message of the first entry.
    pub(crate) fn first_message(&self) -> Option<MessageId> {
        let stored = || self.stored.as_ref()?.rows.iter().next();
        match self.window.front() {
            Some(first) => Some(first.message.id()),
            None => stored().map(|[id, _, _]| MessageId(id)),
        }
    }

    /// Entries that a share group handed over, and holds.
    pub(crate) fn lent(&self) -> usize {
        self.lent as usize
    }

    /// Adding `bytes` would exceed the bounds.
    pub(crate) fn is_full_for(&self, bytes: usize, count_max: u32, bytes_max: u64) -> bool {
        let count_max = count_max as usize + usize::from(fault::is(Fault::QueueBoundOffByOne));
        self.len() >= count_max || self.bytes() + bytes as u64 > bytes_max
    }

    /// A message is dropped for want of room; true the first time since the queue was empty.
    pub(crate) fn begins_to_drop(&mut self) -> bool {
        !core::mem::replace(&mut self.dropping, true)
    }

    /// Whether it has dropped messages since it last had room.
    pub(crate) fn is_dropping(&self) -> bool {
        self.dropping
    }

    /// Whether it has dropped messages for want of room, and has come no further than a tenth away
    /// from its bounds since.
    pub(crate) fn is_full(&self, count_max: u32, bytes_max: u64) -> bool {
        let len = self.len() as u64;
        self.dropping
            && (len * 10 >= u64::from(count_max) * 9 || self.bytes() >= bytes_max / 10 * 9)
    }

    /// An entry with a record would go to the store, and not stay in memory.
    pub(crate) fn would_store(&self, window: Window) -> bool {
        match window {
            Window::Whole => false,
            Window::Nothing => true,
            Window::Front => {
                self.stored.is_some()
                    || self.window.len() >= WINDOW_COUNT
                    || self.window_bytes >= WINDOW_BYTES
            }
        }
    }

    pub(crate) fn push_back(&mut self, entry: Entry, window: Window) {
        self.dropping &= !self.is_empty();
        if self.stored.is_some() || entry.recorded && self.would_store(window) {
            let gauge = Arc::clone(entry.message.gauge());
            self.push_back_stored(&entry.stored(), &gauge);
            return;
        }
        self.count(&entry);
        self.window.push_back(entry);
    }

    /// As [`Queue::push_back`], for an entry whose message is not in memory. `gauge` counts what
    /// memory it takes for all that.
    pub(crate) fn push_back_stored(&mut self, entry: &StoredEntry, gauge: &Arc<MemoryGauge>) {
        self.note_expiry(entry.expires_at_ms);
        self.count_ticket(entry.apart.ticket.as_deref());
        self.stored.get_or_insert_default().push_back(entry, gauge);
    }

    pub(crate) fn push_front(&mut self, entry: Entry) {
        self.count(&entry);
        self.window.push_front(entry);
    }

    /// The first entry, if its message is in memory.
    pub(crate) fn pop_front(&mut self) -> Option<Entry> {
        self.fetch_kept();
        let entry = self.pop_window()?;
        if self.window.is_empty() && self.window.capacity() > 64 {
            self.window = VecDeque::new();
        }
        Some(entry)
    }

    /// The first entry, wherever its message is.
    pub(crate) fn take_oldest(&mut self) -> Option<TakenEntry> {
        if let Some(entry) = self.pop_front() {
            return Some(TakenEntry::Held(entry));
        }
        Some(TakenEntry::Stored(self.take_first_stored()?))
    }

    /// The first entry behind the window.
    pub(crate) fn take_oldest_stored(&mut self) -> Option<TakenEntry> {
        Some(TakenEntry::Stored(self.take_first_stored()?))
    }

    /// Takes out what a share group handed over, in the order in which it came. Looks at no more of
    /// a long queue than it has to.
    pub(crate) fn take_shared(&mut self) -> Vec<TakenEntry> {
        let mut taken = Vec::new();
        let mut stay = Vec::new();
        let is_shared = |entry: &Entry| entry.ticket.is_some();
        let last = match self.shared {
            0 => None,
            _ => self.window.iter().rposition(is_shared),
        };
        for _ in 0..last.map_or(0, |last| last + 1) {
            match self.pop_window() {
                Some(entry) if is_shared(&entry) => taken.push(TakenEntry::Held(entry)),
                Some(entry) => stay.push(entry),
                None => break,
            }
        }
        for entry in stay.into_iter().rev() {
            self.push_front(entry);
        }
        if self.shared > 0
            && let Some(stored) = &mut self.stored
        {
            for entry in stored.take_shared() {
                self.uncount_ticket(entry.apart.ticket.as_deref());
                taken.push(TakenEntry::Stored(entry));
            }
        }
        self.drop_empty_store();
        taken
    }

    /// Empties it, as far as the entries are taken.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = TakenEntry> {
        core::iter::from_fn(|| self.take_oldest())
    }

    /// Entries that take memory of their own, beside a row: those of the window, and what does not
    /// fit into rows.
    pub(crate) fn in_memory(&self) -> usize {
        let beside = self
            .stored
            .as_ref()
            .and_then(|stored| stored.beside.as_ref());
        self.window.len() + beside.map_or(0, |beside| beside.apart.len())
    }

    /// The client has left: what has a record needs no memory.
    pub(crate) fn put_away(&mut self, window: Window) {
        let Some(first) = self.window.front().filter(|_| window == Window::Nothing) else {
            return;
        };
        let gauge = Arc::clone(first.message.gauge());
        let entries = core::mem::take(&mut self.window);
        if let Some(sweep) = &mut self.sweep {
            // They may not have been looked at, and come before what has.
            sweep.begin_window_anew();
            let earliest = entries.iter().map(|entry| entry.message.expires_at_ms());
            self.note_expiry(earliest.min().unwrap_or(u64::MAX));
        }
        self.window_bytes = 0;
        self.counted = CountedBytes::NOTHING;
        let stored = self.stored.get_or_insert_default();
        stored.push_front_all(entries.into_iter().map(Entry::stored), &gauge);
    }

    /// The window runs low: which messages are to be read back. None while a page is on its way.
    pub(crate) fn page_to_read(&mut self) -> Option<Vec<MessageId>> {
        let stored = self.stored.as_mut().filter(|_| !self.reading)?;
        let page_count = PAGE_COUNT << stored.doublings;
        if self.window.len() >= page_count || self.window_bytes >= WINDOW_BYTES / 2 {
            return None;
        }
        stored.rows.ready_front();
        let mut bytes = 0;
        let page = stored.rows.iter().take(page_count).take_while(|row| {
            let begins = bytes == 0;
            bytes += row_bytes(*row);
            begins || bytes <= PAGE_BYTES
        });
        let page = page.map(|[id, _, _]| MessageId(id)).collect();
        self.reading = true;
        Some(page)
    }

    /// The page asked for has come, in the queue's order. Entries that have gone meanwhile are
    /// passed over; those whose message cannot be read are given back, with the reason.
    pub(crate) fn page_read(
        &mut self,
        page: impl Iterator<Item = ReadMessage>,
    ) -> Vec<(StoredEntry, String)> {
        self.reading = false;
        if let Some(stored) = self.stored.as_mut().filter(|_| self.window.is_empty()) {
            stored.doublings = (stored.doublings + 1).min(PAGE_DOUBLINGS_MAX);
        }
        let mut damaged = Vec::new();
        let mut lost = fault::is(Fault::PageFirstLost);
        for (id, message) in page {
            let first = self.stored.as_ref().and_then(|stored| stored.rows.front());
            if first.is_none_or(|[first, _, _]| first != id.0) {
                continue;
            }
            let Some(entry) = self.take_first_stored() else {
                break;
            };
            match entry.apart.message.clone().map_or(message, Ok) {
                Ok(_) if core::mem::take(&mut lost) => {}
                Ok(message) => {
                    let entry = entry.with(message);
                    self.count(&entry);
                    self.window.push_back(entry);
                }
                Err(why) => damaged.push((entry, why)),
            }
        }
        if fault::is(Fault::PageLastLost)
            && let Some(last) = self.window.pop_back()
        {
            self.uncount(&last);
        }
        if fault::is(Fault::PageTakesOneMore) {
            self.take_first_stored();
        }
        damaged
    }

    fn count(&mut self, entry: &Entry) {
        self.note_expiry(entry.message.expires_at_ms());
        self.count_ticket(entry.ticket.as_deref());
        self.window_bytes += entry.message.bytes() as u64;
        self.counted.add(entry.message.gauge(), size_of::<Entry>());
    }

    fn uncount(&mut self, entry: &Entry) {
        self.uncount_ticket(entry.ticket.as_deref());
        self.window_bytes -= entry.message.bytes() as u64;
        self.counted.sub(size_of::<Entry>());
    }

    fn count_ticket(&mut self, ticket: Option<&ShareTicket>) {
        self.shared += u32::from(ticket.is_some());
        self.lent += u32::from(ticket.is_some_and(|ticket| !ticket.taken));
    }

    fn uncount_ticket(&mut self, ticket: Option<&ShareTicket>) {
        self.shared -= u32::from(ticket.is_some());
        self.lent -= u32::from(ticket.is_some_and(|ticket| !ticket.taken));
    }

    #[inline]
    fn pop_window(&mut self) -> Option<Entry> {
        let entry = self.window.pop_front()?;
        self.uncount(&entry);
        if let Some(sweep) = &mut self.sweep {
            sweep.front_removed();
        }
        Some(entry)
    }

    fn take_first_stored(&mut self) -> Option<StoredEntry> {
        let entry = self.stored.as_mut()?.pop_front();
        self.drop_empty_store();
        let entry = entry?;
        self.uncount_ticket(entry.apart.ticket.as_deref());
        Some(entry)
    }

    fn drop_empty_store(&mut self) {
        if self
            .stored
            .as_ref()
            .is_some_and(|stored| stored.rows.is_empty())
        {
            self.stored = None;
        }
    }

    /// Entries without a record that are first of all need no reading.
    fn fetch_kept(&mut self) {
        while self.window.is_empty()
            && let Some(stored) = &mut self.stored
            && let Some(message) = stored.first_kept()
            && let Some(entry) = self.take_first_stored()
        {
            let entry = entry.with(message);
            self.count(&entry);
            self.window.push_back(entry);
        }
    }
}

/// An entry that was taken out of a queue.
#[derive(Debug)]
pub(crate) enum TakenEntry {
    /// With its message.
    Held(Entry),
    /// The message was in the store.
    Stored(StoredEntry),
    /// The message was sent, and not kept.
    Unkept(Unkept),
}

impl TakenEntry {
    pub(crate) fn id(&self) -> MessageId {
        match self {
            Self::Held(entry) => entry.message.id(),
            Self::Stored(entry) => entry.id,
            Self::Unkept(sent) => sent.id,
        }
    }

    pub(crate) fn why(&self) -> EnqueuedAs {
        match self {
            Self::Held(entry) => entry.why,
            Self::Stored(entry) => entry.why,
            Self::Unkept(sent) => sent.why,
        }
    }

    /// Whether its receiver leads to a receipt for a part.
    pub(crate) fn wants_receipt(&self) -> bool {
        self.id().wants_receipts() && !matches!(self.why(), EnqueuedAs::Retained(_))
    }

    pub(crate) fn recorded(&self) -> bool {
        match self {
            Self::Held(entry) => entry.recorded,
            Self::Stored(entry) => entry.recorded(),
            Self::Unkept(_) => false,
        }
    }

    pub(crate) fn ticket(&self) -> Option<&ShareTicket> {
        match self {
            Self::Held(entry) => entry.ticket.as_deref(),
            Self::Stored(entry) => entry.apart.ticket.as_deref(),
            Self::Unkept(sent) => sent.ticket.as_ref(),
        }
    }

    /// Topic Name; empty if the message is not in memory.
    pub(crate) fn topic(&self) -> &str {
        match self {
            Self::Held(entry) => entry.message.topic(),
            Self::Stored(_) | Self::Unkept(_) => "",
        }
    }

    /// Bytes of memory that it took in its queue.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        let beside = match self {
            Self::Held(_) => size_of::<Entry>(),
            Self::Stored(_) => ROW_BYTES,
            Self::Unkept(_) => 0,
        };
        beside + self.message().map_or(0, Message::bytes)
    }

    /// The message, if it is in memory.
    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            Self::Held(entry) => Some(&entry.message),
            Self::Stored(entry) => entry.apart.message.as_ref(),
            Self::Unkept(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
