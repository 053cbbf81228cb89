//! Things that have the name in a question and are no client: a key, of the API or for
//! provisioning, or something that was removed from the tables.

use martlet_registry::{ApiKey, ApiKeyBarred, ProvisioningKey};

use super::SharedRegistry;
use super::recall_log::Removed;
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::journal::{Entry, WordedRemedy};
use crate::remedy::{Command, form};
use crate::rfc3339;
use crate::wall_clock::{now_ms, unsigned};
use crate::why::{
    Asked, Examine, Finding, Findings, RECENT_MS, devices_in_words, nearest_names, times_in_words,
};

/// Facts from the tables about the name.
#[derive(Debug, Default)]
pub(crate) struct NamedInTables {
    /// Something of that name was removed.
    removed: Option<Removed>,
    api_key: Option<NamedApiKey>,
    provisioning_key: Option<NamedProvisioningKey>,
    /// Keys whose names are nearly that in the question, by their kind.
    near: Vec<(&'static str, Vec<String>)>,
}

/// A key of the API that was asked about.
#[derive(Debug)]
struct NamedApiKey {
    key: ApiKey,
    /// The command that adds another one like it.
    renew: Option<Command>,
    /// The last request with it that was refused.
    refused: Option<RefusedToKey>,
    /// Why it is not accepted although it is neither revoked nor expired, and the command that
    /// ends that.
    barred: Option<(ApiKeyBarred, Option<Command>)>,
}

/// A request with an API key that was refused.
#[derive(Debug)]
struct RefusedToKey {
    entry: Entry,
    /// The scope that the key lacks, and the command that adds a key that has it too; none: it was
    /// refused for something else.
    wider: Option<(&'static str, Option<Command>)>,
    /// Devices of the id that the path names in other tenants, as the User Names that they come
    /// with.
    elsewhere: Vec<String>,
}

/// A provisioning key that was asked about.
#[derive(Debug)]
struct NamedProvisioningKey {
    key: ProvisioningKey,
    /// The last device that was not added by it.
    refused: Option<Entry>,
    /// The command that lists the keys.
    list: Option<Command>,
}

/// Name, id, and the times of the revocation and the end of a key; 0: there is none.
type KeyHead<'a> = (&'a str, &'a str, i64, i64);

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
        if let Some(key) = facts.named(name, "API key", read.await, head_of_api_key) {
            facts.api_key = Some(self.named_key(key, asked.question.sees_node).await);
        }
        let seen = asked.visibility();
        let read = self
            .read(move |registry| Box::pin(async move { registry.provisioning_keys(&seen).await }));
        let found = facts.named(name, "provisioning key", read.await, |key| {
            (&key.name, &key.id, key.revoked_ms, key.expires_ms)
        });
        facts.provisioning_key = found.map(|key: ProvisioningKey| NamedProvisioningKey {
            refused: control.journal.refused_by_key(&key.team, &key.name),
            list: control.command(form::PROVISION_LS, &[]),
            key,
        });
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
        let revoked = key.as_ref().filter(|named| named.key.revoked_ms > 0);
        if let (Some(finding), Some(key)) = (&of_removed, revoked) {
            return findings.add_named(Finding {
                sentence: format!("{} ({})", finding.sentence, key.about()),
                ..finding.clone()
            });
        }
        if let Some(key) = key {
            return findings.add_named(key.finding(asked.now_ms));
        }
        let key = facts.provisioning_key.as_ref();
        let key = key.filter(|named| removed.is_none() || named.key.revoked_ms == 0);
        let of_key = key.map(|key| key.finding(asked.now_ms));
        if let Some(finding) = of_key.or(of_removed) {
            findings.add_named(finding);
        }
    }
}

impl NamedInTables {
    /// The newest key with this name or id, and notes those that are spelt nearly so; one that is
    /// good is preferred. `keys` begin with the newest.
    fn named<T, E>(
        &mut self,
        name: &str,
        kind: &'static str,
        keys: Result<Vec<T>, E>,
        head: fn(&T) -> KeyHead<'_>,
    ) -> Option<T> {
        let mut keys = keys.ok()?;
        let names = keys.iter().map(|key| head(key).0);
        let near = nearest_names(name, names.filter(|other| *other != name));
        self.near.push((kind, near));
        keys.retain(|key| [head(key).0, head(key).1].contains(&name));
        let now_ms = now_ms();
        keys.into_iter()
            .min_by_key(|key| ended(head(key), now_ms).is_some())
    }
}

fn head_of_api_key(key: &ApiKey) -> KeyHead<'_> {
    (&key.name, &key.id, key.revoked_ms, key.expires_ms)
}

/// How a key has ended, in words, and when; none: it is good.
fn ended((.., revoked_ms, expires_ms): KeyHead<'_>, now_ms: u64) -> Option<(&'static str, u64)> {
    match (unsigned(revoked_ms), unsigned(expires_ms)) {
        (0, at_ms) if at_ms > 0 && at_ms <= now_ms => Some(("it expired", at_ms)),
        (0, _) => None,
        (at_ms, _) => Some(("it was revoked", at_ms)),
    }
}

/// Returns the finding about something removed that had the name.
fn of_removed(asked: &Asked, removed: &Removed) -> Finding {
    let name = asked.question.name.as_str();
    let own = name.split_once('/').map_or(name, |(_, own)| own);
    let (what, by) = (&removed.what, &removed.by);
    let at = rfc3339::in_words(removed.at_ms);
    Finding::new(
        Cause::Deleted,
        format!("the {what} {own} was removed on {at} by {by}"),
    )
    .since(removed.at_ms)
    .remedy("add it again, if it is needed; to list them, run")
    .command(&removed.list)
}

impl SharedRegistry {
    async fn named_key(&self, key: ApiKey, sees_node: bool) -> NamedApiKey {
        let of_key = key.clone();
        let barred = self
            .read(move |registry| Box::pin(async move { registry.api_key_barred(&of_key).await }));
        let barred = barred.await.ok().flatten();
        let barred = barred.map(|barred| {
            let (form, subject) = match &barred {
                ApiKeyBarred::TeamDeleted(team) => (form::TEAM_RESTORE, team),
                ApiKeyBarred::OwnerDisabled => (form::USER_ENABLE, &key.owner),
                ApiKeyBarred::OwnerDeleted => (form::USER_RESTORE, &key.owner),
            };
            let command = self.control.command(form, &[subject]);
            (barred, command)
        });
        let with = |wider: Option<&'static str>| {
            let scopes = key.scopes.iter().map(|scope| &**scope);
            let values = std::iter::once(&*key.name).chain(wider).chain(scopes);
            let values: Vec<&str> = values.collect();
            self.control
                .command_of_team(form::KEY_ADD, &key.team, &values)
        };
        let refused = self.control.journal.refused_to_key(&key.id);
        let refused = refused.map(|refused| RefusedToKey {
            wider: refused.lacking.map(|scope| (scope, with(Some(scope)))),
            elsewhere: match (refused.device, self.control.tables()) {
                (Some(device), Some(tables)) if sees_node => {
                    let tenant = refused.entry.tenant;
                    tables.devices_elsewhere(tenant, &device).collect()
                }
                _ => Vec::new(),
            },
            entry: refused.entry,
        });
        NamedApiKey {
            renew: with(None),
            key,
            refused,
            barred,
        }
    }
}

impl NamedApiKey {
    /// How the key is, and what was last refused with it.
    fn finding(&self, now_ms: u64) -> Finding {
        let (key, about) = (&self.key, self.about());
        let what = format!(
            "{} is an API key, which is for HTTP, and no client",
            key.name
        );
        if let Some((ended, at_ms)) = ended(head_of_api_key(key), now_ms) {
            let at = rfc3339::in_words(at_ms);
            let sentence = format!("{what}; {ended} on {at} ({about})");
            return Finding::new(Cause::CredentialExpired, sentence)
                .since(at_ms)
                .remedy("add another key, and give it to the program that calls the API")
                .command(&self.renew);
        }
        if let Some((barred, command)) = &self.barred {
            let owner = &key.owner;
            let (cause, why, restore) = match barred {
                ApiKeyBarred::TeamDeleted(team) => (
                    Cause::Deleted,
                    format!("its team {team} was deleted"),
                    "restore the team",
                ),
                ApiKeyBarred::OwnerDisabled => (
                    Cause::Disabled,
                    format!("its owner {owner} is disabled"),
                    "enable the user",
                ),
                ApiKeyBarred::OwnerDeleted => (
                    Cause::Deleted,
                    format!("its owner {owner} was deleted"),
                    "restore the user",
                ),
            };
            let sentence = format!("{what}; it is not accepted: {why} ({about})");
            return Finding::new(cause, sentence)
                .remedy(format!("{restore}, or give the program another key"))
                .command(command);
        }
        let until = match unsigned(key.expires_ms) {
            0 => "valid, and does not expire".to_owned(),
            at_ms => format!("valid until {}", rfc3339::in_words(at_ms)),
        };
        let Some(refused) = &self.refused else {
            let sentence = format!("{what}; it is {until} ({about})");
            return Finding::new(Cause::NothingWrong, sentence);
        };
        let entry = &refused.entry;
        let why = entry.why.as_deref().unwrap_or_default();
        let elsewhere = match &*refused.elsewhere {
            [] => String::new(),
            [one] => format!("; another tenant has a device of that id: {one}"),
            all => {
                let all = all.join(", ");
                format!("; other tenants have devices of that id: {all}")
            }
        };
        let sentence =
            format!("{what}; its last refused request: {why}{elsewhere} (it is {until}; {about})");
        if now_ms.saturating_sub(entry.at_ms) > RECENT_MS {
            return Finding::new(Cause::NothingWrong, sentence);
        }
        let finding = Finding::new(entry.cause.unwrap_or(Cause::Other), sentence).at(entry.at_ms);
        match &refused.wider {
            Some((scope, add)) => finding
                .remedy(format!(
                    "if the program that has it needs the scope {scope}, give it a key that has \
                     that too; to add one, run"
                ))
                .command(add),
            None if !refused.elsewhere.is_empty() => finding.remedy(
                "have the program use the key of the team that has the device, or one that belongs \
                 to no team with ?team=TEAM",
            ),
            None => finding.remedy(entry.remedy.clone().unwrap_or_default()),
        }
    }

    /// Returns the scopes of the key, and when it was used, in words.
    fn about(&self) -> String {
        let scopes = match &*self.key.scopes {
            [one] => format!("its scope is {one}"),
            all => format!("its scopes are {}", all.join(", ")),
        };
        match unsigned(self.key.last_used_ms) {
            0 if self.refused.is_some() => format!("{scopes}; no request with it has succeeded"),
            0 => format!("{scopes}; it was never used"),
            at_ms => format!(
                "{scopes}; it was used {}, last on {}",
                times_in_words(unsigned(self.key.uses).max(1)),
                rfc3339::in_words(at_ms)
            ),
        }
    }
}

impl NamedProvisioningKey {
    /// How the key is, and what was last refused with it.
    fn finding(&self, now_ms: u64) -> Finding {
        let (key, about) = (&self.key, self.about());
        let what = format!(
            "{} is a provisioning key, by which devices are added, and no client",
            key.name
        );
        let head = (&*key.name, &*key.id, key.revoked_ms, key.expires_ms);
        if let Some((ended, at_ms)) = ended(head, now_ms) {
            let at = rfc3339::in_words(at_ms);
            let sentence = format!("{what}; {ended} on {at} ({about})");
            let remedy = "add another key (martlet provision add), and give it to the devices; to \
                          list them, run";
            let finding = Finding::new(Cause::ProvisioningKeyEnded, sentence).since(at_ms);
            return finding.remedy(remedy).command(&self.list);
        }
        let Some(refused) = &self.refused else {
            return Finding::new(Cause::NothingWrong, format!("{what}; {about}"));
        };
        let who = match &*refused.client_id {
            "" => "a device without an id".to_owned(),
            id => format!("the device {id}"),
        };
        let from = refused.address.iter();
        let from: String = from.map(|address| format!(", from {address}")).collect();
        let why = refused.why.as_deref().unwrap_or("it was refused");
        let sentence = format!("{what}; with it, {who} was rejected last{from}: {why} ({about})");
        if now_ms.saturating_sub(refused.at_ms) > RECENT_MS {
            return Finding::new(Cause::NothingWrong, sentence).at(refused.at_ms);
        }
        let cause = refused.cause.unwrap_or(Cause::Other);
        let remedy = refused.remedy.clone().unwrap_or_default();
        let worded = WordedRemedy::new(remedy, refused.command.clone());
        Finding::new(cause, sentence)
            .at(refused.at_ms)
            .with_remedy(worded)
    }

    /// Describes what the key adds, and what it has added.
    fn about(&self) -> String {
        let key = &self.key;
        let ids = match &*key.id_pattern {
            "" => String::new(),
            pattern => format!(" whose ids match {pattern}"),
        };
        let max = match unsigned(key.devices_max) {
            0 => String::new(),
            max => format!(" of {max}"),
        };
        format!(
            "it is for devices of the type {}{ids}; it has added {}{max}",
            key.device_type,
            devices_in_words(unsigned(key.devices_made))
        )
    }
}
