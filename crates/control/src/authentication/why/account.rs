//! Clients that are not connected, and would be admitted: how they went, or that they never came;
//! and what was removed from the tables.

use crate::event_kind::EventKind;

use super::facts::{AdmissionFacts, InFile};
use super::nameless::{perhaps_tried, with_nameless};
use super::names::{with_namesakes, with_near_refused};
use crate::cause::{Bearing, Cause};
use crate::presence::with_will;
use crate::rfc3339;
use crate::shared_registry::Deleted;
use crate::why::{Asked, Finding, Side, is_of_packets};

/// The client is not in the tables any more, or its team is not.
pub(super) fn removed(facts: &AdmissionFacts, deleted: &Deleted) -> Finding {
    let (with_team, remedy) = match (&deleted.team, &deleted.command) {
        (Some((name, true)), _) => (
            format!(" with its team {name}, which was deleted"),
            format!("restore the team {name}, which also restores it"),
        ),
        (Some((name, false)), _) => (
            format!(", and its team {name} was deleted later"),
            format!("restore the team {name} first, then it"),
        ),
        (None, Some(_)) => (String::new(), "restore it".to_owned()),
        (None, None) => (
            String::new(),
            "it cannot be restored: add it again".to_owned(),
        ),
    };
    let whose = match &deleted.user {
        Some(user) => format!("its user {user}: "),
        None => String::new(),
    };
    let (kept, or_purge) = match &facts.in_file {
        Some(InFile { path, purge, .. }) => (
            format!(
                "; the tables keep its name, so the one in the password file {path} is not used"
            ),
            format!(
                "for the one in the password file, remove the name from the tables ({}); else ",
                purge.as_deref().unwrap_or_default()
            ),
        ),
        None => Default::default(),
    };
    let sentence = format!("{whose}it was removed from the registry{with_team}{kept}");
    let remedy = or_purge + &remedy;
    Finding::advised(Cause::Deleted, sentence, &remedy, &deleted.command).since(deleted.at_ms)
}

/// The listener by which it connected is closed.
pub(super) fn closed_listener(asked: &Asked, facts: &AdmissionFacts) -> Option<Finding> {
    let presence = asked
        .presence
        .as_ref()
        .filter(|presence| !presence.online)?;
    let listener = &presence.listener_url;
    if listener.is_empty() || facts.listeners.is_empty() || facts.listeners.contains(listener) {
        return None;
    }
    let sentence = format!(
        "it connected to {listener} before, and the node no longer listens there: it listens on {}",
        facts.listeners.join(", ")
    );
    let finding = Finding::new(Cause::ListenerClosed, sentence).since(presence.since_ms);
    Some(finding.remedy(
        "listen there again (--listen, [[listeners]]), or have the client connect where the node \
         listens",
    ))
}

/// Where the node listens, in words, and what follows if that is on loopback alone.
pub(super) fn listens(facts: &AdmissionFacts) -> String {
    let listeners = facts.listeners.join(", ");
    let far = match facts.is_for_this_machine() {
        true => {
            ": only this machine reaches the node; to let others in, listen on an address of its \
             network (--listen mqtt://ADDRESS:1883)"
        }
        false => "",
    };
    format!("the node listens on {listeners}{far}")
}

/// The client is not connected, and would be admitted.
pub(super) fn away(asked: &Asked, facts: &AdmissionFacts) -> Option<(Bearing, Finding)> {
    let listens = listens(facts);
    let mut runs = asked.runs.iter().rev();
    if let Some(run) = runs.find(|run| run.last.what == EventKind::Disconnected) {
        let cause = run.cause.unwrap_or(Cause::Away);
        let mut finding = Finding::of_run(run, cause).since(run.last.at_ms);
        let why = run.last.why.as_deref().unwrap_or_default();
        finding.sentence = match cause {
            Cause::Away => format!("it is not connected: {why}, and it has not connected again"),
            _ => format!("its connection was ended: {why}"),
        };
        // A topic was asked about that it publishes to: the cause is what it has published, not
        // the receivers.
        let is_asked = asked.question.topic.is_some() && asked.side != Side::Receiver;
        let bearing = match cause {
            Cause::Away => Bearing::Left,
            _ if is_asked && asked.is_recent(run.last.at_ms) && is_of_packets(run) => {
                Bearing::Topic
            }
            _ => Bearing::Ended,
        };
        let finding = with_will(asked, &facts.will, with_namesakes(asked, facts, finding));
        return Some(perhaps_tried(asked, facts, bearing, finding));
    }
    // An HTTP request is no try.
    let has_tried = asked.runs.iter().any(|run| {
        let what = run.last.what;
        !matches!(
            what,
            EventKind::ProvisioningRefused | EventKind::RequestRefused
        )
    });
    let left = |sentence: &str| Finding::new(Cause::Away, sentence);
    match (&asked.presence, &asked.registered_as, asked.last_seen_ms) {
        (Some(presence), ..) if !presence.online => {
            let why = match &*presence.why {
                "" => "its connection ended",
                why => why,
            };
            let sentence = format!("it is not connected: {why}, and it has not connected again");
            let finding = with_will(asked, &facts.will, left(&sentence).since(presence.since_ms));
            Some(perhaps_tried(asked, facts, Bearing::Left, finding))
        }
        // The tables of a restarted node show no client as connected since its start.
        (Some(presence), ..) if !has_tried => {
            let sentence = "it was connected when the backup was made that the node was restored \
                            from, and has not connected since";
            let finding = left(sentence)
                .since(presence.last_seen_ms)
                .remedy(format!("check that it connects to this node: {listens}"));
            Some((Bearing::Left, finding))
        }
        _ if asked.session.is_some() => {
            let sentence = "it is not connected; its session is kept for it";
            Some((Bearing::Left, left(sentence)))
        }
        (_, Some(_), Some(seen_ms)) if !has_tried => {
            let sentence = format!(
                "it is not connected by MQTT; the last contact with the device was on {}",
                rfc3339::in_words(seen_ms)
            );
            Some((Bearing::Left, left(&sentence).since(seen_ms)))
        }
        (_, Some(what), _) if !has_tried => {
            let sentence = format!(
                "the {what} {} exists, and has neither connected nor tried to",
                asked.question.name
            );
            let finding = Finding::new(Cause::NeverConnected, sentence).remedy(format!(
                "check that it has the node's address and its credential: {listens}"
            ));
            let finding = with_nameless(asked, facts, finding);
            Some((Bearing::Happened, with_near_refused(asked, facts, finding)))
        }
        _ => None,
    }
}
