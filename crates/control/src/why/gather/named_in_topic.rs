//! Other clients that a topic names.

use martlet_broker::{ClientDetail, ClientQuery, TenantId};

use crate::control::{Control, ControlError};
use crate::why::arrival::LEVELS_MAX;
use crate::why::facts::{Facts, NamedInTopic, NamedStanding};

impl Control {
    /// The clients and devices whose names are levels of the topic that was asked about, without
    /// the clients that the question is about.
    pub(super) async fn named_in_topic(
        &self,
        facts: &Facts,
    ) -> Result<Vec<NamedInTopic>, ControlError> {
        let question = &facts.question;
        let topic = question.topic.as_deref().unwrap_or_default();
        if question.is_about_filter() {
            return Ok(Vec::new());
        }
        let is_own = |level: &str| {
            let own = [&*question.name, &*facts.client_id];
            let mut clients = facts.clients.iter();
            own.contains(&level)
                || facts.user.as_deref() == Some(level)
                || clients.any(|client| client.client_id == level)
        };
        let mut found: Vec<NamedInTopic> = Vec::new();
        for level in topic.split('/').take(LEVELS_MAX) {
            let is_reported = found.iter().any(|one| one.client_id == level);
            if !level.is_empty() && !is_own(level) && !is_reported {
                found.extend(self.named(question.tenant, level).await?);
            }
        }
        Ok(found)
    }

    /// The client or device of a tenant with this name, if there is one.
    async fn named(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<NamedInTopic>, ControlError> {
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let known = tables.and_then(|tables| tables.account_kind(tenant.0, name));
        let is_device = matches!(known, Some(martlet_registry::AccountKind::Device));
        let mut client = self.client(tenant, name, 0).await?;
        let is_connected = client.as_ref().is_some_and(|client| client.info.connected);
        if is_device && !is_connected {
            // Its type may permit it any Client Identifier.
            client = self.connected_client_of(tenant, name).await?.or(client);
        }
        let presence = self.presence(tenant, name);
        let standing = match (client, presence) {
            (Some(client), _) if client.info.connected => NamedStanding::Connected {
                since_ms: client.info.connected_at_ms,
                has_published: client.has_published,
            },
            (_, Some(presence)) if !presence.online => NamedStanding::Away(Some(presence.since_ms)),
            (Some(client), _) => NamedStanding::Away(client.left_ms),
            (None, Some(_)) => NamedStanding::Away(None),
            (None, None) if is_device => NamedStanding::NeverConnected,
            (None, None) => return Ok(None),
        };
        Ok(Some(NamedInTopic {
            client_id: name.to_owned(),
            is_device,
            standing,
            last_message_ms: None,
            command: self.journal.asking_why(tenant, name),
        }))
    }

    async fn connected_client_of(
        &self,
        tenant: TenantId,
        user: &str,
    ) -> Result<Option<ClientDetail>, ControlError> {
        let query = ClientQuery {
            tenant: Some(tenant),
            user: Some(user.into()),
            connected: Some(true),
            limit: 1,
            ..ClientQuery::default()
        };
        match self.clients(&query).await?.clients.first() {
            Some(first) => self.client(tenant, &first.client_id, 0).await,
            None => Ok(None),
        }
    }
}
