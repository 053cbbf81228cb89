//! Topics of messages without subscribers.

use std::sync::Arc;

use martlet_permission::TenantId;

use crate::id::SessionAddress;
use crate::message::Publication;
use crate::recent_topics::RecentTopics;
use crate::report::UnmatchedTopic;

/// The topics of a shard.
#[derive(Debug, Default)]
pub(crate) struct UnmatchedTopics(RecentTopics<Unmatched>);

#[derive(Debug)]
struct Unmatched {
    /// The session that published last, as in [`Publication::publisher`].
    publisher: Option<SessionAddress>,
    /// Client Identifier; none: an operator, or a client whose session has ended.
    client_id: Option<Arc<str>>,
    count: u64,
    first_ms: u64,
    is_forbidden: bool,
    reached_all: bool,
}

/// Whom a message reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// None: there is no subscription.
    Nobody,
    /// None: the rules forbid the subscribers to read it.
    Forbidden,
    /// Only subscribers to all topics.
    OnlyAll,
}

impl UnmatchedTopics {
    /// Bytes of memory that they take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    /// Notes a message; `place` is a number that its topic has for now.
    pub(crate) fn note(
        &mut self,
        place: usize,
        publication: &Publication<'_>,
        reach: Reach,
        client_id: impl FnOnce() -> Option<Arc<str>>,
    ) {
        let Publication {
            tenant,
            topic,
            publisher,
            received_wall_ms: now_ms,
            ..
        } = *publication;
        let is_forbidden = reach == Reach::Forbidden;
        let reached_all = reach == Reach::OnlyAll;
        self.0
            .set(place, tenant, topic, now_ms, |known| match known {
                Some(mut known) => {
                    known.count += 1;
                    known.is_forbidden |= is_forbidden;
                    known.reached_all |= reached_all;
                    if known.publisher != publisher {
                        (known.publisher, known.client_id) = (publisher, client_id());
                    }
                    known
                }
                None => Unmatched {
                    publisher,
                    client_id: client_id(),
                    count: 1,
                    first_ms: now_ms,
                    is_forbidden,
                    reached_all,
                },
            });
    }

    /// A topic has receivers again: forgets earlier messages without receivers.
    pub(crate) fn forget(&mut self, place: usize, tenant: TenantId, topic: &str) {
        self.0.forget(place, tenant, topic);
    }

    /// Lists the topics of a tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> Vec<UnmatchedTopic> {
        let shown = self.0.of(tenant).map(|topic| UnmatchedTopic {
            topic: topic.name.clone(),
            client_id: topic.value.client_id.clone(),
            count: topic.value.count,
            first_ms: topic.value.first_ms,
            last_ms: topic.last_ms,
            is_forbidden: topic.value.is_forbidden,
            reached_all: topic.value.reached_all,
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
            is_will: false,
        }
    }

    #[test]
    fn a_topic_keeps_its_place_for_a_while_and_is_counted() {
        let mut topics = UnmatchedTopics::default();
        let mut note = |topic: &str, at_ms| {
            topics.note(7, &publication(topic, at_ms), Reach::Nobody, || None);
            let found = topics.of(TenantId(0));
            assert!(topics.of(TenantId(1)).is_empty());
            let found = found.iter();
            let shown = found.map(|one| format!("{} {} {}", one.topic, one.count, one.first_ms));
            (shown.collect::<Vec<_>>().join(", "), topics.0.text_bytes())
        };
        assert_eq!(note("a/b", 10), ("a/b 1 10".to_owned(), 3));
        assert_eq!(note("a/b", 20), ("a/b 2 10".to_owned(), 3));
        assert_eq!(note("other", 500), ("a/b 2 10".to_owned(), 3));
        assert_eq!(note("other", 1_020), ("other 1 1020".to_owned(), 5));
        topics.forget(7, TenantId(1), "other");
        topics.forget(7, TenantId(0), "a/b");
        assert_eq!(topics.of(TenantId(0)).len(), 1);
        topics.forget(7, TenantId(0), "other");
        assert_eq!(
            (topics.of(TenantId(0)).len(), topics.0.text_bytes()),
            (0, 0)
        );
    }
}
