//! Things that have the name in a question and are no client: a key, of the API or for
//! provisioning, or something that was removed from the tables.

mod api_key;
mod facts;
mod provisioning_key;

use martlet_registry::{ApiKey, ApiKeyBarred, ProvisioningKey};

use super::SharedRegistry;
use super::recall_log::Removed;
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::remedy::form;
use crate::rfc3339;
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::{Asked, Examine, Finding, Findings, nearest_names};
use facts::{BarredApiKey, NamedApiKey, NamedInTables, NamedProvisioningKey, RefusedToKey};

impl Examine for SharedRegistry {
    type Facts = NamedInTables;

    async fn gather(
        &self,
        control: &Control,
        asked: &Asked,
    ) -> Result<NamedInTables, ControlError> {
        let mut facts = NamedInTables::default();
        if !asked.is_unknown() {
            return Ok(facts);
        }
        let (name, seen) = (&*asked.question.name, asked.visibility());
        facts.removed = self.removed(&seen, name).await;
        let read =
            self.read(move |registry| Box::pin(async move { registry.api_keys(&seen).await }));
        if let Ok(all) = read.await {
            facts.add_near(name, "API key", all.iter().map(|key| key.name.as_str()));
            if let Some(key) = best_named(all, name) {
                facts.api_key = Some(self.named_key(key, asked.question.sees_node).await);
            }
        }
        let seen = asked.visibility();
        let read = self
            .read(move |registry| Box::pin(async move { registry.provisioning_keys(&seen).await }));
        if let Ok(all) = read.await {
            facts.add_near(
                name,
                "provisioning key",
                all.iter().map(|key| key.name.as_str()),
            );
            let found = best_named(all, name);
            facts.provisioning_key = found.map(|key| NamedProvisioningKey {
                devices_max: unsigned(key.devices_max),
                devices_made: unsigned(key.devices_made),
                expires_ms: nonzero(key.expires_ms),
                revoked_ms: nonzero(key.revoked_ms),
                refused: control.journal.refused_by_key(&key.team, &key.name),
                list: control.command(form::PROVISION_LS, &[]),
                name: key.name,
                device_type: key.device_type,
                id_pattern: key.id_pattern,
            });
        }
        Ok(facts)
    }

    fn judge(facts: &NamedInTables, asked: &Asked, findings: &mut Findings) {
        for (kind, names) in &facts.near {
            findings.add_near(kind, names);
        }
        if findings.has_named() {
            return;
        }
        let (removed, key) = (&facts.removed, &facts.api_key);
        let of_removed = removed.as_ref().map(|removed| of_removed(asked, removed));
        let revoked = key.as_ref().filter(|key| key.revoked_ms.is_some());
        if let (Some(finding), Some(key)) = (&of_removed, revoked) {
            let sentence = format!("{} ({})", finding.sentence, api_key::about(key));
            return findings.add_named(Finding {
                sentence,
                ..finding.clone()
            });
        }
        if let Some(key) = key {
            return findings.add_named(api_key::of_named(asked.now_ms, key));
        }
        let key = facts.provisioning_key.as_ref();
        let key = key.filter(|key| removed.is_none() || key.revoked_ms.is_none());
        let of_key = key.map(|key| provisioning_key::of_named(asked.now_ms, key));
        if let Some(finding) = of_key.or(of_removed) {
            findings.add_named(finding);
        }
    }
}

impl NamedInTables {
    fn add_near<'a>(
        &mut self,
        name: &str,
        kind: &'static str,
        names: impl Iterator<Item = &'a str>,
    ) {
        let near = nearest_names(name, names.filter(|other| *other != name));
        self.near.push((kind, near));
    }
}

/// Returns the finding about something removed that had the name.
fn of_removed(asked: &Asked, removed: &Removed) -> Finding {
    let name = asked.question.name.as_str();
    let own = name.split_once('/').map_or(name, |(_, own)| own);
    let (what, by) = (&removed.what, &removed.by);
    let sentence = format!(
        "the {what} {own} was removed on {} by {by}",
        rfc3339::in_words(removed.at_ms)
    );
    Finding::new(Cause::Deleted, sentence)
        .since(removed.at_ms)
        .remedy("add it again, if it is needed; to list them, run")
        .command(&removed.list)
}

impl SharedRegistry {
    fn barred_key(&self, key: &ApiKey, barred: ApiKeyBarred) -> BarredApiKey {
        let owner = &key.owner;
        let (cause, why, remedy, command, subject) = match barred {
            ApiKeyBarred::TeamDeleted(team) => (
                Cause::Deleted,
                format!("its team {team} was deleted"),
                "restore the team, or give the program another key",
                form::TEAM_RESTORE,
                team,
            ),
            ApiKeyBarred::OwnerDisabled => (
                Cause::Disabled,
                format!("its owner {owner} is disabled"),
                "enable the user, or give the program another key",
                form::USER_ENABLE,
                owner.clone(),
            ),
            ApiKeyBarred::OwnerDeleted => (
                Cause::Deleted,
                format!("its owner {owner} was deleted"),
                "restore the user, or give the program another key",
                form::USER_RESTORE,
                owner.clone(),
            ),
        };
        BarredApiKey {
            cause,
            why,
            remedy,
            command: self.control.command(command, &[&subject]),
        }
    }

    async fn named_key(&self, key: ApiKey, sees_node: bool) -> NamedApiKey {
        let of_key = key.clone();
        let barred = self
            .read(move |registry| Box::pin(async move { registry.api_key_barred(&of_key).await }));
        let barred = barred.await.ok().flatten();
        let barred = barred.map(|barred| self.barred_key(&key, barred));
        let scopes = key.scopes.iter().map(|scope| &**scope);
        let with = |wider: Option<&'static str>| {
            let values: Vec<&str> = std::iter::once(&*key.name)
                .chain(wider)
                .chain(scopes.clone())
                .collect();
            self.control
                .command_of_team(form::KEY_ADD, &key.team, &values)
        };
        let renew = with(None);
        let refused = self.control.journal.refused_to_key(&key.id);
        let refused = refused.map(|refused| RefusedToKey {
            wider: refused.lacking.map(|scope| (scope, with(Some(scope)))),
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
            renew,
            name: key.name,
            scopes: key.scopes,
            refused,
            barred,
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

/// Fields that keys of both kinds have.
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
