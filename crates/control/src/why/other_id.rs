//! Clients and devices of another tenant or with another id than the one that was asked about,
//! which may be meant.

use super::Finding;
use super::facts::{Facts, RefusedElsewhere};
use super::found::RECENT_MS;
use crate::cause::Cause;
use crate::journal::Entry;

/// The Client Identifier is that of a client that was refused in another tenant.
pub(super) fn of_refused_elsewhere(name: &str, refused: &RefusedElsewhere) -> Finding {
    let RefusedElsewhere { run, tenant, near } = refused;
    let finding = Finding::of_run(run, run.cause.unwrap_or(Cause::Other));
    let sentence = format!(
        "a client with the Client Identifier {name} was refused in {tenant}: {}",
        finding.sentence
    );
    meant(
        near.iter().map(String::as_str),
        Finding {
            sentence,
            ..finding
        },
    )
}

/// With the names that may be meant, if there are some.
pub(super) fn meant<'a>(near: impl Iterator<Item = &'a str>, mut finding: Finding) -> Finding {
    let near: Vec<&str> = near.collect();
    if near.is_empty() {
        return finding;
    }
    let remedy = finding.remedy.take();
    let other = remedy.map_or_else(String::new, |remedy| format!(" Else {remedy}"));
    finding.remedy(format!("did you mean {}?{other}", near.join(", ")))
}

/// With the client that was refused with nearly the id of the device.
pub(super) fn with_near_refused(facts: &Facts, mut finding: Finding) -> Finding {
    let is_recent = |entry: &&Entry| facts.now_ms.saturating_sub(entry.at_ms) <= RECENT_MS;
    if let Some(entry) = facts.near_refused.as_ref().filter(is_recent) {
        let (name, client_id) = (&facts.question.name, &entry.client_id);
        let why = entry.why.as_deref().unwrap_or_default();
        finding.sentence.push_str(&format!(
            "; a client with the Client Identifier {client_id} was refused: {why}"
        ));
        finding.last_ms = Some(entry.at_ms);
        let otherwise = finding.remedy.take();
        let otherwise = otherwise.map_or_else(String::new, |other| format!(". Else {other}"));
        return finding.remedy(format!(
            "if that is the device, set its Client Identifier to {name}{otherwise}"
        ));
    }
    finding
}

/// The name is that of a device of another tenant, which comes with one of these User Names.
pub(super) fn of_other_tenant(mut finding: Finding, name: &str, user_names: &[String]) -> Finding {
    let names = user_names.join(" or ");
    finding.command = None;
    finding.sentence.push_str(&format!(
        "; the device {name} belongs to another tenant, where its User Name is {names}"
    ));
    finding.remedy(format!(
        "the device {name} belongs to another tenant: set the User Name of the client to {names} \
         (its Client Identifier stays {name})"
    ))
}
