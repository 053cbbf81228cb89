//! What the tables know of a client of whom is asked why it does not work.

use martlet_registry::COMMON_TENANT;

use super::Tables;
use crate::presence::ClientPresence;
use crate::why::facts::Facts;

impl Tables {
    /// Adds it. Where the tables cannot be read, health says so, and the rest is told.
    pub async fn complete(&self, facts: &mut Facts) {
        let (name, client_id) = (facts.question.name.clone(), facts.client_id.clone());
        let is_known = facts.known_as.is_some();
        let found = self.read(move |registry| {
            Box::pin(async move {
                let gone_since = match is_known {
                    true => None,
                    false => registry.gone_since(COMMON_TENANT, &name).await?,
                };
                let presence = registry.presence(COMMON_TENANT, &client_id).await?;
                Ok((gone_since, presence))
            })
        });
        let Ok((gone_since, presence)) = found.await else {
            return;
        };
        facts.deleted_ms = gone_since.and_then(|at_ms| u64::try_from(at_ms).ok());
        let written = presence.map(|presence| ClientPresence::from(presence).into());
        facts.presence = facts.presence.take().or(written);
    }
}
