//! Messages that wait in another session of the same user: the client came with another Client
//! Identifier than before.

use super::Finding;
use super::facts::{Facts, OtherSession, Session};
use super::found::{Bearing, CLOCKS_DIFFER_MS, messages_wait};
use super::near::matches;
use crate::cause::Cause;

/// What there is to find.
pub(super) fn other_session(facts: &Facts) -> Option<(Bearing, Finding)> {
    let session = facts.session.as_ref().filter(|one| one.connected)?;
    let mut others = facts.other_sessions.iter();
    let other = others.find(|other| took_its_place(facts, session, other))?;
    let OtherSession {
        client_id, queued, ..
    } = other;
    let wait = messages_wait(*queued);
    let sentence = format!(
        "{wait} in the session {client_id} of the same user, which is not connected: the Client \
         Identifier of this client is {}",
        facts.client_id
    );
    let mut finding = Finding::new(Cause::OtherSession, sentence).last(facts.now_ms);
    finding.since_ms = other.left_ms;
    let finding = finding.remedy(format!(
        "have the client connect with the Client Identifier {client_id}, and with the same one each \
         time"
    ));
    let bearing = match facts.question.topic {
        Some(_) => Bearing::Topic,
        None => Bearing::Happened,
    };
    Some((bearing, finding))
}

/// The client came after the other session lost its connection, and has, or wanted to have, its
/// subscriptions.
fn took_its_place(facts: &Facts, session: &Session, other: &OtherSession) -> bool {
    let came_ms = session.since_ms.unwrap_or_default();
    let is_later = other
        .left_ms
        .is_some_and(|left_ms| left_ms <= came_ms.saturating_add(CLOCKS_DIFFER_MS));
    let own = &session.subscriptions;
    let is_same = |filter: &String| own.iter().any(|(of, _)| of == filter);
    let wants = own.is_empty() && !session.clean_start;
    let mut filters = other.filters.iter();
    let is_asked = match &facts.question.topic {
        Some(topic) => other.filters.iter().any(|filter| matches(filter, topic)),
        None => true,
    };
    is_later && is_asked && (wants || filters.any(is_same))
}
