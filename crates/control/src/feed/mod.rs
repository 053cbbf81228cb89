//! Live events for readers: one ring of the latest events, and a cursor for each reader.
//!
//! Readers are not waited for. A reader that is too slow loses the oldest events and gets their
//! number. Events without a reader cost nothing, because only wanted events are built (`interest`).
//! Numbers never repeat while the node runs. The name of the run distinguishes them after a
//! restart.

mod entry;
mod filter;
mod interest;
mod line;
mod lines;
mod paced;
mod panel;
mod push;
mod push_state;
mod ring;
mod together;
mod topics;

pub use entry::FeedEntry;
pub(crate) use entry::Happened;
use entry::{EntryContent, EventOf};
pub(crate) use filter::has_topic;
pub use filter::{Filter, Kinds, NoKind, Sample};
pub use line::{EventGap, FeedEvent};
pub use lines::EventTexts;
pub use panel::{Frame, Panel};
pub use push::{Push, run as push};
pub use push_state::{PushState, PushStatus};
pub use ring::{Block, BlockPart, Bounds};
pub(crate) use together::{length, together};
pub use topics::{NotPublishable, PublishedKinds, publish_events};
pub(crate) use topics::{event_topic, payload_of};
pub(crate) use why::PublishedTopics;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use martlet_broker::{Event, EventInterest, SharedClient, TenantId};
use martlet_codec::PacketType;
use tokio::sync::watch;

use crate::event::{NodeEvent, NodeNotice};
use crate::presence::{ClientSource, ClientTable, Presence};
use crate::wall_clock::now_ms;
use interest::Wants;
use lines::KeptLines;
use ring::{Blocks, Ring};

/// Events that are looked at in one go, at most, and bytes after which no more are: a reader that
/// does not read holds that much beside the feed.
const PART: usize = 1_024;
const PART_BYTES: usize = 128 * 1024;
/// Readers at once, at most.
const READERS_MAX: usize = 256;

/// The latest events of this node.
#[derive(Debug)]
pub struct Feed {
    run: String,
    /// One writes at a time.
    writing: Mutex<()>,
    ring: Mutex<Ring>,
    lines: KeptLines,
    /// The number of the last event; it ends with the feed.
    last: watch::Sender<u64>,
    closed: watch::Sender<bool>,
    wants: Wants,
}

/// Position at which a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// New events only.
    Now,
    /// The last events that are kept, this number of them, whether they match or not.
    Tail(usize),
    /// Events after this one, `run-seq`.
    After(String),
}

/// Events for a reader.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// Number of events that may have matched but are no longer kept.
    pub missed: u64,
    /// The reader's position was of another run of the node.
    pub is_new_run: bool,
    /// In order.
    pub parts: Vec<BlockPart>,
}

impl EventBatch {
    /// Events of the batch, in order.
    pub fn entries(&self) -> impl Iterator<Item = FeedEntry<'_>> {
        self.parts.iter().flat_map(BlockPart::entries)
    }
}

/// Too many read already.
#[derive(Debug, thiserror::Error)]
#[error("{READERS_MAX} streams of events are open; close one of them first")]
pub struct TooMany;

impl Feed {
    /// A feed that keeps events within `bounds`, and sets by `set_interest` which events shards
    /// report. `base` is always among them, without any reader; shards have it from the start.
    pub(crate) fn new(
        set_interest: interest::SetInterest,
        bounds: Bounds,
        base: EventInterest,
    ) -> Self {
        // Two runs differ in their first microsecond.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since.unwrap_or_default().as_micros() as u64;
        Self {
            run: format!("{micros:x}"),
            writing: Mutex::default(),
            ring: Mutex::new(Ring::new(bounds)),
            lines: KeptLines::default(),
            last: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            wants: Wants::new(set_interest, base),
        }
    }

    /// The name of this run of the node.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Feed that keeps no more than these bytes.
    pub(crate) fn within(self, bytes: usize) -> Self {
        self.lines.set_bytes_max(bytes / 4);
        let mut ring = self.ring();
        ring.bounds.bytes = ring.bounds.bytes.min(bytes - bytes / 4);
        drop(ring);
        self
    }

    /// Approximate number of bytes of what is kept.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.ring().bytes() + self.lines.memory_bytes()
    }

    /// Sets the events that the log wants, beside those of the readers.
    pub fn set_logged(&self, interest: EventInterest) {
        self.wants.set_logged(interest);
    }

    /// Writes events, which it takes out of their list, and the number of events that were lost
    /// before them. Presence is updated; `before` is called for each event before that. Messages
    /// that were dropped together are one event, for which it is called once; they are kept one by
    /// one while a reader wants that.
    pub(crate) fn write(
        &self,
        events: &mut Vec<NodeNotice>,
        lost: u64,
        presence: &Presence,
        mut before: impl FnMut(&ClientTable, &NodeNotice),
    ) {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = now_ms();
        let mut next = self.ring().next();
        let mut blocks = Blocks::default();
        let mut put = |at_ms, tenant, content| {
            blocks.push(next, at_ms, tenant, content);
            next += 1;
        };
        if lost > 0 {
            put(now_ms, TenantId::default(), EntryContent::Lost(lost));
        }
        let mut known = presence.begin();
        let wants_each = self.wants.wants_each();
        let mut events = events.drain(..);
        while let Some(first) = events.as_slice().first() {
            before(&known, first);
            let length = length(events.as_slice());
            let together = together(events.as_slice(), length);
            let mut with_it = events.by_ref().take(length);
            let Some(notice) = with_it.next() else {
                break;
            };
            let tenant = notice.head.tenant;
            let others: Vec<NodeNotice> = with_it.filter(|_| wants_each).collect();
            let at_ms = at_ms(&notice.event).unwrap_or(now_ms);
            let who = known.note(&notice, at_ms);
            let who = who_comes(&notice, events.as_slice()).or(who);
            let each = |notice| EventOf {
                notice,
                who: who.clone(),
            };
            let first = (wants_each && together.is_some()).then(|| notice.clone());
            for notice in first.into_iter().chain(others) {
                put(at_ms, tenant, EntryContent::Each(Box::new(each(notice))));
            }
            let content = match (notice, together) {
                (
                    NodeNotice {
                        event: NodeEvent::Shard(Event::Connected(client)),
                        ..
                    },
                    _,
                ) => EntryContent::Connected(client),
                (notice, Some(together)) => {
                    EntryContent::Together(Box::new((EventOf { notice, who }, together)))
                }
                (notice, None) => EntryContent::Event(Box::new(EventOf { notice, who })),
            };
            put(at_ms, tenant, content);
        }
        drop(known);
        let blocks = blocks.into_blocks();
        self.lines.prepare(&self.run, &blocks);
        let removed = self.ring().push(blocks);
        drop(removed);
        self.last.send_replace(next - 1);
    }

    /// Adds a reader of the events that the filter lets through.
    ///
    /// # Errors
    /// There is no place for another one.
    pub fn read(self: &Arc<Self>, filter: Filter, from: &From) -> Result<FeedReader, TooMany> {
        let (interest, each) = (filter.interest(), filter.wants_each());
        let place = self.wants.add(interest, each, READERS_MAX);
        let place = place.ok_or(TooMany)?;
        let ring = self.ring();
        let (next, is_new_run) = match from {
            From::Now => (ring.next(), false),
            From::Tail(count) => {
                let count = (*count).min(ring.len()) as u64;
                (ring.next() - count, false)
            }
            From::After(id) => match id.rsplit_once('-') {
                Some((run, seq)) if run == self.run => {
                    let after = seq.parse::<u64>().unwrap_or(0).saturating_add(1);
                    (after.min(ring.next()), false)
                }
                _ => (ring.first(), true),
            },
        };
        drop(ring);
        Ok(FeedReader {
            feed: Arc::clone(self),
            place,
            last: self.last.subscribe(),
            closed: self.closed.subscribe(),
            filter,
            next,
            is_new_run,
        })
    }

    /// The log has a line for each dropped message: `log.drops`.
    pub(crate) fn logs_drops(&self) -> bool {
        self.wants.logs_drops()
    }

    /// How many read.
    pub fn readers(&self) -> usize {
        self.wants.readers()
    }

    /// Ends what is read: the node stops.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader, with a cursor. While it exists, the events that it wants are built.
#[derive(Debug)]
pub struct FeedReader {
    feed: Arc<Feed>,
    place: u64,
    last: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    filter: Filter,
    next: u64,
    is_new_run: bool,
}

impl FeedReader {
    /// Waits for the next events; none: the node stops. A cancelled wait loses nothing.
    pub async fn next(&mut self) -> Option<EventBatch> {
        self.next_with(|| std::future::ready(())).await
    }

    /// Next events; once there are some, they are taken when `room` is ready.
    pub async fn next_with<R: Future<Output = ()>>(
        &mut self,
        room: impl Fn() -> R,
    ) -> Option<EventBatch> {
        // Where there is always more, a reader would keep its thread from all others.
        tokio::task::yield_now().await;
        loop {
            if self.is_new_run || *self.last.borrow_and_update() >= self.next {
                room().await;
                let batch = self.take();
                if batch.missed > 0 || batch.is_new_run || !batch.parts.is_empty() {
                    return Some(batch);
                }
                // There may be more, of which nothing may be wanted: others have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                changed = self.last.changed() => changed.ok()?,
                _ = self.closed.wait_for(|closed| *closed) => return None,
            }
        }
    }

    /// Events that are there now, as far as one part goes.
    pub fn take(&mut self) -> EventBatch {
        let mut batch = EventBatch {
            is_new_run: std::mem::take(&mut self.is_new_run),
            ..EventBatch::default()
        };
        {
            let ring = self.feed.ring();
            let first = ring.first();
            batch.missed = first.saturating_sub(self.next);
            self.next = self.next.max(first);
            batch.parts = ring.from(self.next, PART, PART_BYTES);
        }
        let taken: usize = batch.parts.iter().map(BlockPart::len).sum();
        self.next += taken as u64;
        batch.parts.retain_mut(|part| {
            self.filter.pass(part);
            !part.runs.is_empty()
        });
        batch
    }

    /// The events of a part as text, and which of its lines they are.
    pub fn lines(&self, part: &BlockPart) -> (Arc<EventTexts>, Vec<Range<usize>>) {
        let feed = &self.feed;
        feed.lines.of(&feed.run, part, self.filter.payload_bytes)
    }

    /// From now on something else is wanted.
    pub fn set_filter(&mut self, filter: Filter) {
        let (interest, each) = (filter.interest(), filter.wants_each());
        self.feed.wants.replace(self.place, interest, each);
        self.filter = filter;
    }

    /// Filter of the reader.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The name of the run.
    pub fn run(&self) -> &str {
        &self.feed.run
    }

    /// Number of events that were written and that it has not looked at yet.
    pub fn behind(&self) -> u64 {
        (*self.last.borrow() + 1).saturating_sub(self.next)
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        self.feed.wants.remove(self.place);
    }
}

/// The client of a CONNECT, which is reported before the client counts as connected.
fn who_comes(notice: &NodeNotice, next: &[NodeNotice]) -> Option<ClientSource> {
    let Some(Event::Packet {
        packet_type: PacketType::Connect,
        ..
    }) = notice.event.shard()
    else {
        return None;
    };
    // The event of its authentication is between the two.
    let (tenant, client_id) = (notice.head.tenant, &notice.head.client_id);
    let mut of_client = next
        .iter()
        .take(2)
        .filter(|next| next.head.tenant == tenant && next.head.client_id == *client_id);
    of_client.find_map(|notice| match notice.event.shard()? {
        Event::Connected(client) => Some(ClientSource::Connected(SharedClient::clone(client))),
        _ => None,
    })
}

fn at_ms(event: &NodeEvent) -> Option<u64> {
    match event.shard()? {
        Event::Published(message) => Some(message.at_ms),
        Event::Delivered(message) => Some(message.at_ms),
        Event::Packet { at_ms, .. } => Some(*at_ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
mod why;
