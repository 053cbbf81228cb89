//! Facts of the audit log about the name in a question of `martlet why`: that it was removed, that
//! the type of the device was changed, and which groups the device joined or left.

use martlet_broker::TenantId;
use martlet_registry::{AuditEntry, AuditFilter, PageRequest, Visibility};
use serde_json::Value;

use super::SharedRegistry;
use crate::remedy::Command;
use crate::remedy::form::{self, CommandForm};
use crate::wall_clock::{now_signed_ms, unsigned};

/// Lines of the audit log of one action that are looked at.
const LOOKED_AT: usize = 100;
/// How long ago a device may have joined a group, or have got another type, milliseconds.
const CHANGED_SINCE_MS: i64 = 24 * 60 * 60 * 1000;

/// Objects that are removed by their names: the kind of object, the action, what it is in words,
/// and the command that lists those that there are.
const NAMED: [(&str, &str, &str, CommandForm); 5] = [
    ("rule", "rule.remove", "rule", form::RULE_LS),
    ("webhook", "webhook.remove", "webhook", form::INTEGRATION_LS),
    ("bridge", "bridge.remove", "bridge", form::INTEGRATION_LS),
    ("secret", "secret.remove", "secret", form::SECRET_LS),
    ("firmware", "firmware.delete", "firmware", form::FIRMWARE_LS),
];

/// Objects that are removed by their ids, and are asked about by their names.
const WITH_ID: [(&str, &str, &str, CommandForm); 4] = [
    ("api_key", "api_key.revoke", "API key", form::KEY_LS),
    (
        "provisioning_key",
        "provisioning_key.revoke",
        "provisioning key",
        form::PROVISION_LS,
    ),
    (
        "team_token",
        "team_token.revoke",
        "team token",
        form::TEAM_LS,
    ),
    ("group", "group.remove", "group", form::GROUP_LS),
];

/// Something of the name that was asked about, and that was removed from the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// Kind of the object, in words: `rule`.
    pub(super) what: String,
    /// When.
    pub(super) at_ms: u64,
    /// The caller that removed it, as the audit log has it.
    pub(super) by: String,
    /// The command that lists those that there are.
    pub(super) list: Option<Command>,
}

/// The last change of the type of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TypeChange {
    pub(crate) from: String,
    pub(crate) to: String,
    /// When.
    pub(crate) at_ms: u64,
    /// The caller that changed it, as the audit log has it.
    pub(crate) by: String,
    /// The command that gives it the former type.
    pub(crate) command: Option<Command>,
}

/// A group that a device joined recently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) id: String,
    pub(crate) name: String,
    /// When.
    pub(crate) at_ms: u64,
}

impl SharedRegistry {
    /// Object of this name that was removed.
    pub(super) async fn removed(&self, visibility: &Visibility, name: &str) -> Option<Removed> {
        let (kind, own) = match name.split_once('/') {
            Some((kind, own)) => (Some(kind), own),
            None => (None, name),
        };
        let mut found: Option<(i64, Removed)> = None;
        let by_name = NAMED
            .iter()
            .filter(|one| kind.is_none_or(|kind| kind == one.0));
        let by_id = WITH_ID.iter().filter(|_| kind.is_none());
        let all = by_name.map(|one| (one, true));
        for ((object_kind, action, what, list), is_named) in
            all.chain(by_id.map(|one| (one, false)))
        {
            let filter = AuditFilter {
                action: Some((*action).to_owned()),
                object_kind: Some((*object_kind).to_owned()),
                object_id: is_named.then(|| own.to_owned()),
                ..AuditFilter::default()
            };
            let is_it = |entry: &&AuditEntry| {
                is_named || entry.entry.object_id == own || is_called(entry, own)
            };
            let lines = self.audit_lines(visibility, filter).await;
            let Some(entry) = lines.iter().find(is_it) else {
                continue;
            };
            let is_later = found.as_ref().is_none_or(|(at_ms, _)| entry.at_ms > *at_ms);
            if is_later {
                let removed = Removed {
                    what: (*what).to_owned(),
                    at_ms: unsigned(entry.at_ms),
                    by: by_words(&entry.who),
                    list: self.control.command(*list, &[]),
                };
                found = Some((entry.at_ms, removed));
            }
        }
        found.map(|(_, removed)| removed)
    }

    /// The last change of the type of a device, if it was recent.
    pub(crate) async fn type_change_of(
        &self,
        visibility: &Visibility,
        tenant: TenantId,
        device: &str,
    ) -> Option<TypeChange> {
        let filter = AuditFilter {
            action: Some("device.change".to_owned()),
            object_kind: Some("device".to_owned()),
            object_id: Some(device.to_owned()),
            from_ms: Some(now_signed_ms() - CHANGED_SINCE_MS),
            ..AuditFilter::default()
        };
        let lines = self.audit_lines(visibility, filter).await;
        lines
            .iter()
            .find_map(|entry| self.type_change(tenant, device, entry))
    }

    /// The groups that a device joined recently.
    pub(crate) async fn joined_by(&self, visibility: &Visibility, device: &str) -> Vec<Joined> {
        let filter = AuditFilter {
            action: Some("group.join".to_owned()),
            object_kind: Some("group".to_owned()),
            from_ms: Some(now_signed_ms() - CHANGED_SINCE_MS),
            ..AuditFilter::default()
        };
        let mut found: Vec<Joined> = Vec::new();
        for entry in self.audit_lines(visibility, filter).await {
            let id = &entry.entry.object_id;
            let is_known = found.iter().any(|joined| joined.id == *id);
            if is_known || !names_device(&entry, device) {
                continue;
            }
            let (seen, id) = (visibility.clone(), id.clone());
            let read = self.read(move |registry| {
                Box::pin(async move { registry.group_named(&seen, &id).await })
            });
            let Ok(group) = read.await else { continue };
            found.push(Joined {
                id: group.id,
                name: group.name,
                at_ms: unsigned(entry.at_ms),
            });
        }
        found
    }

    fn type_change(
        &self,
        tenant: TenantId,
        device: &str,
        entry: &AuditEntry,
    ) -> Option<TypeChange> {
        let changed: Value = serde_json::from_str(&entry.entry.changed).ok()?;
        let [from, to] = changed.get("type")?.as_array()?.as_slice() else {
            return None;
        };
        let (from, to) = (from.as_str()?, to.as_str()?);
        Some(TypeChange {
            from: from.to_owned(),
            to: to.to_owned(),
            at_ms: unsigned(entry.at_ms),
            by: by_words(&entry.who),
            command: self
                .control
                .command_of_tenant(form::DEVICE_TYPE, tenant, &[device, from]),
        })
    }

    /// When a device left a group; none: that is not known.
    pub(crate) async fn left(&self, group: &str, device: &str) -> Option<u64> {
        let filter = AuditFilter {
            action: Some("group.leave".to_owned()),
            object_kind: Some("group".to_owned()),
            object_id: Some(group.to_owned()),
            ..AuditFilter::default()
        };
        let lines = self.audit_lines(&Visibility::All, filter).await;
        let left = lines.iter().find(|entry| names_device(entry, device));
        left.map(|entry| unsigned(entry.at_ms))
    }

    /// Lines of the audit log, the newest first. Where they cannot be read, there are none.
    async fn audit_lines(&self, visibility: &Visibility, filter: AuditFilter) -> Vec<AuditEntry> {
        let (seen, page) = (visibility.clone(), PageRequest::first(LOOKED_AT));
        let read = self.read(move |registry| {
            Box::pin(async move { registry.audit_log(&seen, &filter, &page).await })
        });
        read.await.map_or_else(|_| Vec::new(), |page| page.items)
    }
}

/// A line is about devices, and this is one of them.
fn names_device(entry: &AuditEntry, device: &str) -> bool {
    let changed: Option<Devices> = serde_json::from_str(&entry.entry.changed).ok();
    changed.is_some_and(|changed| changed.devices.iter().any(|one| one == device))
}

/// The object of a line has this name.
fn is_called(entry: &AuditEntry, name: &str) -> bool {
    let changed: Option<ObjectName> = serde_json::from_str(&entry.entry.changed).ok();
    changed.is_some_and(|changed| changed.name == name)
}

/// A caller as the audit log has it, in words.
fn by_words(who: &str) -> String {
    who.replacen(':', " ", 1)
}

/// The devices that joined or left a group by a line of the log.
#[derive(serde::Deserialize)]
struct Devices {
    devices: Vec<String>,
}

/// The object of a line of the log.
#[derive(serde::Deserialize)]
struct ObjectName {
    name: String,
}
