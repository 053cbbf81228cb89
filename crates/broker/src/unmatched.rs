//! Topics that messages were published to while nobody was subscribed: for the question why a
//! message did not arrive.
//!
//! A shard remembers the last of the topics that it received messages of, and of those that other
//! shards sent it for subscribers whom the rules forbid to read them. Integrations that take
//! messages by lanes are no subscribers here. A retained message is not noted: who subscribes later
//! gets it. A topic that has receivers again is forgotten.

pub(crate) mod topics;

use std::sync::Arc;

use martlet_permission::TenantId;

use crate::report::UnmatchedTopic;
use crate::routing::Routing;
use crate::shard::Shard;

impl Shard {
    /// Notes a message that nobody here was sent; `place` is that of its route.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_unmatched(&mut self, place: usize, routing: &Routing<'_>) {
        let publication = &routing.publication;
        if publication.retain {
            return;
        }
        let is_forbidden = self.routes.is_forbidden(place);
        let (own, sessions) = (self.id, &self.sessions);
        self.unmatched.note(place, publication, is_forbidden, || {
            let publisher = publication.publisher?;
            if publisher.shard == own {
                let session = sessions.get(publisher.session)?;
                return Some(Arc::clone(&session.client_id));
            }
            let client = routing.message.as_ref()?.client()?;
            Some(Arc::clone(&client.client_id))
        });
    }

    /// The route of a topic was computed anew, and has receivers; `place` is that of the route.
    pub(crate) fn forget_unmatched(&mut self, place: usize, tenant: TenantId, topic: &str) {
        self.unmatched.forget(place, tenant, topic);
    }

    /// The topics of a tenant to which messages were published while nobody was subscribed.
    pub(crate) fn unmatched_topics(&self, tenant: TenantId) -> Vec<UnmatchedTopic> {
        self.unmatched.of(tenant)
    }
}
