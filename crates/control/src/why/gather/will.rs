//! Wills of clients that have left.

use martlet_broker::{ClientDetail, RetainedInfo, TenantId};

use crate::control::{Control, ControlError};
use crate::why::Question;
use crate::why::arrival::LEVELS_MAX;
use crate::why::facts::{Absent, AbsentWill};

impl Control {
    /// The Will of a client that is not connected: it waits, was published or was discarded.
    pub(super) fn will_of(
        &self,
        tenant: TenantId,
        client_id: &str,
        session: Option<&ClientDetail>,
    ) -> Option<AbsentWill> {
        if session.is_some_and(|session| session.info.connected) {
            return None;
        }
        if let Some(session) = session
            && let Some(will) = &session.will
        {
            let delay_secs = will.delay_secs.min(session.info.session_expiry_secs);
            let due_ms = session.left_ms;
            return Some(AbsentWill::Delayed {
                topic: will.topic.to_string(),
                due_ms: due_ms.map(|left_ms| left_ms + u64::from(delay_secs) * 1_000),
            });
        }
        let disconnected = self.presence.will_of(tenant, client_id)?;
        Some(AbsentWill::Gone(disconnected))
    }

    /// The client whose Will this retained message is, if it is connected again, and since when. It
    /// is the client of the question, or one that the topic names.
    pub(super) async fn past_will(
        &self,
        tenant: TenantId,
        client_id: &str,
        retained: &RetainedInfo,
    ) -> Result<Option<(String, u64)>, ControlError> {
        let levels = retained.topic.split('/').take(LEVELS_MAX);
        let names = std::iter::once(client_id).chain(levels);
        for name in names.filter(|name| !name.is_empty()) {
            if self.presence.past_will_of(tenant, name).as_deref() != Some(&*retained.topic) {
                continue;
            }
            let Some(session) = self.client(tenant, name, 0).await? else {
                continue;
            };
            // It mostly comes with the same Will again.
            let is_it = session.will.as_ref().is_some_and(|will| {
                will.retain
                    && will.topic == retained.topic
                    && will.payload_bytes == retained.payload_bytes
            });
            let since_ms = session.info.connected_at_ms;
            if is_it && session.info.connected && retained.received_wall_ms <= since_ms {
                return Ok(Some((name.to_owned(), since_ms)));
            }
        }
        Ok(None)
    }

    /// Clients that have left, whose names are in the topic that was asked about, and whose Will
    /// is, or was, for it.
    pub(super) async fn absent_of_topic(
        &self,
        question: &Question,
    ) -> Result<Vec<Absent>, ControlError> {
        let mut found = Vec::new();
        let Some(topic) = question.topic.as_deref() else {
            return Ok(found);
        };
        for level in topic.split('/').take(LEVELS_MAX) {
            if level.is_empty() || *level == *question.name {
                continue;
            }
            let session = self.client(question.tenant, level, 0).await?;
            let Some(will) = self.will_of(question.tenant, level, session.as_ref()) else {
                continue;
            };
            let of = match &will {
                AbsentWill::Delayed { topic, .. } => &**topic,
                AbsentWill::Gone(will) => &*will.topic,
            };
            let disconnected = self.presence.of(question.tenant, level);
            if of == topic
                && let Some(disconnected) = disconnected.filter(|disconnected| !disconnected.online)
            {
                found.push(Absent {
                    client_id: level.to_owned(),
                    since_ms: disconnected.since_ms,
                    will,
                });
            }
        }
        Ok(found)
    }
}
