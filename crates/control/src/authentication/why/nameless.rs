//! Refusals of clients that sent no name, which may be this one, and refusals from an address.

use martlet_broker::TlsFault;

use super::credential;
use super::facts::AdmissionFacts;
use super::names::of_other_tenant;
use crate::cause::{Bearing, Cause};
use crate::event_kind::EventKind;
use crate::journal::{Entry, host};
use crate::why::{Asked, Finding, Found};

/// Time in which the refusal of a client without a name is taken for one of this client.
const GUESSED_MS: u64 = 5 * 60 * 1_000;

/// The client has ended its connection after the TLS handshake, as the probe of a load balancer
/// does: nothing is guessed from that about a client that was there before.
fn may_be_probe(nameless: &Entry) -> bool {
    nameless.why.as_deref() == Some(TlsFault::LeftAfterHandshake.text())
}

/// The last refusal of a client without a name, of those that are no probes.
fn last(facts: &AdmissionFacts) -> Option<&Entry> {
    let mut latest = facts.nameless.iter().rev();
    latest.find(|entry| !may_be_probe(entry))
}

/// A refused client without a name came after everything that is known of this one.
pub(super) fn is_newer(asked: &Asked, nameless: &Entry) -> bool {
    let is_since = |at_ms: u64| at_ms > nameless.at_ms;
    let presence = asked.presence.as_ref();
    let was_seen =
        presence.is_some_and(|presence| is_since(presence.last_seen_ms.max(presence.since_ms)));
    !was_seen && !asked.runs.iter().any(|run| is_since(run.last.at_ms))
}

/// A client without a name was refused at the last address of this one, and no refusal of this one
/// is known: that is a guess, never the diagnosis.
pub(super) fn perhaps(asked: &Asked, facts: &AdmissionFacts) -> Option<Finding> {
    let nameless = last(facts)?;
    if !asked.was_seen() || !is_newer(asked, nameless) || is_refused_by_tls(asked, facts) {
        return None;
    }
    let address = nameless.address.as_deref().and_then(host);
    let (why, remedy) = credential::in_words(facts, nameless);
    let sentence = format!(
        "perhaps: another client at {}, the last address of this client, was refused: {why}; it \
         sent no name, so it may be this client or another one",
        address.unwrap_or_default()
    );
    let of_same = facts
        .nameless
        .iter()
        .filter(|one| one.cause == nameless.cause);
    Some(Finding {
        is_guess: true,
        count: Some(of_same.clone().count() as u64),
        since_ms: of_same.map(|one| one.at_ms).min(),
        last_ms: Some(nameless.at_ms),
        remedy: remedy.map(|remedy| format!("if it is this client: {remedy}")),
        ..Finding::new(nameless.cause.unwrap_or(Cause::Other), sentence)
    })
}

/// Adds to how a client went that it may be the one that TLS refused since then: a refusal by TLS
/// has no name.
pub(super) fn perhaps_tried(
    asked: &Asked,
    facts: &AdmissionFacts,
    bearing: Bearing,
    mut finding: Finding,
) -> (Bearing, Finding) {
    if !is_refused_by_tls(asked, facts) {
        return (bearing, finding);
    }
    if finding.cause != Cause::Away {
        finding
            .sentence
            .push_str(", and it has not connected again");
    }
    let bearing = match bearing {
        Bearing::Left => Bearing::Ended,
        bearing => bearing,
    };
    (bearing, with_nameless(asked, facts, finding))
}

/// The last refusal of a client without a name where this one came from was by TLS, this one uses
/// TLS, and it was after all that is known of it.
fn is_refused_by_tls(asked: &Asked, facts: &AdmissionFacts) -> bool {
    let uses_tls = asked.presence.as_ref().is_some_and(|presence| {
        let listener = &presence.listener_url;
        listener.starts_with("mqtts:") || listener.starts_with("wss:")
    });
    uses_tls
        && last(facts).is_some_and(|last| {
            let is_by_tls = last.cause.is_some_and(Cause::is_of_tls);
            asked.is_recent(last.at_ms) && is_by_tls && is_newer(asked, last)
        })
}

/// Adds the last refusal of a client without a name: a client that is refused by TLS, by WebSocket
/// or for its first bytes has not sent its name yet.
pub(super) fn with_nameless(
    asked: &Asked,
    facts: &AdmissionFacts,
    mut finding: Finding,
) -> Finding {
    let is_recent = |entry: &&Entry| asked.now_ms.saturating_sub(entry.at_ms) <= GUESSED_MS;
    let mut recent: Vec<&Entry> = facts.nameless.iter().rev().filter(is_recent).collect();
    if recent.iter().any(|entry| !may_be_probe(entry)) {
        recent.retain(|entry| !may_be_probe(entry));
    }
    let Some((entry, others)) = recent.split_first() else {
        return finding;
    };
    let address = entry.address.as_deref().and_then(host).unwrap_or_default();
    // It may be any of several.
    let mut others = others.iter();
    if others.any(|other| other.address.as_deref().and_then(host) != Some(address)) {
        return finding;
    }
    let (why, remedy) = credential::in_words(facts, entry);
    finding.sentence.push_str(&format!(
        " under its name; perhaps it is the client without a name at {address} that was refused: {why}"
    ));
    finding.last_ms = Some(entry.at_ms);
    match remedy {
        Some(remedy) => finding.try_first(&format!("if it is that client: {remedy}")),
        None => finding,
    }
}

/// Refusals to clients without a name, from the last address of this one, since its last
/// event, as evidence. Nothing is guessed about a connected client.
pub(super) fn seen(asked: &Asked, facts: &AdmissionFacts) -> Vec<(u64, String)> {
    let nameless = facts.nameless.iter().rev().filter(|entry| {
        !asked.is_connected
            && asked.is_recent(entry.at_ms)
            && is_newer(asked, entry)
            && !(asked.was_seen() && may_be_probe(entry))
    });
    let perhaps = nameless.take(3).map(|entry| {
        let text = format!(
            "perhaps: {} of a client without a name at {}, which may be a stranger: {}",
            entry.what_name(),
            entry.address.as_deref().unwrap_or_default(),
            entry.why.as_deref().unwrap_or_default()
        );
        (entry.at_ms, text)
    });
    perhaps.collect()
}

/// The question names an address: the refusals of connections from it.
pub(super) fn from_address(facts: &AdmissionFacts, found: &mut Found) {
    let Some(refused) = &facts.from_address else {
        return;
    };
    // Refusals of one client for one reason are one finding.
    for entry in refused.iter().rev() {
        let is_request = entry.what == EventKind::RequestRefused;
        let who = match (&*entry.client_id, entry.user_name.as_deref()) {
            ("", None) if is_request => "an HTTP request".to_owned(),
            (client_id, _) if is_request => format!("an HTTP request of {client_id}"),
            ("", None) => "a client without a name".to_owned(),
            ("", Some(user)) => format!("a client with the User Name {user}"),
            (client_id, _) => format!("the client {client_id}"),
        };
        let (why, remedy) = credential::in_words(facts, entry);
        let mut finding = Finding::new(
            entry.cause.unwrap_or(Cause::Other),
            format!("{who} was refused: {why}"),
        );
        finding = finding.at(entry.at_ms).of_many(1);
        let bearing = match facts.lifted.contains(&entry.seq) {
            true => {
                let over = "; that is over, and it has not tried again from there";
                finding.sentence.push_str(over);
                finding.cause = Cause::Away;
                finding = finding.remedy("have the client connect again");
                Bearing::Left
            }
            false => {
                (finding.remedy, finding.command) = (remedy, entry.command.clone());
                let mut elsewhere = facts.of_other_tenants.iter();
                let elsewhere = elsewhere.find(|(seq, _)| *seq == entry.seq);
                if let Some(((_, names), user)) = elsewhere.zip(entry.user_name.as_deref()) {
                    finding = of_other_tenant(finding, user, names);
                }
                Bearing::Refused
            }
        };
        let is_same = |(_, known): &&mut (Bearing, Finding)| {
            known.cause == finding.cause && known.sentence == finding.sentence
        };
        match found.iter_mut().find(is_same) {
            Some((_, known)) => known.add(&finding),
            None => found.push((bearing, finding)),
        }
    }
}
