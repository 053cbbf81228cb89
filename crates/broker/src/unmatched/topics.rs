//! Topics of messages that nobody was subscribed to.

use std::sync::Arc;

use martlet_permission::TenantId;

use crate::id::SessionAddress;
use crate::message::Publication;
use crate::report::UnmatchedTopic;

/// Topics that a shard remembers, at most.
const PLACES: usize = 256;

/// Time for which a topic keeps its place, milliseconds.
const KEPT_MS: u64 = 1_000;

/// The topics of a shard.
#[derive(Debug, Default)]
pub(crate) struct UnmatchedTopics {
    /// As many as were needed so far.
    places: Vec<Option<Topic>>,
    pub(super) text_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Topic {
    tenant: TenantId,
    name: Box<str>,
    /// Last publisher, as in [`Publication::publisher`].
    publisher: Option<SessionAddress>,
    /// Its Client Identifier; none: an operator, or a client whose session has ended.
    client_id: Option<Arc<str>>,
    count: u64,
    first_ms: u64,
    last_ms: u64,
    is_forbidden: bool,
}

impl UnmatchedTopics {
    /// Bytes of memory that they take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.places.capacity() * size_of::<Option<Topic>>() + self.text_bytes
    }

    /// Notes a message; `place` is a number that its topic has for now. `is_forbidden`: it has
    /// subscribers whom the rules forbid to read it.
    pub(crate) fn note(
        &mut self,
        place: usize,
        publication: &Publication<'_>,
        is_forbidden: bool,
        client_id: impl FnOnce() -> Option<Arc<str>>,
    ) {
        let Publication {
            tenant,
            topic,
            publisher,
            received_wall_ms: now_ms,
            ..
        } = *publication;
        let place = place % PLACES;
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        let place = &mut self.places[place];
        match place {
            Some(known) if known.tenant == tenant && *known.name == *topic => {
                known.count += 1;
                known.last_ms = now_ms;
                known.is_forbidden |= is_forbidden;
                if known.publisher != publisher {
                    (known.publisher, known.client_id) = (publisher, client_id());
                }
            }
            Some(other) if now_ms.saturating_sub(other.last_ms) < KEPT_MS => {}
            _ => {
                let before = place.replace(Topic {
                    tenant,
                    name: topic.into(),
                    publisher,
                    client_id: client_id(),
                    count: 1,
                    first_ms: now_ms,
                    last_ms: now_ms,
                    is_forbidden,
                });
                self.text_bytes -= before.map_or(0, |before| before.name.len());
                self.text_bytes += topic.len();
            }
        }
    }

    /// A topic has receivers again: what nobody got of it before is of no interest any more.
    pub(crate) fn forget(&mut self, place: usize, tenant: TenantId, topic: &str) {
        let is_it = |known: &mut Topic| known.tenant == tenant && *known.name == *topic;
        let Some(place) = self.places.get_mut(place % PLACES) else {
            return;
        };
        if let Some(forgotten) = place.take_if(is_it) {
            self.text_bytes -= forgotten.name.len();
        }
    }

    /// Those of a tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> Vec<UnmatchedTopic> {
        let all = self.places.iter().flatten();
        let of_tenant = all.filter(|topic| topic.tenant == tenant);
        let shown = of_tenant.map(|topic| UnmatchedTopic {
            topic: topic.name.clone(),
            client_id: topic.client_id.clone(),
            count: topic.count,
            first_ms: topic.first_ms,
            last_ms: topic.last_ms,
            is_forbidden: topic.is_forbidden,
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;
    use martlet_codec::QoS;

    fn publication(topic: &str, at_ms: u64) -> Publication<'_> {
        Publication {
            id: MessageId(1),
            tenant: TenantId(0),
            publisher: None,
            topic,
            forwarded: &[],
            payload: &[],
            qos: QoS::AtMostOnce,
            retain: false,
            received_wall_ms: at_ms,
            expires_at_ms: u64::MAX,
            received_mono_ms: at_ms,
            hops: 0,
        }
    }

    #[test]
    fn a_topic_keeps_its_place_for_a_while_and_is_counted() {
        let mut topics = UnmatchedTopics::default();
        let mut note = |topic: &str, at_ms| {
            topics.note(7, &publication(topic, at_ms), false, || None);
            let found = topics.of(TenantId(0));
            assert!(topics.of(TenantId(1)).is_empty());
            let found = found.iter();
            let shown = found.map(|one| format!("{} {} {}", one.topic, one.count, one.first_ms));
            (shown.collect::<Vec<_>>().join(", "), topics.text_bytes)
        };
        assert_eq!(note("a/b", 10), ("a/b 1 10".to_owned(), 3));
        assert_eq!(note("a/b", 20), ("a/b 2 10".to_owned(), 3));
        assert_eq!(note("other", 500), ("a/b 2 10".to_owned(), 3));
        assert_eq!(note("other", 1_020), ("other 1 1020".to_owned(), 5));
        topics.forget(7, TenantId(1), "other");
        topics.forget(7, TenantId(0), "a/b");
        assert_eq!(topics.of(TenantId(0)).len(), 1);
        topics.forget(7, TenantId(0), "other");
        assert_eq!((topics.of(TenantId(0)).len(), topics.text_bytes), (0, 0));
    }
}
