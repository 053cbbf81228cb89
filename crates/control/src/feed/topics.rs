//! Events as messages, on topics of the node's own: `$events/KIND`. So integrations take them, with
//! queues and dead letters, as they take all messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{EVENTS, NewMessage, Published, TenantId};
use martlet_codec::QoS;
use tracing::warn;

use super::entry::{EntryContent, EventOf, FeedEntry, Happened};
use super::{Filter, From, Kinds};
use crate::control::Control;
use crate::event::NodeNotice;
use crate::event_kind::EventKind;
use crate::presence::ClientSource;

/// The publisher that events show.
const PUBLISHER: &str = "$events";
/// Time until messages are tried again for which memory, the store or a queue has no room.
const AGAIN: Duration = Duration::from_secs(1);
/// Messages of one command.
const MESSAGES: usize = 128;

/// Kinds that may be published. Of others, each message of an event would lead to another event.
const PUBLISHABLE: &[EventKind] = &[
    EventKind::Connected,
    EventKind::Authenticated,
    EventKind::Refused,
    EventKind::ReauthenticationRefused,
    EventKind::TakenOver,
    EventKind::Disconnected,
    EventKind::SessionEnded,
    EventKind::Subscribed,
    EventKind::Unsubscribed,
    EventKind::SubscribeRefused,
    EventKind::PublishRefused,
    EventKind::DeviceInactive,
    EventKind::DeviceActive,
    EventKind::AlarmRaised,
    EventKind::AlarmChanged,
    EventKind::TwinChanged,
];

/// Kinds of events about changes of the tables. Each is in the outbox with its change.
const OF_TABLES: &[EventKind] = &[
    EventKind::DeviceInactive,
    EventKind::DeviceActive,
    EventKind::AlarmRaised,
    EventKind::AlarmChanged,
    EventKind::TwinChanged,
];

/// Kinds of events that are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKinds(Vec<EventKind>);

/// A name that no kind has that may be published.
#[derive(Debug, PartialEq, Eq)]
pub struct NotPublishable(String);

impl fmt::Display for NotPublishable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = PublishedKinds::publishable().collect();
        let Self(name) = self;
        let names = names.join(", ");
        write!(
            f,
            "{name:?} is not a kind of event that can be published: expected some of {names}"
        )
    }
}

impl PublishedKinds {
    /// From names with commas between them; none if there are no names.
    ///
    /// # Errors
    /// A name of no such kind.
    pub fn parse(text: &str) -> Result<Option<Self>, NotPublishable> {
        let names = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let kinds = names.map(|name| {
            let mut all = PUBLISHABLE.iter().copied();
            let found = all.find(|kind| kind.name() == name);
            found.ok_or_else(|| NotPublishable(name.to_owned()))
        });
        let kinds: Vec<EventKind> = kinds.collect::<Result<_, _>>()?;
        Ok((!kinds.is_empty()).then_some(Self(kinds)))
    }

    /// Their names.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|kind| kind.name()).collect()
    }

    /// Kinds of them that are about changes of the tables; none if there are none.
    pub(crate) fn of_tables(&self) -> Option<Self> {
        self.filtered(|kind| OF_TABLES.contains(kind))
    }

    /// Whether this kind is among them.
    pub(crate) fn has(&self, kind: EventKind) -> bool {
        self.0.contains(&kind)
    }

    fn filtered(&self, is_one: impl Fn(&EventKind) -> bool) -> Option<Self> {
        let kinds: Vec<EventKind> = self.0.iter().copied().filter(is_one).collect();
        (!kinds.is_empty()).then_some(Self(kinds))
    }

    /// Names of the kinds that may be published.
    pub(crate) fn publishable() -> impl Iterator<Item = &'static str> {
        PUBLISHABLE.iter().map(|kind| kind.name())
    }
}

/// Publishes events of these kinds, for as long as the node runs, but for those about changes of
/// the tables, which are in the outbox. Events of a tenant are published in it.
pub async fn publish_events(control: Arc<Control>, kinds: PublishedKinds) {
    let Some(kinds) = kinds.filtered(|kind| !OF_TABLES.contains(kind)) else {
        return;
    };
    let filter = Filter {
        kinds: Kinds::of(&kinds.0),
        ..Filter::default()
    };
    let mut reader = match control.feed.read(filter, &From::Now) {
        Ok(reader) => reader,
        Err(error) => return warn!(%error, "cannot publish events"),
    };
    while let Some(batch) = reader.next().await {
        if batch.missed > 0 {
            warn!(
                events = batch.missed,
                "events were lost before they were published"
            );
        }
        let run = control.feed.run();
        let created: Vec<(TenantId, NewMessage)> = batch
            .entries()
            .filter_map(|entry| message(&entry, run))
            .collect();
        for some in created.chunk_by(|(one, _), (other, _)| one == other) {
            for some in some.chunks(MESSAGES) {
                publish(&control, some).await;
            }
        }
    }
}

async fn publish(control: &Control, some: &[(TenantId, NewMessage)]) {
    let tenant = some
        .first()
        .map_or(TenantId::default(), |(tenant, _)| *tenant);
    let messages = some.iter().map(|(_, message)| message.clone());
    let mut messages: Vec<NewMessage> = messages.collect();
    while !messages.is_empty() {
        let events = messages.len();
        match control.publish(PUBLISHER, tenant, messages.clone()).await {
            Ok(outcomes) => {
                let outcomes = outcomes.iter().map(Published::comes_later);
                let again = messages.into_iter().zip(outcomes);
                messages = again
                    .filter_map(|(one, again)| again.then_some(one))
                    .collect();
            }
            Err(error) => {
                warn!(%error, events, "events may not have been published");
                return;
            }
        }
        if !messages.is_empty() {
            // The feed keeps those behind it, as long as they fit.
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// The topic of events of a kind.
pub(crate) fn event_topic(kind: EventKind) -> String {
    format!("{EVENTS}{}", kind.name())
}

/// An event as JSON, under this name and number. `who`: its client, as far as that is known.
pub(crate) fn payload_of(
    notice: NodeNotice,
    who: Option<ClientSource>,
    name: &str,
    number: u64,
    at_ms: u64,
) -> Option<String> {
    let (kind, tenant) = (notice.event.kind(), notice.head.tenant);
    let content = EntryContent::Event(Box::new(EventOf { notice, who }));
    let entry = FeedEntry {
        seq: number,
        at_ms,
        kind,
        tenant,
        content: &content,
    };
    serde_json::to_string(&entry.shown(name, 0).ok()?).ok()
}

/// None for events that were lost.
fn message(entry: &FeedEntry<'_>, run: &str) -> Option<(TenantId, NewMessage)> {
    let shown = entry.shown(run, 0).ok()?;
    let payload = serde_json::to_vec(&shown).ok()?;
    let hops = match entry.what() {
        Happened::Event(told) => told.event.hops(),
        _ => 0,
    };
    let message = NewMessage {
        topic: event_topic(entry.kind).into(),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        payload_is_utf8: Some(true),
        content_type: Some("application/json".into()),
        hops,
        ..NewMessage::default()
    };
    Some((entry.tenant, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_lead_to_further_events_are_not_published() {
        assert_eq!(PublishedKinds::parse(" , "), Ok(None));
        let two = PublishedKinds(vec![EventKind::Connected, EventKind::Refused]);
        assert_eq!(PublishedKinds::parse("connected, refused"), Ok(Some(two)));
        for name in ["published", "delivered", "dropped", "packet", "all", "x"] {
            let error = PublishedKinds::parse(name).expect_err(name).to_string();
            assert!(error.contains("session_ended"), "{error}");
        }
    }
}
