//! Retained messages that were taken away: for the question why a client gets none.
//!
//! A shard remembers the last of the topics that were cleared by what it received; the shard that
//! looks for expired messages remembers those too.

pub(crate) mod table;

use core::hash::BuildHasher;
use std::sync::Arc;

use martlet_permission::TenantId;

use crate::id::ShardId;
use crate::message::{Message, Publication};
use crate::node::{Cx, Node};
use crate::report::{RetainedEnd, RetainedEnded};
use crate::shard::Shard;
use crate::time::Now;

impl Shard {
    /// A message of this shard has cleared the retained message of its topic.
    #[cold]
    pub(crate) fn note_cleared(&mut self, publication: &Publication<'_>) {
        let (tenant, topic) = (publication.tenant, publication.topic);
        let place = self.seed.hash_one((tenant, topic)) as usize;
        let session = publication
            .publisher
            .and_then(|publisher| self.sessions.get(publisher.session));
        let client_id = || session.map(|session| Arc::clone(&session.client_id));
        let at_ms = publication.received_wall_ms;
        self.noted
            .retained_ends
            .note(place, tenant, topic, RetainedEnd::Cleared, at_ms, client_id);
    }

    /// A retained message was taken away because it had expired.
    #[cold]
    pub(crate) fn note_expired(&mut self, now: Now, message: &Message) {
        let (tenant, topic) = (message.tenant(), message.topic());
        let place = self.seed.hash_one((tenant, topic)) as usize;
        let ago_ms = now.mono_ms.saturating_sub(message.expires_at_ms());
        let at_ms = now.wall_ms.saturating_sub(ago_ms);
        let client = message.client();
        let client_id = || client.map(|client| Arc::clone(&client.client_id));
        self.noted
            .retained_ends
            .note(place, tenant, topic, RetainedEnd::Expired, at_ms, client_id);
    }

    /// Retained messages that were taken away, of the topics that a Topic Filter matches. One that
    /// has expired may wait for that: of a Topic Name it is noted now.
    pub(crate) fn retained_ended<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
    ) -> Vec<RetainedEnded> {
        let now_ms = cx.now.mono_ms;
        if self.id == ShardId(0)
            && let Some(message) = cx
                .node
                .retained(|store| store.expired(tenant, filter, now_ms))
        {
            self.note_expired(cx.now, &message);
        }
        self.noted.retained_ends.of(tenant, filter)
    }
}
