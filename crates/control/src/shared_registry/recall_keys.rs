//! What the tables have of a key, of the API or for provisioning, that `martlet why` is asked
//! about.

use martlet_registry::{ApiKey, ApiKeyBarred, ProvisioningKey, Visibility};

use super::SharedRegistry;
use crate::cause::Cause;
use crate::text::typed;
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::facts::{BarredApiKey, Facts, NamedApiKey, NamedProvisioningKey, RefusedToKey};

impl SharedRegistry {
    /// Adds the key that has the name, or the id, that was asked about: one that is good before
    /// others, and of these the newest.
    pub(super) async fn recall_api_key(&self, visibility: &Visibility, facts: &mut Facts) {
        let seen = visibility.clone();
        let read =
            self.read(move |registry| Box::pin(async move { registry.api_keys(&seen).await }));
        let Ok(all) = read.await else { return };
        let names = all.iter().map(|key| key.name.as_str());
        let name = &facts.question.name;
        facts.namesakes.add_nearest(name, "API key", names);
        let Some(key) = best_named(all, name) else {
            return;
        };
        let of_key = key.clone();
        let barred = self
            .read(move |registry| Box::pin(async move { registry.api_key_barred(&of_key).await }));
        let barred = barred.await.ok().flatten();
        let barred = barred.map(|barred| self.barred_key(&key, barred));
        facts.named_api_key = Some(NamedApiKey {
            barred,
            ..self.named_key(key, facts.question.sees_node)
        });
    }

    /// The same of a provisioning key, with what was last refused with it.
    pub(super) async fn recall_provisioning_key(&self, visibility: &Visibility, facts: &mut Facts) {
        let seen = visibility.clone();
        let read = self
            .read(move |registry| Box::pin(async move { registry.provisioning_keys(&seen).await }));
        let Ok(all) = read.await else { return };
        let names = all.iter().map(|key| key.name.as_str());
        let name = &facts.question.name;
        facts.namesakes.add_nearest(name, "provisioning key", names);
        let found = best_named(all, name);
        facts.named_provisioning_key = found.map(|key| NamedProvisioningKey {
            devices_max: unsigned(key.devices_max),
            devices_made: unsigned(key.devices_made),
            expires_ms: nonzero(key.expires_ms),
            revoked_ms: nonzero(key.revoked_ms),
            refused: self.control.journal.refused_by_key(&key.team, &key.name),
            list: self
                .control
                .command_with_options("provision ls", "")
                .trim_end()
                .to_owned(),
            name: key.name,
            device_type: key.device_type,
            id_pattern: key.id_pattern,
        });
    }

    fn barred_key(&self, key: &ApiKey, barred: ApiKeyBarred) -> BarredApiKey {
        let owner = &key.owner;
        let (cause, why, remedy, command, subject) = match barred {
            ApiKeyBarred::TeamDeleted(team) => (
                Cause::Deleted,
                format!("its team {team} was deleted"),
                "restore the team, or give the program another key",
                "team restore",
                team,
            ),
            ApiKeyBarred::OwnerDisabled => (
                Cause::Disabled,
                format!("its owner {owner} is disabled"),
                "enable the user, or give the program another key",
                "user set --enable",
                owner.clone(),
            ),
            ApiKeyBarred::OwnerDeleted => (
                Cause::Deleted,
                format!("its owner {owner} was deleted"),
                "restore the user, or give the program another key",
                "user restore",
                owner.clone(),
            ),
        };
        BarredApiKey {
            cause,
            why,
            remedy,
            command: self.control.command_with_options(command, &typed(&subject)),
        }
    }

    fn named_key(&self, key: ApiKey, sees_node: bool) -> NamedApiKey {
        let scopes = key.scopes.iter();
        let scopes: String = scopes
            .map(|scope| format!("--scope {} ", typed(scope)))
            .collect();
        let arguments = format!("{scopes}{}", typed(&key.name));
        let refused = self.control.journal.refused_to_key(&key.id);
        let refused = refused.map(|refused| RefusedToKey {
            wider: refused.lacking.map(|scope| {
                let arguments = format!("--scope {} {arguments}", typed(scope));
                let add = self
                    .control
                    .command_of_team("key add", &key.team, &arguments);
                (scope, add)
            }),
            elsewhere: match refused.device {
                Some(device) if sees_node => self.devices_elsewhere(refused.entry.tenant, &device),
                _ => Vec::new(),
            },
            entry: refused.entry,
        });
        NamedApiKey {
            expires_ms: nonzero(key.expires_ms),
            revoked_ms: nonzero(key.revoked_ms),
            last_used_ms: nonzero(key.last_used_ms),
            uses: unsigned(key.uses),
            renew: self
                .control
                .command_of_team("key add", &key.team, &arguments),
            name: key.name,
            scopes: key.scopes,
            refused,
            barred: None,
        }
    }
}

impl SharedRegistry {
    /// Devices of this id in other tenants, as the User Names that they come with.
    fn devices_elsewhere(&self, tenant: u32, id: &str) -> Vec<String> {
        let policy = self.control.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let found = tables.map(|tables| tables.devices_elsewhere(tenant, id).collect());
        found.unwrap_or_default()
    }
}

/// What keys of both kinds have.
struct KeyHead<'a> {
    name: &'a str,
    id: &'a str,
    expires_ms: i64,
    revoked_ms: i64,
}

impl<'a> From<&'a ApiKey> for KeyHead<'a> {
    fn from(key: &'a ApiKey) -> Self {
        Self {
            name: &key.name,
            id: &key.id,
            expires_ms: key.expires_ms,
            revoked_ms: key.revoked_ms,
        }
    }
}

impl<'a> From<&'a ProvisioningKey> for KeyHead<'a> {
    fn from(key: &'a ProvisioningKey) -> Self {
        Self {
            name: &key.name,
            id: &key.id,
            expires_ms: key.expires_ms,
            revoked_ms: key.revoked_ms,
        }
    }
}

impl KeyHead<'_> {
    fn is_named(&self, name: &str) -> bool {
        self.name == name || self.id == name
    }

    fn is_good(&self, now_ms: i64) -> bool {
        self.revoked_ms == 0 && (self.expires_ms == 0 || self.expires_ms > now_ms)
    }
}

/// The newest key with this name or id; one that is good is preferred. `keys` begin with the
/// newest.
fn best_named<T>(keys: Vec<T>, name: &str) -> Option<T>
where
    for<'a> KeyHead<'a>: From<&'a T>,
{
    let now_ms = now_signed_ms();
    let mut named = keys;
    named.retain(|key| KeyHead::from(key).is_named(name));
    named
        .into_iter()
        .min_by_key(|key| !KeyHead::from(key).is_good(now_ms))
}

/// A time of the tables, milliseconds since the Unix epoch; 0 is none.
fn nonzero(ms: i64) -> Option<u64> {
    Some(unsigned(ms)).filter(|ms| *ms > 0)
}
