//! Reads messages of queues back into memory: bodies of the store become messages of the broker,
//! in the requested order. In two steps, so that one thread locates the bodies and another one
//! reads them.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_broker::{
    ListenerPolicy, MemoryGauge, Message, MessageId, Now, ReadMessage, SessionEpoch, SharedClient,
};
use martlet_fault::{self as fault, Fault};
use martlet_store::{BodyId, Disk, Engine, Located, Missing};

use crate::body::{StoredPublisher, decode_body};

/// A page of messages for [`Shard::messages_read`](martlet_broker::Shard::messages_read), with the
/// error for each unavailable one.
pub type FetchedPage = Vec<ReadMessage>;

/// Parameters for creating messages: the clock for expiry, and the gauge of memory.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// The time.
    pub now: Now,
    /// The memory gauge of the shard that gets the message.
    pub gauge: &'a Arc<MemoryGauge>,
    /// The listeners of the node, if the publisher of the message is needed.
    pub publishers: Option<&'a [Arc<ListenerPolicy>]>,
}

/// Locations of the bodies of a page; `None` if there is no such body.
#[derive(Clone, Debug)]
pub struct LocatedPage<F>(Vec<(MessageId, Option<Located<F>>)>);

impl<F> LocatedPage<F> {
    /// Whether all bodies are located.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|(_, located)| located.is_some())
    }
}

/// Locates the bodies of a page, without reading them.
pub fn locate<D: Disk>(engine: &Engine<D>, ids: &[MessageId]) -> LocatedPage<D::File> {
    let located = ids
        .iter()
        .map(|id| (*id, engine.locate(BodyId(id.0))))
        .collect();
    LocatedPage(located)
}

/// The result of reading a page.
#[derive(Debug)]
pub struct PageFound {
    /// Messages of the page.
    pub messages: FetchedPage,
    /// The first message for which the disk returned an error: a later read may succeed.
    pub unread: Option<usize>,
}

/// Reads pages whose bodies have been located, all together, in disk order.
pub fn read_located<D: Disk>(
    disk: &D,
    pages: &[(&LocatedPage<D::File>, Making<'_>)],
) -> Vec<PageFound> {
    // Nearly all are located and then read: no error text for these.
    let unread = |located: &Option<_>| match located {
        Some(_) => Err(String::new()),
        None => Err(Missing::Unknown.to_string()),
    };
    let empty = |(page, _): &(&LocatedPage<D::File>, Making<'_>)| PageFound {
        messages: page
            .0
            .iter()
            .map(|(id, located)| (*id, unread(located)))
            .collect(),
        unread: None,
    };
    let mut read: Vec<PageFound> = pages.iter().map(empty).collect();
    let mut requested = Vec::new();
    let mut publishers = Publishers::default();
    for (number, (page, _)) in pages.iter().enumerate() {
        for (place, (_, located)) in page.0.iter().enumerate() {
            let is_lost = place == 0 && fault::is(Fault::PageFirstUnread)
                || place + 1 == page.0.len() && fault::is(Fault::PageLastUnread);
            if let Some(located) = located.as_ref().filter(|_| !is_lost) {
                requested.push((located, (number, place)));
            }
        }
    }
    martlet_store::read_located(disk, &requested, |(number, place), bytes| {
        let PageFound { messages, unread } = &mut read[number];
        let (id, message) = &mut messages[place];
        if matches!(bytes, Err(Missing::Disk { .. })) {
            *unread = Some(unread.map_or(place, |first| first.min(place)));
        }
        *message = match bytes {
            Ok(bytes) => message_of(*id, bytes, pages[number].1, &mut publishers),
            Err(missing) => Err(missing.to_string()),
        };
    });
    read
}

fn message_of(
    id: MessageId,
    bytes: &[u8],
    making: Making<'_>,
    publishers: &mut Publishers,
) -> Result<Message, String> {
    let body = decode_body(id, bytes).map_err(|error| error.to_string())?;
    let Making { now, gauge, .. } = making;
    let stored = body.publisher.as_ref().zip(making.publishers);
    let stored = stored.filter(|_| !fault::is(Fault::PublisherNotRestored));
    let client = stored.map(|(stored, listeners)| publishers.client(stored, listeners, gauge));
    Ok(Message::restored(&body.message, None, client, now, gauge))
}

/// The publishers of messages: one client for all messages of a connection.
#[derive(Debug, Default)]
pub(crate) struct Publishers(HashMap<SessionEpoch, SharedClient>);

impl Publishers {
    /// The publishing client. Its listener is the one of `listeners` with its mark; `gauge` counts
    /// its memory.
    pub(crate) fn client(
        &mut self,
        stored: &StoredPublisher<'_>,
        listeners: &[Arc<ListenerPolicy>],
        gauge: &Arc<MemoryGauge>,
    ) -> SharedClient {
        let known = self.0.get(&stored.epoch);
        // A session may have had several clients.
        if let Some(known) = known.filter(|known| stored.is_of(known)) {
            return SharedClient::clone(known);
        }
        let client = SharedClient::new(stored.client(listeners).counted_by(gauge));
        self.0.insert(stored.epoch, SharedClient::clone(&client));
        client
    }
}
