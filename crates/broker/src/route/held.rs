//! Messages that are kept: made from a publication once one is needed, and retained.

use std::sync::Arc;

use martlet_permission::Limit;

use crate::connected_client::{ConnectedClient, SharedClient};
use crate::gauge::MemoryGauge;
use crate::id::{SessionAddress, SessionEpoch};
use crate::limits::ListenerPolicy;
use crate::message::{Message, Publication};
use crate::node::{Cx, Node};
use crate::retained::RetainedChange;
use crate::routing::Routing;
use crate::session::Session;
use crate::shard::Shard;
use crate::work::RETAINED_CHANGE;

/// The client of a session that has no connection: one that has left a Will.
#[cold]
fn absent_client(session: &Session, gauge: &Arc<MemoryGauge>) -> SharedClient {
    let identity = session.permit.as_ref().map(|permit| &permit.identity);
    let user_name = identity.and_then(|identity| identity.user_name.clone());
    let mut client = ConnectedClient::unknown(ListenerPolicy::unknown(), None);
    client.flags.set_user_is_proved(user_name.is_some());
    client
        .flags
        .set_is_device(identity.is_some_and(|identity| identity.is_device));
    client.version = session.version;
    client.set_names(Arc::clone(&session.client_id), user_name, gauge);
    SharedClient::new(client)
}

impl Shard {
    /// The message as something that can be held.
    #[inline]
    pub(crate) fn hold(&mut self, routing: &mut Routing<'_>) -> Message {
        if let Some(message) = &routing.message {
            return message.clone();
        }
        let client = self.publishing_client(routing.publication.publisher);
        let message = self
            .buffers
            .messages
            .make(&routing.publication, client, &self.memory.gauge);
        routing.message.insert(message).clone()
    }

    /// A publication as a message that is kept for long.
    pub(crate) fn copy(&mut self, publication: &Publication<'_>) -> Message {
        let client = self.publishing_client(publication.publisher);
        Message::new(
            publication,
            client,
            &mut self.buffers.scratch,
            &self.memory.gauge,
        )
    }

    /// The client that published a message which this shard received.
    fn publishing_client(&mut self, address: Option<SessionAddress>) -> Option<SharedClient> {
        let session = self.sessions.get(address?.session)?;
        let Some(connection) = session.connection() else {
            return Some(absent_client(session, &self.memory.clients));
        };
        let connection = self.connections.at(connection);
        Some(SharedClient::clone(connection.client()))
    }

    /// The session that published a message which this shard received, for its record.
    pub(super) fn publishing_session(
        &self,
        address: Option<SessionAddress>,
    ) -> Option<SessionEpoch> {
        let session = self.sessions.get(address?.session)?;
        Some(session.epoch)
    }

    /// Replaces or clears the topic's retained message.
    /// Only for RETAIN 1 [MQTT-3.3.1-8]. What is retained belongs to no session
    /// [MQTT-3.1.1/3.1.2-7], [MQTT-3.1.1/3.3.1-7].
    pub(crate) fn retain<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publication: &Publication<'_>,
        message: &mut Option<Message>,
    ) -> RetainedChange {
        self.work.add(RETAINED_CHANGE);
        if publication.payload.is_empty() {
            let (tenant, topic) = (publication.tenant, publication.topic);
            if !cx.node.retained(|store| store.has_topic(tenant, topic)) {
                return RetainedChange::Absent;
            }
            let held = self.copy(publication);
            *message = Some(held.clone());
            let now_ms = cx.now.mono_ms;
            let change = cx.node.retained(|store| store.clear(held, now_ms));
            if matches!(change, RetainedChange::Cleared { .. }) {
                self.note_cleared(publication);
            }
            return change;
        }
        let held = self.copy(publication);
        let session = publication
            .publisher
            .and_then(|address| self.sessions.get(address.session));
        let publisher = session.map(|session| self.client_key(session.tenant, &session.client_id));
        let limits = &self.settings.limits;
        let memory_is_short = self.memory.growth.retained_stops;
        let count_max = limits.retained_messages as usize;
        let bytes_configured = limits.retained_bytes as usize;
        let bytes_max = if memory_is_short { 0 } else { bytes_configured };
        let share = limits.team_share();
        let change = cx.node.retained(|store| {
            match store.exceeded_share(&held, share, count_max, bytes_configured) {
                Some(limit) => RetainedChange::Full(limit),
                None => store.store(held.clone(), publisher, count_max, bytes_max),
            }
        });
        *message = Some(held);
        match change {
            RetainedChange::Full(Limit::RetainedBytes) if memory_is_short => {
                RetainedChange::Full(Limit::MemoryKept)
            }
            change => change,
        }
    }
}
