//! Topics whose retained message was taken away.

use std::sync::Arc;

use martlet_codec::{TopicFilter, TopicName};
use martlet_permission::TenantId;

use crate::report::{RetainedEnd, RetainedEnded};
use crate::shortened::NAME_BYTES_MAX;

/// Topics that a shard remembers, at most.
const PLACES: usize = 256;

/// Time for which a topic keeps its place, milliseconds.
const KEPT_MS: u64 = 1_000;

/// The topics of a shard.
#[derive(Debug, Default)]
pub(crate) struct RetainedEnds {
    /// As many as were needed so far.
    places: Vec<Option<(TenantId, RetainedEnded)>>,
    text_bytes: usize,
}

impl RetainedEnds {
    /// Bytes of memory that they take.
    pub(crate) fn memory_bytes(&self) -> usize {
        let place = size_of::<Option<(TenantId, RetainedEnded)>>();
        self.places.capacity() * place + self.text_bytes
    }

    /// Notes the end of a retained message; `place` is a number that its topic has.
    pub(super) fn note(
        &mut self,
        place: usize,
        (tenant, topic): (TenantId, &str),
        end: RetainedEnd,
        at_ms: u64,
        client_id: impl FnOnce() -> Option<Arc<str>>,
    ) {
        if topic.starts_with('$') || topic.len() > NAME_BYTES_MAX {
            return;
        }
        let place = place % PLACES;
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        let place = &mut self.places[place];
        let is_other =
            |(of, one): &(TenantId, RetainedEnded)| *of != tenant || *one.topic != *topic;
        if let Some((_, one)) = place.as_ref().filter(|one| is_other(one))
            && at_ms.saturating_sub(one.at_ms) < KEPT_MS
        {
            return;
        }
        let ended = RetainedEnded {
            topic: topic.into(),
            end,
            at_ms,
            client_id: client_id(),
        };
        let before = place.replace((tenant, ended));
        self.text_bytes -= before.map_or(0, |(_, before)| before.topic.len());
        self.text_bytes += topic.len();
    }

    /// Those of a tenant that a Topic Filter matches.
    pub(super) fn of(&self, tenant: TenantId, filter: &str) -> Vec<RetainedEnded> {
        let Ok(filter) = TopicFilter::new(filter) else {
            return Vec::new();
        };
        let is_asked = |(of, one): &&(TenantId, RetainedEnded)| {
            *of == tenant && TopicName::new(&one.topic).is_ok_and(|topic| filter.matches(topic))
        };
        let all = self.places.iter().flatten().filter(is_asked);
        all.map(|(_, one)| one.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_keeps_its_place_for_a_while() {
        let mut ends = RetainedEnds::default();
        let mut note = |topic: &str, at_ms| {
            let of = (TenantId(0), topic);
            ends.note(7, of, RetainedEnd::Cleared, at_ms, || None);
            let found = ends.of(TenantId(0), "#");
            assert!(ends.of(TenantId(1), "#").is_empty() && ends.of(TenantId(0), "x").is_empty());
            let found = found
                .iter()
                .map(|one| format!("{} {}", one.topic, one.at_ms));
            (found.collect::<Vec<_>>().join(", "), ends.text_bytes)
        };
        assert_eq!(note("$SYS/x", 10), (String::new(), 0));
        assert_eq!(note("a/b", 10), ("a/b 10".to_owned(), 3));
        assert_eq!(note("other", 500), ("a/b 10".to_owned(), 3));
        assert_eq!(note("a/b", 510), ("a/b 510".to_owned(), 3));
        assert_eq!(note("other", 1_510), ("other 1510".to_owned(), 5));
    }
}
