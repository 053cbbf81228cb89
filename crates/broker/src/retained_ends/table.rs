//! Topics whose retained message was taken away.

use std::sync::Arc;

use martlet_codec::{TopicFilter, TopicName};
use martlet_permission::TenantId;

use crate::recent_topics::{RecentTopic, RecentTopics};
use crate::report::{RetainedEnd, RetainedEnded};

/// The topics of a shard.
#[derive(Debug, Default)]
pub(crate) struct RetainedEnds(RecentTopics<End>);

/// The last end of a topic's retained message.
#[derive(Debug)]
struct End {
    end: RetainedEnd,
    /// As in [`RetainedEnded::client_id`].
    client_id: Option<Arc<str>>,
}

impl RetainedEnds {
    /// Bytes of memory that they take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    /// Notes the end of a retained message; `place` is a number that its topic has.
    pub(super) fn note(
        &mut self,
        place: usize,
        tenant: TenantId,
        topic: &str,
        end: RetainedEnd,
        at_ms: u64,
        client_id: impl FnOnce() -> Option<Arc<str>>,
    ) {
        self.0.set(place, tenant, topic, at_ms, |_| End {
            end,
            client_id: client_id(),
        });
    }

    /// Lists the ends of a tenant's retained messages whose topics a Topic Filter matches.
    pub(super) fn of(&self, tenant: TenantId, filter: &str) -> Vec<RetainedEnded> {
        let Ok(filter) = TopicFilter::new(filter) else {
            return Vec::new();
        };
        let is_requested = |topic: &&RecentTopic<End>| {
            TopicName::new(&topic.name).is_ok_and(|name| filter.matches(name))
        };
        let found = self.0.of(tenant).filter(is_requested);
        let shown = found.map(|topic| RetainedEnded {
            topic: topic.name.clone(),
            end: topic.value.end,
            at_ms: topic.last_ms,
            client_id: topic.value.client_id.clone(),
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_keeps_its_place_for_a_while() {
        let mut ends = RetainedEnds::default();
        let mut note = |topic: &str, at_ms| {
            let end = RetainedEnd::Cleared;
            ends.note(7, TenantId(0), topic, end, at_ms, || None);
            let found = ends.of(TenantId(0), "#");
            assert!(ends.of(TenantId(1), "#").is_empty() && ends.of(TenantId(0), "x").is_empty());
            let found = found
                .iter()
                .map(|one| format!("{} {}", one.topic, one.at_ms));
            (found.collect::<Vec<_>>().join(", "), ends.0.text_bytes())
        };
        assert_eq!(note("$SYS/x", 10), (String::new(), 0));
        assert_eq!(note("a/b", 10), ("a/b 10".to_owned(), 3));
        assert_eq!(note("other", 500), ("a/b 10".to_owned(), 3));
        assert_eq!(note("a/b", 510), ("a/b 510".to_owned(), 3));
        assert_eq!(note("other", 1_510), ("other 1510".to_owned(), 5));
    }
}
