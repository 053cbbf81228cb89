//! A provisioning key that was asked about by name.

use super::facts::NamedProvisioningKey;
use crate::cause::Cause;
use crate::journal::Entry;
use crate::rfc3339;
use crate::why::{Finding, RECENT_MS, devices_in_words};

/// How a key is that was not revoked, and what was last refused with it.
pub(super) fn of_named(now_ms: u64, key: &NamedProvisioningKey) -> Finding {
    let name = &key.name;
    let what = format!("{name} is a provisioning key, by which devices are added, and no client");
    let about = about(key);
    let ended = |sentence: String, at_ms: u64| {
        Finding::new(Cause::ProvisioningKeyEnded, sentence)
            .since(at_ms)
            .remedy(
                "add another key (martlet provision add), and give it to the devices; to list \
                 them, run",
            )
            .command(&key.list)
    };
    if let Some(at_ms) = key.revoked_ms {
        let at = rfc3339::in_words(at_ms);
        return ended(format!("{what}; it was revoked on {at} ({about})"), at_ms);
    }
    if let Some(at_ms) = key.expires_ms.filter(|at_ms| *at_ms <= now_ms) {
        let at = rfc3339::in_words(at_ms);
        return ended(format!("{what}; it expired on {at} ({about})"), at_ms);
    }
    let Some(refused) = &key.refused else {
        return Finding::new(Cause::NothingWrong, format!("{what}; {about}"));
    };
    let is_recent = now_ms.saturating_sub(refused.at_ms) <= RECENT_MS;
    let sentence = format!("{what}; {} ({about})", last_refused(refused));
    let cause = match is_recent {
        true => refused.cause.unwrap_or(Cause::Other),
        false => Cause::NothingWrong,
    };
    let mut finding = Finding::new(cause, sentence).at(refused.at_ms);
    if is_recent {
        finding.remedy.clone_from(&refused.remedy);
        finding.command.clone_from(&refused.command);
    }
    finding
}

/// Describes what was last refused with the key.
fn last_refused(refused: &Entry) -> String {
    let who = match &*refused.client_id {
        "" => "a device without an id".to_owned(),
        id => format!("the device {id}"),
    };
    let from = refused.address.as_ref();
    let from = from.map_or_else(String::new, |address| format!(", from {address}"));
    let why = refused.why.as_deref().unwrap_or("it was refused");
    format!("with it, {who} was rejected last{from}: {why}")
}

/// Describes what the key adds, and what it has added.
fn about(key: &NamedProvisioningKey) -> String {
    let ids = match &*key.id_pattern {
        "" => String::new(),
        pattern => format!(" whose ids match {pattern}"),
    };
    let max = match key.devices_max {
        0 => String::new(),
        max => format!(" of {max}"),
    };
    format!(
        "it is for devices of the type {}{ids}; it has added {}{max}",
        key.device_type,
        devices_in_words(key.devices_made)
    )
}
