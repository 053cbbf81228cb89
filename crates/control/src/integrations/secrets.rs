//! The secrets of integrations: read at the start, when one changes and every few seconds, because
//! another node may change them and the key file may be moved. An integration whose secrets cannot
//! be used delivers nothing, and goes on by itself when they can.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::TenantId;
use martlet_integrate::{Command, Handle};

use super::Integrations;
use super::following::{Following, TOLD_WITHIN};
use super::own_secrets::OwnSecrets;
use crate::control::Control;
use crate::secrets::SecretStore;

/// Pause between two looks at the secrets of all integrations.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Follows the secrets of all integrations.
pub(super) fn follow(
    store: Arc<SecretStore>,
    all: Vec<(Arc<OwnSecrets>, Arc<Handle>)>,
) -> Following {
    Following(tokio::spawn(async move {
        let mut changes = store.changes();
        loop {
            for (own, handle) in all.iter().filter(|(own, _)| !own.names().is_empty()) {
                if own.renew(&store, handle.client_id()).await {
                    // A runner that ends needs no secrets.
                    let _ = handle.command(Command::Retry, TOLD_WITHIN).await;
                }
            }
            // Without the store the node ends.
            let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
        }
    }))
}

impl Integrations {
    /// Reads the secrets of all integrations again. Requests that begin after it have the new ones.
    pub async fn renew_secrets(&self) {
        for entry in &*self.entries() {
            let (own, handle) = (&entry.secrets, &entry.handle);
            if !own.names().is_empty() && own.renew(&self.store, handle.client_id()).await {
                // A runner that ends needs no secrets.
                let _ = handle.command(Command::Retry, TOLD_WITHIN).await;
            }
        }
    }

    /// Integrations that use a secret, as `KIND/NAME`. `team` is the id of the team that owns it;
    /// empty: the common tenant.
    pub fn using_secret(&self, control: &Control, team: &str, name: &str) -> Vec<String> {
        let tenant_of = |team: &str| match team {
            "" => Some(TenantId::default()),
            team => control.tenant_of_team(team),
        };
        let Some(owner) = tenant_of(team) else {
            return Vec::new();
        };
        let entries = self.entries();
        let users = entries.iter().filter(|entry| {
            let own = &entry.secrets;
            own.names().iter().any(|one| &**one == name) && tenant_of(&own.team) == Some(owner)
        });
        let users = users.map(|entry| &entry.handle);
        let users = users.map(|handle| format!("{}/{}", handle.kind(), handle.name()));
        users.collect()
    }
}
