//! How old telemetry is when a subscriber has it: from the device's own time to the PUBACK or
//! PUBREC of a subscriber, or to the write of a message with QoS 0.
//!
//! It is taken from the node's events, which are built for it only while it is on. What events miss
//! is not measured; clients never wait.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use martlet_broker::{DeliveredMessage, Event, MessageId, PublishedMessage};
use tracing::{debug, warn};

use super::Telemetry;
use super::latency::newest_own_time;
use super::rule::DEVICE;
use crate::event_kind::EventKind;
use crate::feed::{EventBatch, Filter, From, Happened, Kinds};
use crate::remembered::Name;

/// Messages that are remembered until subscribers have them, at most.
const MESSAGES_MAX: usize = 10_000;
/// Longest payload that is read.
const PAYLOAD_MAX: usize = 16 * 1024;

/// Messages with telemetry that were published last: the type of the device, and its newest time,
/// µs since the Unix epoch.
#[derive(Debug, Default)]
struct RecentMessages {
    by_id: HashMap<MessageId, (Arc<str>, i64)>,
    /// The oldest one first.
    order: VecDeque<MessageId>,
}

impl RecentMessages {
    fn add(&mut self, id: MessageId, device_type: Arc<str>, time: i64) {
        if self.by_id.insert(id, (device_type, time)).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > MESSAGES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}

impl Telemetry {
    /// Measures how old values are when subscribers have them, for as long as the node runs.
    pub async fn measure_subscribers(self: Arc<Self>) {
        let filter = Filter {
            kinds: Kinds::of(&[EventKind::Published, EventKind::Delivered]),
            topics: self.filters().into_iter().map(String::from).collect(),
            payload_bytes: PAYLOAD_MAX,
            ..Filter::default()
        };
        let mut reader = match self.control().feed.read(filter, &From::Now) {
            Ok(reader) => reader,
            Err(error) => return warn!(%error, "cannot measure the latency to subscribers"),
        };
        let mut sent = RecentMessages::default();
        while let Some(batch) = reader.next().await {
            self.note_published(&batch, &mut sent).await;
            for delivered in delivered(&batch) {
                if let Some((device_type, time)) = sent.by_id.get(&delivered.id) {
                    let at = i64::try_from(delivered.at_ms).unwrap_or(i64::MAX);
                    self.ages
                        .note_delivered(device_type, *time, at.saturating_mul(1_000));
                }
            }
        }
    }

    /// Remembers the messages of a batch that have telemetry with a time of the device.
    async fn note_published(&self, batch: &EventBatch, sent: &mut RecentMessages) {
        let mut timed: Vec<(MessageId, Name, i64)> = Vec::new();
        for entry in batch.entries() {
            if let Happened::Event(told) = entry.what()
                && let Some(Event::Published(message)) = told.event.shard()
                && let Some((device, time)) = self.time_of(&told.head.client_id, message)
            {
                timed.push((message.id, (entry.tenant.0, device), time));
            }
        }
        if timed.is_empty() {
            return;
        }
        let names: BTreeSet<Name> = timed.iter().map(|(_, name, _)| name.clone()).collect();
        match self.devices(names).await {
            Ok(devices) => {
                for (id, name, time) in timed {
                    if let Some(device) = devices.get(&name) {
                        sent.add(id, Arc::clone(&device.device_type), time);
                    }
                }
            }
            Err(error) => debug!(%error, "cannot measure the latency to subscribers now"),
        }
    }

    /// The device that a message is of, and its newest time in it; none: it has no telemetry, or
    /// the device has given no time.
    fn time_of(&self, publisher: &str, message: &PublishedMessage) -> Option<(String, i64)> {
        if message.payload.len() < message.payload_bytes {
            return None;
        }
        let (rule, names) = self.rule_of(&message.topic)?;
        let device = names.get(DEVICE).unwrap_or(publisher).to_owned();
        let received = i64::try_from(message.at_ms).unwrap_or(i64::MAX);
        let received = received.saturating_mul(1_000);
        let decoded = rule.decoder.decode(&message.payload, received).ok()?;
        Some((device, newest_own_time(&decoded)?))
    }
}

/// Messages that subscribers have got.
fn delivered(batch: &EventBatch) -> impl Iterator<Item = &DeliveredMessage> {
    batch.entries().filter_map(|entry| match entry.what() {
        Happened::Event(told) => match told.event.shard()? {
            Event::Delivered(message) => Some(&**message),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_messages_are_forgotten() {
        let mut sent = RecentMessages::default();
        for id in (0..MESSAGES_MAX as u64 + 5).map(MessageId) {
            sent.add(id, "pump".into(), 7);
            sent.add(id, "pump".into(), 8);
        }
        assert_eq!(
            (sent.by_id.len(), sent.order.len()),
            (MESSAGES_MAX, MESSAGES_MAX)
        );
        assert!(!sent.by_id.contains_key(&MessageId(4)) && sent.by_id[&MessageId(5)].1 == 8);
    }
}
