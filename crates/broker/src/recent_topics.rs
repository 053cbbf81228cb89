//! Facts that a shard remembers of some topics, for questions about messages that did not arrive.
//!
//! A topic has a place by its hash, and keeps it for a while: a flood of topics costs no allocation
//! for each.

use martlet_permission::TenantId;

use crate::shortened::NAME_BYTES_MAX;

/// Topics that are remembered, at most.
const PLACES: usize = 256;

/// Time for which a topic keeps its place, milliseconds.
const KEPT_MS: u64 = 1_000;

/// A value for each of the last topics.
#[derive(Debug)]
pub(crate) struct RecentTopics<T> {
    /// As many as were needed so far.
    places: Vec<Option<RecentTopic<T>>>,
    /// Bytes of the names.
    text_bytes: usize,
}

/// A topic that is remembered.
#[derive(Debug)]
pub(crate) struct RecentTopic<T> {
    tenant: TenantId,
    pub(crate) name: Box<str>,
    /// When the value was last set.
    pub(crate) last_ms: u64,
    pub(crate) value: T,
}

impl<T> Default for RecentTopics<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            text_bytes: 0,
        }
    }
}

impl<T> RecentTopics<T> {
    /// Bytes of memory that they take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.places.capacity() * size_of::<Option<RecentTopic<T>>>() + self.text_bytes
    }

    /// Sets the value of a topic, unless another one keeps the place. `place` is a number that the
    /// topic has for now; `value` makes the value from the one that there is. Topics that begin
    /// with `$`, and long ones, are not remembered.
    pub(crate) fn set(
        &mut self,
        place: usize,
        tenant: TenantId,
        topic: &str,
        now_ms: u64,
        value: impl FnOnce(Option<T>) -> T,
    ) {
        if topic.starts_with('$') || topic.len() > NAME_BYTES_MAX {
            return;
        }
        let place = place % PLACES;
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        let place = &mut self.places[place];
        if let Some(known) = place.take_if(|known| known.is(tenant, topic)) {
            *place = Some(RecentTopic {
                last_ms: now_ms,
                value: value(Some(known.value)),
                ..known
            });
            return;
        }
        if let Some(other) = place
            && now_ms.saturating_sub(other.last_ms) < KEPT_MS
        {
            return;
        }
        let before = place.replace(RecentTopic {
            tenant,
            name: topic.into(),
            last_ms: now_ms,
            value: value(None),
        });
        self.text_bytes -= before.map_or(0, |before| before.name.len());
        self.text_bytes += topic.len();
    }

    /// Forgets a topic.
    pub(crate) fn forget(&mut self, place: usize, tenant: TenantId, topic: &str) {
        let Some(place) = self.places.get_mut(place % PLACES) else {
            return;
        };
        if let Some(forgotten) = place.take_if(|known| known.is(tenant, topic)) {
            self.text_bytes -= forgotten.name.len();
        }
    }

    /// The topics of a tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> impl Iterator<Item = &RecentTopic<T>> {
        let all = self.places.iter().flatten();
        all.filter(move |topic| topic.tenant == tenant)
    }

    /// Bytes of the names.
    #[cfg(test)]
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }
}

impl<T> RecentTopic<T> {
    fn is(&self, tenant: TenantId, topic: &str) -> bool {
        self.tenant == tenant && *self.name == *topic
    }
}
